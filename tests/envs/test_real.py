"""Real environments: what a step of several frames adds up to, and which pictures are shown."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from worldmodels.envs.real import RealEnvs, describe, make_env
from worldmodels.errors import InputError
from worldmodels.world import EnvConfig, RawPicture

CAR = {
    "id": "CarRacing-v3",
    "training_id": "worldmodels/CarRacing-v3",
    "crop": (0, 84, 0, 96),
    "reward": "count",
    "count_attribute": "tile_visited_count",
}


class Picture(gymnasium.Env):
    """Noise of any shape and dtype, rendered as told; `drawing` is an attribute of its own."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(
        self, shape=(70, 90, 3), dtype=np.uint8, fails=None, rendering=None, render_mode=None
    ):
        if fails is not None:
            raise fails
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, dtype)
        self.rendering, self.render_mode = rendering, render_mode
        self.drawing, self.held = "a pencil", []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._noise(), {}

    def step(self, action):
        self.held.append(action)
        return self._noise(), 1.0, False, False, {}

    def hold(self, action, frames):
        raise NotImplementedError

    def render(self):
        if isinstance(self.rendering, Exception):
            raise self.rendering
        return self.rendering

    def _noise(self):
        shape, dtype = self.observation_space.shape, self.observation_space.dtype
        return self.np_random.integers(0, 256, shape).astype(dtype)


class Scarce(Picture):
    """Two can be open at once."""

    left = 2

    def __init__(self):
        if not Scarce.left:
            raise ValueError("no more")
        super().__init__()
        Scarce.left -= 1

    def close(self):
        Scarce.left += 1


gymnasium.register("tests/Picture-v0", Picture)
gymnasium.register("tests/Scarce-v0", Scarce)


def car(repeat, **options):
    world = describe(EnvConfig(**CAR, action_repeat=repeat))
    return RealEnvs(world, 1, autoreset_mode=AutoresetMode.DISABLED, **options)


def test_a_held_action_is_its_frames_together():
    gas = np.float32([[0.0, 0.5, 0.0]])
    held, single = car(4), car(1)
    for env in (held, single):
        env.reset(seed=[3])
    for _ in range(6):
        frames, rewards, *_, infos = held.step(gas)
        steps = [single.step(gas) for _ in range(4)]
        assert rewards[0] == pytest.approx(sum(step[1][0] for step in steps))
        assert infos["count"][0] == sum(step[-1]["count"][0] for step in steps)
        np.testing.assert_array_equal(frames, steps[-1][0])
    held.close(), single.close()


def test_the_last_picture_is_drawn_where_an_episode_ends_within_a_held_action():
    world = describe(EnvConfig(**CAR, action_repeat=4, max_episode_steps=6))
    env = RealEnvs(world, 1, autoreset_mode=AutoresetMode.DISABLED)
    single = RealEnvs(
        describe(EnvConfig(**CAR, max_episode_steps=6)), 1, autoreset_mode=AutoresetMode.DISABLED
    )
    gas = np.float32([[0.0, 1.0, 0.0]])
    for each in (env, single):
        each.reset(seed=[1])
    held = [env.step(gas) for _ in range(2)][-1]
    last = [single.step(gas) for _ in range(6)][-1]
    assert held[3][0]
    np.testing.assert_array_equal(held[0], last[0])
    env.close(), single.close()


def test_worlds_without_pictures_are_rendered():
    world = describe(EnvConfig(id="CartPole-v1"))
    env = RealEnvs(world, 2)
    frames, _ = env.reset(seed=0)
    assert frames.shape == (2, 64, 64, 3)
    assert frames.std() > 0
    assert world.action["kind"] == "discrete"
    env.close()


@pytest.mark.parametrize(
    "config",
    [
        EnvConfig(id="NoSuchWorld-v0"),
        EnvConfig(id="CartPole-v1", kwargs={"no_such": 1}),
        EnvConfig(id="CartPole-v1", reward="count", count_attribute="no_such"),
        EnvConfig(id="CartPole-v1", action="thirds"),
        EnvConfig(id="no_such_module:World-v0"),
        EnvConfig(id="VizdoomTakeCover-v1", max_episode_steps=100),
        EnvConfig(id="CarRacing-v3", screen="screen"),
        EnvConfig(id="CarRacing-v3", crop=(0, 84, 0, 97)),
        EnvConfig(id="tests/Picture-v0", kwargs={"fails": ImportError("libGL.so\nis missing")}),
        EnvConfig(id="tests/Picture-v0", kwargs={"fails": FileNotFoundError("game.wad")}),
        EnvConfig(id="tests/Picture-v0", kwargs={"fails": AssertionError()}),
        EnvConfig(id="tests/Picture-v0", kwargs={"shape": (84, 84, 2)}),
        EnvConfig(id="tests/Picture-v0", kwargs={"shape": (4,), "rendering": None}),
        EnvConfig(id="tests/Picture-v0", kwargs={"shape": (4,), "rendering": [1]}),
        EnvConfig(id="tests/Picture-v0", kwargs={"shape": (4,), "rendering": OSError("no GPU")}),
    ],
)
def test_what_cannot_be_made_is_named(config):
    with pytest.raises(InputError, match=r"^env\.") as caught:
        describe(config)
    assert "\n" not in str(caught.value)


