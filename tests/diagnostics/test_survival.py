"""Survival and returns: curves against numbers by hand, both worlds cut at the same step."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from worldmodels.diagnostics.survival import (
    Course,
    compare,
    earned,
    follow,
    in_dreams_currency,
    limits_of,
    return_curve,
    survival_curve,
    survived,
    time_limit,
)
from worldmodels.world import EnvConfig


class Ending(VectorEnv):
    """Lane i terminates after ends[i] steps, or is truncated after cut; it pays its action."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

    def __init__(self, ends, cut=99):
        self.num_envs, self.ends, self.cut, self.now = len(ends), np.array(ends), cut, 0

    def step(self, actions):
        self.now += 1
        observations = np.full((self.num_envs, 1), self.now)
        flags = self.now >= self.ends, np.full(self.num_envs, self.now >= self.cut)
        return observations, actions, *flags, {}


def course(lengths, died, horizon):
    lengths, died = np.array(lengths), np.array(died)
    rewards = (np.arange(horizon) < lengths[:, None]).astype(float)
    return Course(rewards, lengths, died, ~died & (lengths < horizon))


def test_lanes_are_followed_to_their_ends():
    found = follow(Ending([2, 9, 4]), np.zeros((3, 1)), lambda o: 1.0 + o[:, 0], 5)
    assert found.lengths.tolist() == [2, 5, 4]
    assert found.terminated.tolist() == [True, False, True]
    assert not found.truncated.any()
    assert found.rewards.sum(axis=1).tolist() == [3, 15, 10]


def test_who_has_ended_before_is_not_followed():
    live = np.array([True, False])
    found = follow(Ending([9, 9]), np.zeros((2, 1)), lambda o: o[:, 0] + 1, 3, live=live)
    assert found.lengths.tolist() == [3, 0]
    assert found.rewards[1].tolist() == [0, 0, 0]


def test_a_time_limit_is_seen_and_holds_for_both_worlds():
    starts = np.array([3, 5])
    found = follow(Ending([9, 9], cut=4), np.zeros((2, 1)), lambda o: o[:, 0], 6)
    assert found.truncated.tolist() == [True, True]
    assert time_limit(starts, found) == 7
    assert limits_of(starts, 6, 7.0).tolist() == [4, 2]
    endless = follow(Ending([9, 9]), np.zeros((2, 1)), lambda o: o[:, 0], 6)
    assert time_limit(starts, endless) == np.inf
    assert limits_of(starts, 6, np.inf).tolist() == [6, 6]
    limits = np.array([4, 2])
    np.testing.assert_array_equal(
        survived(endless, limits), survived(found, limits).clip(0, limits)
    )
    assert earned(endless, limits).tolist() == [0 + 1 + 2 + 3, 0 + 1]


def test_the_curve_of_kaplan_and_meier():
    """Deaths at 2 (of 5) and 4 (of 2); two lanes are cut, after 2 and 3 steps."""
    found = course([2, 2, 3, 4, 6], [True, False, False, True, False], 6)
    curve = survival_curve(found, np.array([6, 2, 3, 6, 6]))
    np.testing.assert_allclose(curve, [1, 1, 0.8, 0.8, 0.4, 0.4, 0.4])


def test_nobody_left_is_death_or_ignorance():
    dead = survival_curve(course([1, 2], [True, True], 4), np.array([4, 4]))
    np.testing.assert_allclose(dead, [1, 0.5, 0, 0, 0])
    cut = survival_curve(course([2, 2], [False, False], 4), np.array([2, 2]))
    np.testing.assert_allclose(cut, [1, 1, 1, np.nan, np.nan])


def test_the_curve_of_returns():
    rewards = np.array([[1.0, 1.0, 1.0], [3.0, 3.0, 0.0]])
    found = Course(rewards, np.array([3, 2]), np.array([False, True]), np.array([False, False]))
    np.testing.assert_allclose(return_curve(found, np.array([3, 3])), [0, 2, 4, 4.5])
    np.testing.assert_allclose(return_curve(found, np.array([3, 1])), [0, 2, 3, 4])


def test_a_ratio_and_its_interval():
    generator = np.random.default_rng(0)
    real = generator.uniform(50, 150, 400)
    found = compare(1.2 * real + generator.normal(0, 5, 400), real)
    assert found.ratio == pytest.approx(1.2, abs=0.01)
    assert found.ratio_ci95[0] < 1.2 < found.ratio_ci95[1]
    assert found.ratio_ci95[1] - found.ratio_ci95[0] < 0.02  # paired: the starts' spread cancels
    assert found.difference == pytest.approx(found.dream - found.real)
    assert found.deviations == pytest.approx(found.difference / real.std())


def test_returns_of_either_sign_have_no_ratio():
    found = compare(np.array([1.0, 2.0]), np.array([-1.0, 3.0]))
    assert np.isnan(found.ratio)
    assert found.difference == 0.5


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (EnvConfig(reward="real"), 7.0),
        (EnvConfig(reward="constant", reward_per_frame=1.0, action_repeat=4), 4.0),
        (
            EnvConfig(
                reward="count",
                count_attribute="tiles",
                reward_per_count=3.0,
                reward_per_frame=-0.1,
                action_repeat=4,
            ),
            5.6,
        ),
    ],
)
def test_reality_in_the_dreams_currency(config, expected):
    paid = in_dreams_currency(config)(np.array([7.0]), {"count": np.array([2.0])})
    assert paid == pytest.approx(expected)
