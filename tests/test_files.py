"""Files: whole or not there, the same bytes again, and broken ones named."""

import os
import time
import zipfile

import numpy as np
import pytest
import torch

from worldmodels.errors import InputError
from worldmodels.files import (
    file_hash,
    files_hash,
    load_arrays,
    load_json,
    load_tensors,
    replacing,
    save_arrays,
    save_json,
    save_tensors,
)

ARRAYS = {"frames": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "rewards": np.zeros(3)}
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3).T, "half": torch.ones(2).half()}
METADATA = {letter: letter for letter in "zyxwvutsr"}


def test_replacing_swaps_the_whole_file(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".tmp"
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"


def test_replacing_leaves_the_old_file_after_a_failure(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(AttributeError), replacing(path) as temporary:
        temporary.write_text("half").fails()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_json_round_trip(tmp_path):
    data = {"a": [1, 2.5, None, "é"], "n": np.float32(0.5), "x": np.arange(2), "bad": float("nan")}
    save_json(tmp_path / "a.json", data)
    expected = {"a": [1, 2.5, None, "é"], "n": 0.5, "x": [0, 1], "bad": None}
    assert load_json(tmp_path / "a.json") == expected


def test_arrays_round_trip(tmp_path):
    save_arrays(tmp_path / "a.npz", **ARRAYS)
    loaded = load_arrays(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as official:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(loaded[name], array)
            np.testing.assert_array_equal(official[name], array)
            assert loaded[name].dtype == array.dtype


def test_arrays_hold_no_pickle(tmp_path):
    with pytest.raises(ValueError, match=r"Object arrays"):
        save_arrays(tmp_path / "a.npz", bad=np.array([{}], dtype=object))
    assert os.listdir(tmp_path) == []


def test_equal_arrays_make_equal_bytes(tmp_path, monkeypatch):
    save_arrays(tmp_path / "a.npz", **ARRAYS)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    save_arrays(tmp_path / "b.npz", **ARRAYS)
    assert file_hash(tmp_path / "a.npz") == file_hash(tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


def test_tensors_round_trip(tmp_path):
    save_tensors(tmp_path / "a.safetensors", TENSORS, METADATA)
    tensors, metadata = load_tensors(tmp_path / "a.safetensors")
    assert metadata == METADATA
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype


def test_equal_tensors_make_equal_bytes(tmp_path):
    # safetensors itself writes its metadata in random order
    for index in range(5):
        save_tensors(tmp_path / f"{index}.safetensors", TENSORS, METADATA)
    assert len({file_hash(path) for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize(
    ("save", "load", "name"),
    [
        (lambda path: save_arrays(path, **ARRAYS), load_arrays, "a.npz"),
        (lambda path: save_tensors(path, TENSORS, METADATA), load_tensors, "a.safetensors"),
        (lambda path: save_json(path, {"a": 1}), load_json, "a.json"),
    ],
)
def test_truncated_foreign_and_missing_files_are_named(tmp_path, save, load, name):
    path = tmp_path / name
    save(path)
    whole = path.read_bytes()
    cuts = {0, 1, 7, 9, len(whole) // 3, len(whole) // 2, len(whole) - 3}
    for content in [whole[:cut] for cut in cuts] + [bytes(1000), b"\x93NUMPY\x01\x00" + b"x" * 99]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{name}.*delete it") as caught:
            load(path)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        load(path)


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"ab")
    (tmp_path / "b").write_bytes(b"c")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files_hash([tmp_path / "a", tmp_path / "b"]) == abc
    with pytest.raises(InputError, match="missing"):
        file_hash(tmp_path / "none")