def test_an_id_may_name_its_module(tmp_path, monkeypatch):
    (tmp_path / "its_module.py").write_text("import gymnasium.envs.classic_control\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WORLDMODELS_TRUST_ENV", "its_module")
    env = make_env(EnvConfig(id="its_module:CartPole-v1"), official=True)
    assert env.spec.id == "CartPole-v1"
    env.close()


@pytest.mark.parametrize("shape", [(84, 90), (84, 90, 1), (84, 90, 3)])
def test_grey_and_coloured_observations_are_pictures(shape):
    world = describe(EnvConfig(id="tests/Picture-v0", kwargs={"shape": shape}))
    assert world.picture == RawPicture(shape, layout="HWC" if len(shape) == 3 else "HW")
    env = RealEnvs(world, 2)
    frames, _ = env.reset(seed=0)
    assert frames.std() > 9
    assert (frames[0] != frames[1]).any()
    env.close()


def test_pictures_of_another_shape_than_collects_are_refused():
    world = describe(EnvConfig(id="tests/Picture-v0"))
    larger = replace(world.config, kwargs={"shape": (140, 180, 3)})
    env = RealEnvs(replace(world, config=larger), 1)
    with pytest.raises(InputError, match=r"uint8 \(140, 180, 3\), but .* uint8 \(70, 90, 3\)"):
        env.reset(seed=0)
    env.close()


def test_abilities_count_only_where_they_are_declared():
    env = RealEnvs(describe(EnvConfig(id="tests/Picture-v0", action_repeat=3)), 1)
    env.reset(seed=0)
    env.step(np.array([1]))
    assert env.envs[0].unwrapped.drawing == "a pencil"
    assert env.envs[0].unwrapped.held == [1, 1, 1]
    env.close()


@pytest.mark.parametrize(
    ("id_", "actions"),
    [
        ("CartPole-v1", np.array([0])),
        ("CartPole-v1", np.array([0, 1, 1])),
        ("CartPole-v1", np.array([[0], [1]])),
        ("CartPole-v1", np.array([0.0, 1.0])),
        ("CartPole-v1", np.array([0, 2])),
        ("CartPole-v1", np.array([0, -1])),
        ("CartPole-v1", None),
        ("CartPole-v1", [[0], [0, 1]]),
        ("CartPole-v1", ["left", "right"]),
        ("worldmodels/CarRacing-v3", np.zeros((1, 3), np.float32)),
        ("worldmodels/CarRacing-v3", np.zeros((2, 2), np.float32)),
        ("worldmodels/CarRacing-v3", np.array([[0, 0, 0], [0, np.nan, 0]])),
        ("worldmodels/CarRacing-v3", np.zeros((2, 3), complex)),
    ],
    ids=str,
)
def test_wrong_actions_are_refused_before_any_lane_is_stepped(id_, actions):
    env = RealEnvs(describe(EnvConfig(id=id_)), 2)
    frames, _ = env.reset(seed=0)
    with pytest.raises(InputError, match=r"^actions ") as caught:
        env.step(actions)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(env.frames, frames)
    env.close()


def test_environments_are_closed_where_a_later_one_cannot_be_made():
    world = describe(EnvConfig(id="tests/Scarce-v0"))
    with pytest.raises(InputError, match="no more"):
        RealEnvs(world, 3)
    assert Scarce.left == 2


def test_same_step_is_not_offered():
    with pytest.raises(InputError, match="SAME_STEP"):
        RealEnvs(describe(EnvConfig(id="CartPole-v1")), 1, autoreset_mode=AutoresetMode.SAME_STEP)


def test_booleans_are_choices():
    env = RealEnvs(describe(EnvConfig(id="CartPole-v1")), 2)
    env.reset(seed=0)
    frames = env.step([1, 0])[0]
    env.reset(seed=0)
    np.testing.assert_array_equal(env.step([True, False])[0], frames)
    env.close()


@pytest.mark.parametrize("number", [0, -1, 1.5, "two"])
def test_at_least_one_environment_is_needed(no_type_checks, number):
    with pytest.raises(InputError, match=f"num_envs is {number!r}"):
        RealEnvs(describe(EnvConfig(id="CartPole-v1")), number)


def test_the_space_is_read_from_the_official_environment():
    env = gymnasium.make("CarRacing-v3")
    assert describe(EnvConfig(**CAR)).action["high"] == tuple(env.action_space.high.tolist())
    env.close()
