"""Dream and reality by their names in Gymnasium, and the two forms of actions."""

import gymnasium
import numpy as np
import pytest
import torch
import toy_world  # noqa: F401  (registers Light-v0)
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from worldmodels.artifacts import Bundle
from worldmodels.envs.real import describe
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.world import EnvConfig

DREAM, REAL = "worldmodels/Dream-v0", "worldmodels/Real-v0"


@pytest.fixture
def light(make_bundle):
    """The folder of an untrained bundle of a world of three choices."""
    return str(make_bundle(describe(EnvConfig(id="toy_world:Light-v0"))))


@pytest.mark.parametrize("name", [DREAM, REAL])
@pytest.mark.parametrize("actions", ["controller", "world"])
def test_gymnasiums_checker_is_content(light, name, actions):
    env = gymnasium.make(name, bundle=light, actions=actions, render_mode="rgb_array")
    check_env(env.unwrapped)
    env.close()


def test_the_registered_dreams_are_one(tiny_bundle):
    single = gymnasium.make(DREAM, bundle=str(tiny_bundle), horizon=4)
    many = gymnasium.make_vec(
        DREAM, num_envs=2, bundle=str(tiny_bundle), horizon=4, temperature=1.0
    )
    assert many.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    one, _ = single.reset(seed=8)
    both, _ = many.reset(seed=[3, 8])
    action = np.array([0.1, 0.5, 0.0], np.float32)
    for t in range(4):
        np.testing.assert_allclose(one, both[1], rtol=1e-4, atol=1e-5)
        one, reward, terminated, truncated, _ = single.step(action)
        both, rewards, *flags, _ = many.step(np.stack([action, action]))
        assert reward == pytest.approx(rewards[1], rel=1e-4)
        assert (terminated, truncated) == (flags[0][1], flags[1][1]) == (False, t == 3)


def test_without_seeds_all_dreams_differ(light):
    starts = [gymnasium.make(DREAM, bundle=light, inputs="z").reset()[0] for _ in range(4)]
    noises = [gymnasium.make_vec(DREAM, num_envs=4, bundle=light) for _ in range(2)]
    seen = []
    for env in noises:
        env.reset()
        seen += list(env.step(np.zeros((4, 3), np.float32))[0])
    assert len(np.unique(np.stack(seen), axis=0)) == 8
    assert len(np.unique(np.stack(starts), axis=0)) > 1  # six start windows


@pytest.mark.parametrize("name", [DREAM, REAL])
def test_a_choice_does_what_its_vector_does(light, name):
    chosen, vector = (
        gymnasium.make(name, bundle=light, actions=a) for a in ("world", "controller")
    )
    assert chosen.action_space == spaces.Discrete(3)
    np.testing.assert_array_equal(chosen.reset(seed=1)[0], vector.reset(seed=1)[0])
    for choice in (2, 0, 1, 1):
        one, other = chosen.step(choice), vector.step(np.eye(3, dtype=np.float32)[choice])
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:4] == other[1:4]


def test_the_world_pays_in_reality_and_the_observation_is_the_dreams(light):
    dream, real = (gymnasium.make(name, bundle=light, actions="world") for name in (DREAM, REAL))
    assert real.observation_space == dream.observation_space
    seen = real.reset(seed=3)[0]
    light_itself = gymnasium.make("Light-v0")
    frame = light_itself.reset(seed=3)[0]
    earned = 0.0
    for step in range(20):
        choice = step % 3
        expected = light_itself.step(choice)
        seen, reward, terminated, truncated, _ = real.step(choice)
        assert (reward, terminated, truncated) == expected[1:4]
        earned += reward
    bundle = Bundle.load(light)
    assert earned > 0
    assert truncated
    assert seen in real.observation_space
    assert real.render().shape == frame.shape == (64, 64, 3)
    z = bundle.vae.encode(torch.from_numpy(real.render()[None]))[0][0]
    np.testing.assert_allclose(seen[:4], z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Box(np.float32([-1, 0]), np.float32([1, 5])),
    ],
    ids=str,
)
def test_own_actions_have_the_environments_space(space):
    actions = Actions.of_space(space)
    assert actions.own_space == space
    own = np.stack([actions.own_space.sample() for _ in range(5)])
    np.testing.assert_array_equal(actions.to_environment(actions.from_environment(own)), own)


def test_thirds_are_three_choices():
    actions = Actions.of_space(spaces.Discrete(3), "thirds")
    assert actions.own_space == spaces.Discrete(3)


@pytest.mark.parametrize("name", [DREAM, REAL])
def test_what_is_missing_or_wrong_is_named(no_type_checks, light, name):
    def make(**options):
        return gymnasium.make_vec(name, **{"num_envs": 1, "bundle": light, **options})

    with pytest.raises(InputError, match="nowhere is not a bundle"):
        make(bundle="nowhere")
    with pytest.raises(InputError, match="SAME_STEP is not offered"):
        make(autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(InputError, match=r"inputs: .*zq"):
        make(inputs="zq")
    with pytest.raises(InputError, match="controller or world"):
        make(actions="index")
    env = make(actions="world")
    env.reset(seed=0)
    with pytest.raises(InputError, match="choices of"):
        env.step(np.array([3]))
