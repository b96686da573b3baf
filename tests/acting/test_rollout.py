"""The loop in which an agent acts: one episode per lane, and the end of hopeless ones."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from worldmodels.acting.rollout import record, rollout, steps
from worldmodels.artifacts import Bundle
from worldmodels.envs.dream import make_dream

COST = -1.87
"""Of a frame, about what a random M dreams to earn in it."""


class Script(VectorEnv):
    """Lane i is paid as row i says, and truncated at its end."""

    def __init__(self, *rows, mode=AutoresetMode.DISABLED):
        self.rows, self.num_envs = np.array(rows, float), len(rows)
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        self.step_, self.worked = 0, np.zeros(self.num_envs, int)
        self.over = np.zeros(self.num_envs, bool)
        return np.zeros((self.num_envs, 1)), {}

    def step(self, actions):
        rewards = np.where(self.over, 0.0, self.rows[:, self.step_])
        self.worked += ~self.over
        self.step_ += 1
        self.over = self.over | (self.step_ == self.rows.shape[1])
        none = np.zeros(self.num_envs, bool)
        return np.zeros((self.num_envs, 1)), rewards, none, self.over.copy(), {}

    def retire(self, lanes):
        self.over |= lanes
        return -100.0 * lanes


def play(env, **limits):
    return rollout(
        env,
        lambda observations, live: observations.astype(np.float32),
        range(env.num_envs),
        **limits,
    )


def test_counts_each_lane_to_its_end():
    env = Script([1, 2, 3, 4], [1, 1, 1, 1])
    returns, lengths = play(env)
    assert (returns.tolist(), lengths.tolist()) == ([10.0, 4.0], [4, 4])


def test_a_step_says_who_took_it_and_who_goes_on():
    env = Script([1, 2], [3, 4])
    observations, _ = env.reset()
    alone = np.array([True, False])
    taken = list(steps(env, lambda o, live: live[:, None].astype(np.float32), observations, alone))
    assert [step.took.tolist() for step in taken] == [[True, False]] * 2
    assert [step.live.tolist() for step in taken] == [[True, False], [False, False]]
    assert [step.actions[:, 0].tolist() for step in taken] == [[1.0, 0.0]] * 2
    assert [step.rewards.tolist() for step in taken] == [[1.0, 3.0], [2.0, 4.0]]


class Fading(Script):
    """Lane i shows frames as bright as row i says."""

    def reset(self, *, seed=None, options=None):
        super().reset()
        return self._frames(), {}

    def step(self, actions):
        _, *others, infos = super().step(actions)
        return (
            self._frames(),
            *others,
            {**infos, "count": np.zeros(self.num_envs), "broken": [""] * 3},
        )

    def _frames(self):
        shown = np.append(self.rows, self.rows[:, -1:], 1)[:, max(0, self.step_ - 1)]
        return np.broadcast_to(shown[:, None, None, None], (self.num_envs, 64, 64, 3)).astype("u1")


def test_a_black_picture_at_the_end_is_left_out():
    rows = [9, 9, 9], [9, 0, 9], [9, 9, 0]
    for max_steps, expected in ((9, [4, 4, 3]), (2, [3, 3, 3])):
        found = record(
            Fading(*rows), lambda o, live: np.zeros((3, 1), np.float32), range(3), max_steps
        )
        assert [len(episode.frames) for episode in found] == expected
        assert all(len(episode) == min(3, max_steps) for episode in found)


def test_patience_ends_when_the_return_has_not_risen_above_its_best():
    env = Script(
        [-1, -1, -1, 9, 0, 0, 0, 0],  # never anything: over before the 9
        [5, -1, -1, 3, -1, -1, -1, 9],  # back at 6, a new best; then nothing
        [5, -1, -1, 2, 9, 9, 9, 9],  # back at its best is no new best
        [1, 1, 1, 1, 1, 1, 1, 1],  # a survivor
        [0, 0, 1, 0, 0, 1, 0, 0],  # earns just in time
    )
    returns, lengths = play(env, patience=3)
    assert lengths.tolist() == [3, 7, 4, 8, 8]
    assert returns.tolist() == [-103.0, -97.0, -95.0, 8.0, 2.0]  # giving up costs 100 here
    np.testing.assert_array_equal(env.worked, lengths)  # who is over costs nothing


def test_endless_patience_is_none():
    rows = np.random.default_rng(0).normal(size=(5, 12))
    for one, other in zip(play(Script(*rows)), play(Script(*rows), patience=12), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_lane_ends_by_itself_whatever_its_neighbours_do(tiny_bundle):
    """In the dream: retired lanes neither move nor move others."""
    bundle = Bundle.load(tiny_bundle)
    config = replace(bundle.world.config, reward_per_frame=COST)
    bundle = replace(bundle, world=replace(bundle.world, config=config))
    settings = {"horizon": 20, "autoreset_mode": AutoresetMode.DISABLED}
    envs = [make_dream(n, bundle=bundle, **settings) for n in (8, 1)]
    drive = bundle.actions.space.high

    def policy(observations, live):
        return np.tile(drive, (len(observations), 1)) * observations[:, :1].clip(0, 1)

    returns, lengths = rollout(envs[0], policy, range(8), patience=2)
    assert len(set(lengths.tolist())) > 1
    for seed in range(8):
        alone, length = rollout(envs[1], policy, [seed], patience=2)
        assert length[0] == lengths[seed]
        assert alone[0] == pytest.approx(returns[seed], rel=1e-4, abs=1e-4)


def test_the_mode_must_be_disabled():
    with pytest.raises(ValueError, match="DISABLED"):
        play(Script([1.0], mode=AutoresetMode.NEXT_STEP))
