"""Strangers' pickles: numbers come out of them, and nothing is executed."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from worldmodels.errors import InputError
from worldmodels.gallery.numbers_only import load_numbers


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def object_array(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_object_arrays_become_lists(tmp_path):
    parts = [np.arange(6, dtype=np.int16).reshape(2, 3), np.ones((1, 3), np.float32)]
    np.savez(tmp_path / "a.npz", train=object_array(*parts), plain=np.arange(3))
    found = load_numbers(tmp_path / "a.npz")
    assert isinstance(found["train"], list)
    for one, part in zip(found["train"], parts, strict=True):
        np.testing.assert_array_equal(one, part)
        assert one.dtype == part.dtype
    np.testing.assert_array_equal(found["plain"], np.arange(3))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_of_every_age(tmp_path, protocol):
    array = object_array(np.array([[1.5, -2.0]]), np.array([[3.0, 4.0]]))
    path = tmp_path / "old.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("train.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": (2,)}
        )
        pickle.dump(array, file, protocol=protocol)
    np.testing.assert_array_equal(load_numbers(path)["train"][1], [[3.0, 4.0]])


@pytest.mark.parametrize("nested", [False, True])
def test_nothing_of_a_stranger_is_executed(tmp_path, nested):
    target = tmp_path / "made by a pickle"
    evil = Evil(target)
    np.savez(tmp_path / "evil.npz", train=object_array(object_array(evil) if nested else evil))
    with pytest.raises(InputError, match=r"evil\.npz is no npz of numbers alone.*mkdir"):
        load_numbers(tmp_path / "evil.npz")
    assert not target.exists()


@pytest.mark.parametrize("item", ["text", {"a": 1}, None, [1, 2]])
def test_what_is_no_array_of_numbers_is_refused(tmp_path, item):
    np.savez(tmp_path / "a.npz", train=object_array(np.ones(2), item))
    with pytest.raises(InputError, match="not arrays of numbers"):
        load_numbers(tmp_path / "a.npz")


def test_broken_foreign_and_missing_files(tmp_path):
    for name, content in (("a.npz", b"no zip"), ("b.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            load_numbers(tmp_path / name)
    with pytest.raises(InputError, match="is missing"):
        load_numbers(tmp_path / "c.npz")
