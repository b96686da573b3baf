"""One contract for reality, reality through V and M, and the dream."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from worldmodels.artifacts import Bundle
from worldmodels.envs.dream import make_dream
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.real import RealEnvs
from worldmodels.envs.registered import reality
from worldmodels.errors import InputError

LANES, STEPS, COST = 2, 4, -0.5
DISABLED, NEXT_STEP = AutoresetMode.DISABLED, AutoresetMode.NEXT_STEP


@pytest.fixture(params=["real", "features", "dream", "registered reality"])
def make(request, tiny_bundle):
    """Makes two lanes whose episodes are truncated after four steps, and whose time costs."""
    bundle = Bundle.load(tiny_bundle)
    frames = STEPS * bundle.world.config.action_repeat
    costs = {"reward": "constant", "reward_per_frame": COST / bundle.world.config.action_repeat}
    config = replace(bundle.world.config, max_episode_steps=frames, **costs)
    world = replace(bundle.world, config=config)
    bundle = replace(bundle, world=world)
    made = []

    def build(mode=NEXT_STEP):
        if request.param == "dream":
            env = make_dream(LANES, bundle=bundle, horizon=STEPS, autoreset_mode=mode)
        elif request.param == "registered reality":
            env = reality(LANES, bundle=bundle, autoreset_mode=mode)
        else:
            env = RealEnvs(world, LANES, autoreset_mode=mode)
        if request.param == "features":
            env = FeatureEnv(env, bundle.vae, bundle.mdnrnn, bundle.actions, "zh")
        made.append(env)
        return env

    yield build
    for env in made:
        env.close()


def actions_for(env, steps=STEPS):
    env.action_space.seed(0)
    return [env.action_space.sample() for _ in range(steps)]


def play(env, actions):
    return np.stack([env.step(action)[0] for action in actions])


def test_spaces_dtypes_and_five_returns(make):
    env = make()
    assert isinstance(env, VectorEnv)
    assert env.num_envs == LANES
    assert env.metadata["autoreset_mode"] == NEXT_STEP
    observations, infos = env.reset(seed=1)
    assert isinstance(infos, dict)
    for action in actions_for(env):
        assert action in env.action_space
        assert observations in env.observation_space
        assert all(observations[lane] in env.single_observation_space for lane in range(LANES))
        before = observations.copy()
        following, rewards, terminated, truncated, infos = env.step(action)
        np.testing.assert_array_equal(observations, before)  # what was handed out stays
        assert (rewards.shape, rewards.dtype) == ((LANES,), np.float64)
        for flags in (terminated, truncated):
            assert (flags.shape, flags.dtype) == ((LANES,), bool)
        assert isinstance(infos, dict)
        observations = following
    assert truncated.all()
    assert not terminated.any()


def test_seeds_decide_everything(make):
    env = make()
    actions = actions_for(env)
    runs = []
    for seed in (3, [3, 4], 5):
        begin, _ = env.reset(seed=seed)
        runs.append(np.concatenate([begin[None], play(env, actions)]))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][-1] != runs[2][-1]).any()


def test_equal_seeds_are_equal_lanes(make):
    env = make()
    env.reset(seed=[3, 3])
    actions = [np.stack([action[0]] * LANES) for action in actions_for(env)]
    seen = play(env, actions).astype(float)
    np.testing.assert_allclose(seen[:, 0], seen[:, 1], rtol=1e-4, atol=1e-5)


def test_the_next_episode_is_another_one_and_follows_from_the_seed(make):
    env = make()
    actions = actions_for(env, 2)
    runs = []
    for _ in range(2):
        env.reset(seed=3)
        first = play(env, actions)
        env.reset()
        runs.append(play(env, actions))
    np.testing.assert_array_equal(*runs)
    assert (runs[0] != first).any()


def test_next_step_resets_in_the_step_after_the_end(make):
    env, other = make(NEXT_STEP), make(DISABLED)
    actions = actions_for(env, STEPS + 2)
    for e in (env, other):
        e.reset(seed=3)
        play(e, actions[:STEPS])
    begin, rewards, terminated, truncated, _ = env.step(actions[STEPS])
    assert not rewards.any()
    assert not (terminated | truncated).any()
    np.testing.assert_array_equal(begin, other.reset()[0])
    np.testing.assert_array_equal(env.step(actions[-1])[0], other.step(actions[-1])[0])


def test_disabled_freezes_until_a_reset_with_a_mask(make):
    env = make(DISABLED)
    actions = actions_for(env)
    env.reset(seed=[3, 4])
    second = play(env, actions[:2])[:, 1]
    env.reset(seed=[3, 4])
    last = play(env, actions)[-1]
    for action in actions[:2]:
        observations, rewards, terminated, truncated, _ = env.step(action)
        np.testing.assert_array_equal(observations, last)
        assert not rewards.any()
        assert truncated.all()
        assert not terminated.any()
    options = {"reset_mask": np.array([False, True])}
    begin, _ = env.reset(seed=[99, 4], options=options)
    assert list(options) == ["reset_mask"]
    assert options["reset_mask"].tolist() == [False, True]
    np.testing.assert_array_equal(begin[0], last[0])  # its seed is ignored
    for action, expected in zip(actions[:2], second, strict=True):
        observations, rewards, terminated, truncated, _ = env.step(action)
        np.testing.assert_array_equal(observations[0], last[0])
        np.testing.assert_allclose(observations[1], expected, rtol=1e-4, atol=1e-5)
        assert rewards[0] == 0.0
        assert truncated.tolist() == [True, False]


def test_wrong_seeds_masks_and_modes_are_refused(make):
    env = make()
    with pytest.raises(ValueError, match="3 seeds for 2"):
        env.reset(seed=[1, 2, 3])
    for seeds in (-1, [0, -1]):
        with pytest.raises(InputError, match="is not a whole number from 0"):
            env.reset(seed=seeds)
    for mask in (np.ones(3, bool), np.ones(2)):
        with pytest.raises(ValueError, match="reset_mask"):
            env.reset(options={"reset_mask": mask})
    with pytest.raises(InputError, match="SAME_STEP"):
        make(AutoresetMode.SAME_STEP)


def test_closes_once(make):
    env = make()
    env.reset(seed=0)
    env.close()
    env.close()
    assert env.closed


def test_retired_lanes_are_frozen_until_a_reset(make):
    env = make(DISABLED)
    actions = actions_for(env)
    env.reset(seed=[3, 4])
    expected = play(env, actions)
    env.reset(seed=[3, 4])
    before = env.step(actions[0])[0]
    assert env.retire(np.array([True, False])).tolist() == [COST * (STEPS - 1), 0.0]
    for action, others in zip(actions[1:], expected[1:], strict=True):
        observations, rewards, terminated, truncated, _ = env.step(action)
        np.testing.assert_array_equal(observations[0], before[0])
        np.testing.assert_allclose(observations[1], others[1], rtol=1e-4, atol=1e-5)
        assert rewards[0] == 0.0
        assert truncated[0]
        assert not terminated.any()
    again, _ = env.reset(seed=[3, 4])
    np.testing.assert_allclose(env.step(actions[0])[0], expected[0], rtol=1e-4, atol=1e-5)
    assert again in env.observation_space
