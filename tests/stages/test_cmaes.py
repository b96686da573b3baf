"""CMA-ES finds optima, gives the same bits again, and leaves NumPy's global generator alone."""

import numpy as np
import pytest

from worldmodels.stages.cmaes import CMAES, CMAConfig
from worldmodels.stages.history import History

TARGET = np.array([1.0, -2.0, 0.5, 3.0])


def hill(candidates):
    """Highest, at 7, on TARGET; steep along one diagonal."""
    away = candidates - TARGET
    return 7 - (away**2).sum(1) - 20 * (away[:, 0] + away[:, 1]) ** 2


def evolve(es, generations, returns=hill):
    for _ in range(generations):
        es.tell(returns(es.ask()))
    return es


@pytest.mark.parametrize("size", [4, 101])  # full covariance, and its diagonal alone
def test_finds_the_optimum(size):
    def returns(candidates):
        return hill(candidates[:, :4]) - (candidates[:, 4:] ** 2).sum(1)

    config = CMAConfig(population_size=12, sigma0=1.0)
    es = evolve(CMAES(config, np.zeros(size), seed=0), 250 if size == 4 else 3000, returns)
    np.testing.assert_allclose(es.mean[:4], TARGET, atol=1e-2)
    assert es.sigma < 0.1


def test_larger_problems_learn_the_diagonal_alone():
    def asked(size, **options):
        config = CMAConfig(population_size=12, sigma0=1.0, **options)
        return evolve(CMAES(config, np.zeros(size), seed=0), 20).ask()

    full, diagonal = asked(4), asked(4, full_at_most=3)
    assert np.array_equal(asked(4, full_at_most=4), full)
    assert not np.array_equal(full, diagonal)


def test_asks_for_a_population_about_the_mean():
    config = CMAConfig(population_size=400, sigma0=0.3)
    candidates = CMAES(config, TARGET, seed=1).ask()
    assert candidates.shape == (400, 4)
    np.testing.assert_allclose(candidates.mean(0), TARGET, atol=0.08)
    np.testing.assert_allclose(candidates.std(0), 0.3, atol=0.06)


def with_gaps(candidates):
    """Some were not measured."""
    returns = hill(candidates[:, :4])
    returns[1:3] = np.nan
    return returns


@pytest.mark.parametrize("generations", [0, 1, 9])
@pytest.mark.parametrize("population", [4, 7, 16])
@pytest.mark.parametrize("size", [4, 101, 320])  # full, diagonal, from 300 on with TPA
def test_goes_on_to_the_bit_where_the_same_is_told_again(size, population, generations, tmp_path):
    config, start = CMAConfig(population_size=population), np.zeros(size)
    es, history = CMAES(config, start, seed=2), History("", start, start)
    for _ in range(generations):
        history.told.append(with_gaps(es.ask()))
        es.tell(history.told[-1])
    history.save(tmp_path / "history.safetensors")
    np.random.seed(99)  # noqa: NPY002  (the state of the process does not matter)
    again = CMAES(config, start, seed=2)
    for told in History.load(tmp_path / "history.safetensors").told:
        again.ask()
        again.tell(told)
    for _ in range(3):
        candidates = es.ask()
        np.testing.assert_array_equal(again.ask(), candidates)
        es.tell(with_gaps(candidates))
        again.tell(with_gaps(candidates))
    np.testing.assert_array_equal(again.mean, es.mean)
    assert again.sigma == es.sigma


def test_follows_its_seed_alone():
    first, again, other = (CMAES(CMAConfig(), np.zeros(3), seed).ask() for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_what_is_not_finite_ranks_last():
    """Only ranks count, so it must be as if the worst had been told."""
    bad = [np.nan, np.inf, -np.inf]

    def spoilt(candidates):
        return np.r_[bad, hill(candidates[3:])]

    def poor(candidates):
        return np.r_[[-1e9] * 3, hill(candidates[3:])]

    config = CMAConfig(population_size=10)
    ours, theirs = (evolve(CMAES(config, np.zeros(4), 0), 5, f) for f in (spoilt, poor))
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    hopeless = evolve(CMAES(config, np.zeros(4), 0), 3, lambda c: np.full(len(c), np.nan))
    assert np.isfinite(hopeless.mean).all()


def test_numpys_global_generator_is_untouched():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    es = evolve(CMAES(CMAConfig(population_size=6), np.zeros(4), seed=0), 4)
    assert np.isfinite(es.mean).all()
    after = np.random.get_state()  # noqa: NPY002
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(before[1], after[1])
