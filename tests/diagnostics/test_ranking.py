"""Rank correlation reaches its ceiling for a perfect dream; measurements are made once."""

import numpy as np
import pytest
import torch

from worldmodels.diagnostics import ranking, survival
from worldmodels.diagnostics.ranking import (
    Candidate,
    load_candidates,
    measured,
    rank_correlation,
    reliability,
)
from worldmodels.errors import InputError
from worldmodels.files import save_tensors

C = 300


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    monkeypatch.setattr(ranking, "HALVINGS", 100)
    monkeypatch.setattr(survival, "RESAMPLES", 200)


def returns(truth, episodes, noise, seed):
    generator = np.random.default_rng(seed)
    return truth[:, None] + noise * generator.normal(size=(len(truth), episodes))


def rank_of(pearson):
    """Spearman's ρ of two normals. Source: Pearson 1907."""
    return 6 / np.pi * np.arcsin(pearson / 2)


@pytest.fixture
def truth():
    return np.random.default_rng(0).normal(size=C)


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
    assert found["ceiling"] == pytest.approx(expected, abs=0.05)
    assert found["spearman"] == pytest.approx(rank_of(expected), abs=0.1)
    assert found["ci95"][0] < found["spearman"] < found["ci95"][1]
    assert found["ci95"][1] - found["ci95"][0] < 0.3
    assert found["controllers"] == C


def test_a_dream_of_something_else_does_not(truth):
    other = np.random.default_rng(9).normal(size=C)
    real = returns(truth, 50, 1.0, 1)
    found = rank_correlation(returns(other, 50, 1.0, 2), real)
    assert abs(found["spearman"]) < 0.2
    assert found["ceiling"] > 0.9
    upside_down = rank_correlation(-real, real)
    assert upside_down["spearman"] == pytest.approx(-1.0)


def test_it_is_the_same_again(truth):
    real, dream = returns(truth, 10, 1.0, 1), returns(truth, 10, 1.0, 2)
    assert rank_correlation(dream, real, 3) == rank_correlation(dream, real, 3)


def test_a_world_that_returns_the_same_for_all():
    found = rank_correlation(np.ones((4, 6)), np.arange(24.0).reshape(4, 6))
    assert np.isnan(found["spearman"])
    assert np.isnan(found["ci95"]).all()


def write(folder, name, means, generations):
    tensors = {"means": torch.tensor(means).float(), "generations": torch.tensor(generations)}
    save_tensors(folder / f"{name}.safetensors", tensors)


def candidates(count):
    return [Candidate("a", i, np.array([i, 0], np.float32)) for i in range(count)]


class Measure:
    """Returns candidate + seed / 100; fails after so many calls."""

    def __init__(self, calls=99):
        self.measured, self.calls = [], calls

    def __call__(self, parameters, seeds):
        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        self.measured += parameters[:, 0].tolist()
        returns = parameters[:, :1] + np.array(seeds) / 100
        return returns, np.ones(returns.shape, np.int64)


def test_all_files_are_read_in_order(tmp_path):
    write(tmp_path, "seed1", [[3.0, 0.0]], [7])
    write(tmp_path, "seed0", [[1.0, 0.0], [2.0, 0.0]], [5, 10])
    found = load_candidates(tmp_path, 2)
    assert [(one.file, one.generation, one.parameters[0]) for one in found] == [
        ("seed0", 5, 1.0),
        ("seed0", 10, 2.0),
        ("seed1", 7, 3.0),
    ]
    assert load_candidates(tmp_path / "nothing", 2) == []


def test_controllers_of_another_size_are_refused(tmp_path):
    write(tmp_path, "seed0", [[1.0, 0.0]], [5])
    with pytest.raises(InputError, match=r"seed0.safetensors: means are \(1, 2\).*3 parameters"):
        load_candidates(tmp_path, 3)
    save_tensors(tmp_path / "seed0.safetensors", {"means": torch.zeros(1, 3)})
    with pytest.raises(InputError, match="no tensor `generations`"):
        load_candidates(tmp_path, 3)


def test_a_killed_measurement_goes_on(tmp_path):
    file, about, seeds = tmp_path / "real.json", {"seeds": [0, 3]}, [0, 1, 2]
    with pytest.raises(KeyboardInterrupt):
        measured(file, about, candidates(10), Measure(calls=1), seeds)
    rest = Measure()
    returns = measured(file, about, candidates(10), rest, seeds)
    assert rest.measured == [4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(returns, np.arange(10)[:, None] + np.array(seeds) / 100)


def test_a_controller_that_comes_twice_is_measured_once(tmp_path):
    twice, measure = candidates(3) + candidates(2), Measure()
    returns = measured(tmp_path / "a.json", {}, twice, measure, [0, 1])
    assert measure.measured == [0, 1, 2]
    np.testing.assert_array_equal(returns[3:], returns[:2])


def test_other_conditions_are_measured_anew(tmp_path):
    file = tmp_path / "a.json"
    for about, expected in (({"t": 1.0}, 3), ({"t": 1.0}, 0), ({"t": 1.2}, 3)):
        measure = Measure()
        measured(file, about, candidates(3), measure, [0, 1])
        assert len(measure.measured) == expected
