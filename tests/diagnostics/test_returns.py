"""Measurements are kept as they come, and made once."""

import numpy as np
import pytest
import torch

from worldmodels.diagnostics.returns import Candidate, Ledger, load_candidates
from worldmodels.errors import InputError
from worldmodels.files import save_tensors


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
        Ledger(file, about).measure(candidates(10), Measure(calls=1), seeds, "test")
    rest = Measure()
    returns = Ledger(file, about).measure(candidates(10), rest, seeds, "test")
    assert rest.measured == [4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(returns, np.arange(10)[:, None] + np.array(seeds) / 100)


def test_a_controller_that_comes_twice_is_measured_once(tmp_path):
    twice, measure = candidates(3) + candidates(2), Measure()
    returns = Ledger(tmp_path / "a.json", {}).measure(twice, measure, [0, 1], "test")
    assert measure.measured == [0, 1, 2]
    np.testing.assert_array_equal(returns[3:], returns[:2])


def test_other_conditions_are_measured_anew(tmp_path):
    file = tmp_path / "a.json"
    for about, expected in (({"t": 1.0}, 3), ({"t": 1.0}, 0), ({"t": 1.2}, 3)):
        measure = Measure()
        Ledger(file, about).measure(candidates(3), measure, [0, 1], "test")
        assert len(measure.measured) == expected
