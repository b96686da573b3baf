"""Races: who is measured further, and what that costs."""

import numpy as np

from worldmodels.acting.selection import race

NOISE = np.array([30.0, -10.0, -30.0, 10.0])
"""The episodes', with mean 0 over four."""


class Game:
    """The best candidate is 70; remembers what was played."""

    def __init__(self):
        self.played = []

    def __call__(self, candidates, seeds):
        self.played += [(c, seed) for c in candidates.tolist() for seed in seeds]
        returns = -abs(candidates - 70)[:, None] + NOISE[np.array(seeds) % 4]
        return returns, np.full(returns.shape, 7)


def test_the_best_wins():
    raced = race(Game(), np.arange(100), range(16), ((4, 20), (8, 5), (16, 1)))
    assert raced.kept == [70]
    np.testing.assert_array_equal(raced.returns, np.tile(NOISE, 4)[None])


def test_episodes_are_spent_on_the_good_and_never_played_twice():
    game = Game()
    raced = race(game, np.arange(64, 76), range(6), ((2, 3), (6, 2)))
    assert len(game.played) == len(set(game.played)) == 12 * 2 + 3 * 4
    assert {candidate for candidate, seed in game.played if seed >= 2} == {69, 70, 71}
    assert raced.kept == [6, 5]  # indices, the best one first; of equal ones the first
    assert raced.steps == 7 * 36
