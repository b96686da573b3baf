"""Rank correlation: a perfect dream reaches the ceiling that noise leaves."""

import numpy as np
import pytest
from scipy import stats

from worldmodels.diagnostics import ranking
from worldmodels.diagnostics.ranking import rank_correlation, ranks, reliability, spearman

C = 300


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    monkeypatch.setattr(ranking, "HALVINGS", 100)
    monkeypatch.setattr(ranking, "RESAMPLES", 200)


def returns(truth, episodes, noise, seed):
    generator = np.random.default_rng(seed)
    return truth[:, None] + noise * generator.normal(size=(len(truth), episodes))


def rank_of(pearson):
    """Spearman's ρ of two normals. Source: Pearson 1907."""
    return 6 / np.pi * np.arcsin(pearson / 2)


@pytest.fixture
def truth():
    return np.random.default_rng(0).normal(size=C)


def test_ranks_and_correlation_with_ties():
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 6, (2, 50)).astype(float)
    np.testing.assert_array_equal(ranks(x), stats.rankdata(x))
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(spearman(x, np.ones(50)))


def test_reliability_is_what_theory_says(truth):
    """Means of 25 episodes with noise 5: true variance 1 beside 1 of noise."""
    assert reliability(returns(truth, 25, 5.0, 1)) == pytest.approx(0.5, abs=0.06)
    assert reliability(returns(truth, 25, 0.01, 1)) > 0.99
    assert reliability(returns(0 * truth, 25, 1.0, 1)) < 0.2
    assert np.isnan(reliability(returns(truth, 1, 1.0, 1)))


def test_a_perfect_dream_reaches_the_ceiling(truth):
    real, dream = returns(truth, 25, 5.0, 1), returns(truth, 100, 5.0, 2)
    found = rank_correlation(dream, real)
    expected = np.sqrt(0.5 * 0.8)
    assert found.ceiling == pytest.approx(expected, abs=0.05)
    assert found.spearman == pytest.approx(rank_of(expected), abs=0.1)
    assert found.ci95[0] < found.spearman < found.ci95[1]
    assert found.ci95[1] - found.ci95[0] < 0.3
    assert found.controllers == C


def test_a_dream_of_something_else_does_not(truth):
    other = np.random.default_rng(9).normal(size=C)
    real = returns(truth, 50, 1.0, 1)
    found = rank_correlation(returns(other, 50, 1.0, 2), real)
    assert abs(found.spearman) < 0.2
    assert found.ceiling > 0.9
    upside_down = rank_correlation(-real, real)
    assert upside_down.spearman == pytest.approx(-1.0)


def test_it_is_the_same_again(truth):
    real, dream = returns(truth, 10, 1.0, 1), returns(truth, 10, 1.0, 2)
    assert rank_correlation(dream, real, 3) == rank_correlation(dream, real, 3)


def test_a_world_that_returns_the_same_for_all():
    found = rank_correlation(np.ones((4, 6)), np.arange(24.0).reshape(4, 6))
    assert np.isnan(found.spearman)
    assert np.isnan(found.ci95).all()
