"""Calibration: a head that means what it says passes, one that boasts doesn't."""

import numpy as np
import pytest

from worldmodels.diagnostics.calibration import calibration, unweighted

N = 100_000


@pytest.fixture
def events():
    """Rare events, and their probabilities."""
    generator = np.random.default_rng(0)
    p = generator.random(N) ** 4
    return p, generator.random(N) < p


def test_a_perfectly_calibrated_head(events):
    p, ended = events
    found = calibration(p, ended)
    assert found.ece < 0.005
    assert found.brier == pytest.approx(np.mean(p * (1 - p)), abs=0.003)
    assert found.brier < 0.7 * found.no_skill
    assert found.predicted == pytest.approx(found.observed, abs=0.005)
    assert found.steps == N
    for bin_ in found.bins:
        error = 4 * np.sqrt(bin_.predicted * (1 - bin_.predicted) / bin_.count)
        assert bin_.low <= bin_.predicted <= bin_.high
        assert bin_.observed == pytest.approx(bin_.predicted, abs=error)
    assert sum(bin_.count for bin_ in found.bins) == N


def test_the_share_alone_has_no_skill(events):
    _, ended = events
    share = ended.mean()
    found = calibration(np.full(N, share), ended)
    assert found.brier == pytest.approx(found.no_skill)
    assert found.ece == pytest.approx(0.0, abs=1e-9)
    assert sum(bin_.count > 0 for bin_ in found.bins) == 1
    assert sum(np.isnan(bin_.observed) for bin_ in found.bins) == len(found.bins) - 1


def test_exact_numbers():
    found = calibration(np.array([0.0, 0.25, 0.75, 1.0]), np.array([False, False, True, False]))
    assert found.brier == (0.25**2 * 2 + 1) / 4
    assert found.no_skill == 0.25 * 0.75
    assert found.ece == (0.25 + 0.25 + 1.0) / 4


def test_a_head_trained_with_weighted_ends_means_less_than_it_says(events):
    """The least weighted cross-entropy lies at w q / (w q + 1 - q)."""
    q, ended = events
    grid = np.linspace(0.0005, 0.9995, 2000)
    for each, weight in ((0.02, 10.0), (0.3, 3.0)):
        loss = -weight * each * np.log(grid) - (1 - each) * np.log(1 - grid)
        assert unweighted(grid[[loss.argmin()]], weight)[0] == pytest.approx(each, abs=0.002)
    said = 10 * q / (10 * q + 1 - q)
    assert calibration(said, ended).ece > 0.1
    assert calibration(unweighted(said, 10.0), ended).ece < 0.005
    np.testing.assert_allclose(unweighted(q, 1.0), q)
