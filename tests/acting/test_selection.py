"""Who is measured further, what that costs, and what evolution is told."""

import numpy as np
import pytest

from worldmodels.acting.selection import (
    Validated,
    better_half,
    choose,
    halving,
    measured_means,
    merits,
)
from worldmodels.stages.cmaes import CMAES, CMAConfig

NAN = np.nan


class Game:
    """Returns parameter 0 plus luck from the seed; remembers what was played."""

    def __init__(self, luck=0.0):
        self.played, self.luck = [], luck

    def __call__(self, parameters, seeds):
        self.played += [(p, s) for p in parameters[:, 0].tolist() for s in seeds]
        luck = self.luck * np.array([np.random.default_rng(s).normal() for s in seeds])
        returns = parameters[:, :1] + luck
        return returns, np.full(returns.shape, 7)


def test_the_better_half_plays_on():
    game, parameters = Game(), np.array([[2.0], [9.0], [4.0], [3.0], [8.0]])
    returns, lengths = halving(game, 1, parameters, [10, 11, 12])
    assert sorted(game.played[:5]) == [(p, 10) for p in (2, 3, 4, 8, 9)]
    assert game.played[5:] == [(p, s) for p in (9, 4, 8) for s in (11, 12)]
    assert np.isnan(returns[[0, 3], 1:]).all()
    np.testing.assert_array_equal(returns[[1, 2, 4]], parameters[[1, 2, 4]].repeat(3, axis=1))
    np.testing.assert_array_equal(lengths, np.where(np.isnan(returns), 0, 7))


def test_without_screening_all_play_all():
    parameters = np.array([[2.0], [9.0]])
    returns, lengths = halving(Game(), 0, parameters, [10, 11])
    np.testing.assert_array_equal(returns, parameters.repeat(2, axis=1))
    assert (lengths == 7).all()


def test_survivors_are_measured_as_without_halving():
    parameters, seeds = np.random.default_rng(0).normal(size=(8, 1)), range(6)
    full, _ = Game(luck=1.0)(parameters, seeds)
    halved, _ = halving(Game(luck=1.0), 2, parameters, seeds)
    measured = np.isfinite(halved)
    assert measured.sum() == 8 * 2 + 4 * 4
    np.testing.assert_array_equal(halved[measured], full[measured])


def test_the_dropped_rank_below_all_survivors_in_their_order():
    returns = np.array([[5.0, NAN], [9.0, -8.0], [6.0, NAN], [7.0, -9.0], [NAN, NAN]])
    ranked = merits(returns)
    assert np.argsort(-ranked).tolist() == [1, 3, 2, 0, 4]
    assert ranked[[1, 3]].tolist() == [0.5, -1.0]  # as they are
    assert np.isnan(ranked[4])
    np.testing.assert_array_equal(measured_means(returns), [5.0, 0.5, 6.0, -1.0, NAN])
    far_below = np.array([[1.0, 1.0], [-50.0, NAN]])
    assert merits(far_below).tolist() == [1.0, -50.0]


def test_full_measurements_are_told_to_the_bit():
    returns = np.random.default_rng(0).normal(size=(9, 7))
    np.testing.assert_array_equal(merits(returns), returns.mean(axis=1))


@pytest.mark.parametrize(
    "returns", [np.full((4, 2), NAN), np.array([[1.0, NAN]] * 4), np.array([[NAN, 1.0], [2, 3]])]
)
def test_what_was_not_measured_at_all_is_survived(returns):
    assert len(better_half(returns)) == len(returns) // 2
    es = CMAES(CMAConfig(population_size=4), np.zeros(2), seed=0)
    es.ask()
    es.tell(np.resize(merits(returns), 4))
    assert np.isfinite(es.mean).all()


def test_evolution_climbs_with_half_of_the_worse_episodes_spared():
    def hill(parameters, seeds):
        luck = np.array([np.random.default_rng(seed).normal(0, 0.3) for seed in seeds])
        returns = -((parameters - 2.0) ** 2).sum(axis=1, keepdims=True) + luck
        return returns, np.ones(returns.shape, int)

    es = CMAES(CMAConfig(population_size=12, sigma0=0.5), np.zeros(3), seed=0)
    for generation in range(60):
        seeds = range(4 * generation, 4 * generation + 4)
        es.tell(merits(halving(hill, 1, es.ask(), seeds)[0]))
    np.testing.assert_allclose(es.mean, 2.0, atol=0.1)


def test_the_second_measurement_alone_decides():
    scores = [1.0, 9.0, 5.0, 8.0]
    rows = [Validated(g, np.full(2, float(g)), np.array([s])) for g, s in enumerate(scores)]
    asked = []

    def measure(parameters, seeds):
        asked.append(parameters[:, 0].tolist())
        again = {1.0: 2.0, 3.0: 7.0, 2.0: 4.0}
        returns = np.array([[again[p[0]]] * len(seeds) for p in parameters])
        return returns, np.full(returns.shape, 10)

    choice = choose(rows, measure, 3, [7, 8])
    assert asked == [[1.0, 3.0, 2.0]]  # the three best of the first
    assert (choice.generation, choice.score, choice.steps) == (3, 7.0, 60)
    assert choose(rows, measure, 1, [7, 8]).generation == 1
    assert choose(rows, measure, 3, []).score == 9.0


def test_without_validation_the_last_is_kept():
    rows = [Validated(g, np.full(2, float(g)), np.zeros(0)) for g in range(3)]
    choice = choose(rows, lambda *_: pytest.fail("nothing is to be measured"), 3, [7])
    assert (choice.generation, choice.steps) == (2, 0)
    assert np.isnan(choice.score)
