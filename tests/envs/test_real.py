"""Real environments: what a step of several frames adds up to, and which pictures are shown."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from worldmodels.envs.real import RealEnvs, describe, preprocess
from worldmodels.errors import InputError
from worldmodels.world import EnvConfig

CAR = {
    "id": "CarRacing-v3",
    "training_id": "worldmodels/CarRacing-v3",
    "crop": (0, 84, 0, 96),
    "reward": "count",
    "count_attribute": "tile_visited_count",
}


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


def test_pictures_are_chosen_cropped_and_resized():
    picture = np.zeros((96, 96, 3), np.uint8)
    picture[84:] = 255
    cropped = EnvConfig(screen="screen", crop=(0, 84, 0, 96))
    assert preprocess(cropped, {"screen": picture}).max() == 0
    gray = preprocess(EnvConfig(), picture[..., :1])
    assert gray.shape == (64, 64, 3)
    assert gray[0].max() == 0
    assert gray[-1].min() == 255


@pytest.mark.parametrize(
    "config",
    [
        EnvConfig(id="NoSuchWorld-v0"),
        EnvConfig(id="CartPole-v1", kwargs={"no_such": 1}),
        EnvConfig(id="CartPole-v1", reward="count", count_attribute="no_such"),
        EnvConfig(id="CartPole-v1", action="thirds"),
    ],
)
def test_what_cannot_be_made_is_named(config):
    with pytest.raises(InputError, match=r"^env\.") as caught:
        describe(config)
    assert "\n" not in str(caught.value)


def test_same_step_is_not_offered():
    with pytest.raises(InputError, match="SAME_STEP"):
        RealEnvs(describe(EnvConfig(id="CartPole-v1")), 1, autoreset_mode=AutoresetMode.SAME_STEP)


def test_the_space_is_read_from_the_official_environment():
    env = gymnasium.make("CarRacing-v3")
    assert describe(EnvConfig(**CAR)).action["high"] == tuple(env.action_space.high.tolist())
    env.close()
