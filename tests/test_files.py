"""Files are whole or absent, equal contents give equal bytes, and errors name broken files."""

import gc
import io
import itertools
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodels.errors import InputError
from worldmodels.files import (
    append_line,
    file_hash,
    load_arrays,
    load_json,
    load_tensors,
    remove_leftovers,
    replacing,
    save_arrays,
    save_json,
    save_tensors,
    save_together,
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


def test_a_file_and_its_folder_are_synced_before_it_counts(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace

    def fsync(handle):
        calls.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    save_json(tmp_path / "a.json", {})
    assert calls == [f"a.json.{os.getpid()}.tmp", "replace", tmp_path.name]


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    (tmp_path / "episodes").mkdir()
    for name in (
        "a.npz.4199999.tmp",
        "c.webm.4199999.tmp.webm",
        "episodes/b.npz.4199999.tmp",
        "notes.tmp",
        "a.npz",
    ):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "episodes", "notes.tmp"]
    assert os.listdir(tmp_path / "episodes") == []


FULL_DISK = """
import resource, sys
from worldmodels.errors import InputError
from worldmodels.files import append_line, save_json
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
try:
    {call}
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "call", ["append_line(sys.argv[1], 'x' * 30)", "save_json(sys.argv[1], ['x' * 30])"]
)
def test_a_full_disk_leaves_what_was_there(tmp_path, call):
    """A limit on the size of files makes a real short write."""
    path = tmp_path / "lines"
    append_line(path, "whole")
    code = FULL_DISK.format(call=call)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout.startswith(f"{path} cannot be written (")
    assert done.stdout.count("\n") == 1
    assert os.listdir(tmp_path) == ["lines"]
    append_line(path, "more")
    assert path.read_text() == "whole\nmore\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/a.json cannot be written"):
        save_json(tmp_path / "file" / "a.json", {})


def test_half_a_last_line_is_overwritten(tmp_path):
    path = tmp_path / "lines"
    for text in ("", "half", "whole\nhalf", "whole\n"):
        path.write_text(text)
        append_line(path, "é")
        assert path.read_text(encoding="utf-8") == text.removesuffix("half") + "é\n"


def test_tensors_and_metadata_come_from_one_file_beside_a_writer(tmp_path):
    path, stop = tmp_path / "a.safetensors", threading.Event()

    def write():
        for index in itertools.count():
            save_tensors(path, {"index": torch.tensor(index)}, {"index": str(index)})
            if stop.is_set():
                return

    save_tensors(path, {"index": torch.tensor(0)}, {"index": "0"})
    writer = threading.Thread(target=write)
    writer.start()
    seen, reads = set(), 0
    try:
        while reads < 2000 or len(seen) < 10:  # writing waits for the disk, which may be busy
            tensors, about = load_tensors(path)
            assert tensors["index"].item() == int(about["index"])
            seen.add(about["index"])
            reads += 1
    finally:
        stop.set()
        writer.join()


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


@pytest.mark.parametrize("load", [load_arrays, load_tensors, load_json, file_hash])
def test_a_pipe_is_not_waited_for(tmp_path, load):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe is a pipe or a device: name a file$"):
        load(tmp_path / "pipe")


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"ab")
    (tmp_path / "b").write_bytes(b"c")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_hash(tmp_path / "a", tmp_path / "b") == abc
    with pytest.raises(InputError, match="missing"):
        file_hash(tmp_path / "none")


def test_files_are_written_together_or_not_at_all(tmp_path):
    names = "a.npz", "b.npz"
    save_together({tmp_path / "new" / name: name.encode() for name in names})
    found = sorted((tmp_path / "new").iterdir())
    assert [(path.name, path.read_text()) for path in found] == [(n, n) for n in names]
    with pytest.raises(InputError, match="cannot be written"):
        save_together({tmp_path / "c.npz": b"c", tmp_path / ("x" * 300): b"d"})
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def claiming(path, shape, dtype="<f8", content=b"", size=None):
    """An npz of one array whose header, and whose directory, say what they like."""
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", file.getvalue() + content)
        if size is not None:
            archive.infolist()[0].file_size = size


@pytest.fixture
def switching():
    """Other threads run whenever Python collects garbage, also inside numpy's parser of headers."""
    thresholds, callback = gc.get_threshold(), lambda *_: time.sleep(1e-4)
    gc.callbacks.append(callback)
    yield
    gc.callbacks.remove(callback)
    gc.set_threshold(*thresholds)


def test_threads_read_at_once(tmp_path, switching):
    for index in range(4):
        save_arrays(tmp_path / f"{index}.npz", a=np.full((3, 2, 2), index))
    with ThreadPoolExecutor(4) as pool:
        for threshold in (7, 9, 11, 13):
            gc.set_threshold(threshold)
            read = pool.map(load_arrays, [tmp_path / f"{i % 4}.npz" for i in range(400)])
            assert all((arrays["a"] == i % 4).all() for i, arrays in enumerate(read))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2**40,), "<f8"), ((2**31, 2**31), "|u1"), ((3,), "<f8"), ((2,), "|O")]
)
def test_the_size_that_an_array_claims_is_compared_with_its_bytes(tmp_path, shape, dtype):
    claiming(tmp_path / "a.npz", shape, dtype, bytes(16))
    with pytest.raises(InputError, match=r"a\.npz.*holds no .* of shape"):
        load_arrays(tmp_path / "a.npz")


def test_a_small_file_that_inflates_is_refused_unread(tmp_path):
    claiming(tmp_path / "a.npz", (5 * 10**8,), "|u1", bytes(5 * 10**8))
    assert (tmp_path / "a.npz").stat().st_size < 10**6
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a\.npz.*its arrays have 500,000,128 bytes"):
        load_arrays(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_a_file_too_large_to_be_ours_is_refused_unread(tmp_path):
    for name, load in (("a.json", load_json), ("a.safetensors", load_tensors)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(10**12)
        with pytest.raises(InputError, match=r"it has 1,000,000,000,000 bytes"):
            load(tmp_path / name)
