"""Survival and returns: curves against numbers by hand, both worlds cut at the same step."""

import numpy as np
import pytest

from worldmodels.diagnostics.survival import (
    Outcomes,
    compare,
    dream_rewards,
    return_curve,
    step_limits,
    survival_curve,
    until_stalled,
)
from worldmodels.world import EnvConfig, RawPicture, World


def outcomes(lengths, died, horizon):
    lengths, died = np.array(lengths), np.array(died)
    rewards = (np.arange(horizon) < lengths[:, None]).astype(float)
    return Outcomes(rewards, lengths, died, ~died & (lengths < horizon))


def test_a_time_limit_holds_for_both_worlds():
    starts, limits = np.array([3, 5]), np.array([4, 2])
    cut, endless = outcomes([4, 4], [False, False], 6), outcomes([6, 6], [False, False], 6)
    assert step_limits(starts, 6, [endless]).tolist() == [6, 6]
    np.testing.assert_array_equal(step_limits(starts, 6, [endless, cut]), limits)
    np.testing.assert_array_equal(endless.within(limits).lengths, cut.within(limits).lengths)
    assert endless.within(limits).rewards.sum(axis=1).tolist() == [4, 2]


def test_the_curve_of_kaplan_and_meier():
    """Deaths at 2 (of 5) and 4 (of 2); two lanes are cut, after 2 and 3 steps."""
    found = outcomes([2, 2, 3, 4, 6], [True, False, False, True, False], 6)
    curve = survival_curve(found.within(np.array([6, 2, 3, 6, 6])))
    np.testing.assert_allclose(curve, [1, 1, 0.8, 0.8, 0.4, 0.4, 0.4])


def test_nobody_left_is_death_or_ignorance():
    dead = survival_curve(outcomes([1, 2], [True, True], 4).within(np.array([4, 4])))
    np.testing.assert_allclose(dead, [1, 0.5, 0, 0, 0])
    cut = survival_curve(outcomes([2, 2], [False, False], 4).within(np.array([2, 2])))
    np.testing.assert_allclose(cut, [1, 1, 1, np.nan, np.nan])


def test_the_curve_of_returns():
    rewards = np.array([[1.0, 1.0, 1.0], [3.0, 3.0, 0.0]])
    found = Outcomes(rewards, np.array([3, 2]), np.array([False, True]), np.array([False, False]))
    for limits, expected in (([3, 3], [0, 2, 4, 4.5]), ([3, 1], [0, 2, 3, 4])):
        cut = np.array(limits)
        np.testing.assert_allclose(return_curve(found.within(cut), cut), expected)


def test_a_ratio_and_its_interval():
    generator = np.random.default_rng(0)
    real = generator.uniform(50, 150, 400)
    found = compare(1.2 * real + generator.normal(0, 5, 400), real, np.arange(400))
    assert found["ratio"] == pytest.approx(1.2, abs=0.01)
    assert found["ratio_ci95"][0] < 1.2 < found["ratio_ci95"][1]
    assert (
        found["ratio_ci95"][1] - found["ratio_ci95"][0] < 0.02
    )  # paired: the starts' spread cancels
    assert found["difference"] == pytest.approx(found["dream"] - found["real"])
    assert found["deviations"] == pytest.approx(found["difference"] / real.std())
    assert compare(real, real, np.arange(400))["difference_ci95"] == (0, 0)


def test_starts_of_one_episode_count_together():
    """Ten equal starts of each of 40 episodes say no more than one of each."""
    generator = np.random.default_rng(0)
    dream, real = generator.uniform(50, 150, (2, 40))
    one = compare(dream, real, np.arange(40))
    ten = compare(dream.repeat(10), real.repeat(10), np.arange(40).repeat(10))
    assert ten["ratio_ci95"] == pytest.approx(one["ratio_ci95"])
    single = compare(dream, real, np.zeros(40, int))
    assert np.isnan(single["ratio_ci95"]).all()


def test_returns_of_either_sign_have_no_ratio():
    found = compare(np.array([1.0, 2.0]), np.array([-1.0, 3.0]), np.arange(2))
    assert np.isnan(found["ratio"])
    assert found["difference"] == 0.5


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
def test_reality_on_the_dreams_scale(config, expected):
    paid = dream_rewards(config)(np.array([7.0]), {"count": np.array([2.0])})
    assert paid == pytest.approx(expected)


def test_a_life_until_a_second_without_a_count():
    """Counts pay 2, a step costs 0.1; a second has 3 steps."""
    config = EnvConfig(
        reward="count",
        count_attribute="n",
        reward_per_count=2.0,
        reward_per_frame=-0.025,
        action_repeat=4,
    )
    world = World(config, {}, 12.0, {}, RawPicture((64, 64, 3)))
    counts = np.array(
        [
            [1, 0, 0, 1, 0, 0, 0, 1],  # stalls at 4, though it goes on later
            [1, 0, 0, 1, 0, 0, 1, 0],  # never: two steps are no second, the last is not over
            [0.1, 0.2, 0.1, 1, 1, 1, 1, 1],  # at once; fractions are no count
            [1, 1, 1, 1, 0, 0, 0, 0],  # ends after 5 steps: what follows is nothing
        ]
    )
    lengths = np.array([8, 8, 8, 5])
    rewards = np.where(np.arange(8) < lengths[:, None], counts * 2.0 - 0.1, 0.0)
    lanes = np.zeros(4, bool)
    found = until_stalled(Outcomes(rewards, lengths, lanes, lanes), world)
    assert found.terminated.tolist() == [True, False, True, False]
    assert found.lengths.tolist() == [4, 6, 1, 3]
