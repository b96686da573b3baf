"""Pickles from the web: their numbers are read, and nothing in them is executed."""

import os
import pickle
import resource
import zipfile

import numpy as np
import pytest

from worldmodels.errors import InputError
from worldmodels.gallery.drawings import read_drawings
from worldmodels.gallery.kanji import read_kanjivg
from worldmodels.gallery.public_files import load_npz
from worldmodels.gallery.touch import read_performances


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
    found = load_npz(tmp_path / "a.npz")
    assert isinstance(found["train"], list)
    for one, part in zip(found["train"], parts, strict=True):
        np.testing.assert_array_equal(one, part)
        assert one.dtype == part.dtype
    np.testing.assert_array_equal(found["plain"], np.arange(3))


def write_pickle(path, content, protocol):
    """An npz whose member `train` says that it is an object array of two."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("train.npy", "w") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": (2,)}
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump(content, file, protocol=protocol)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_age(tmp_path, protocol):
    first = np.asfortranarray([[1.5, -2.0], [0.0, 9.0]])
    array = object_array(first, np.array([[3, 4]], ">i2"))
    write_pickle(tmp_path / "old.npz", array, protocol)
    found = load_npz(tmp_path / "old.npz")["train"]
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_array_equal(found[1], [[3, 4]])


def write_bytes(path, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("train.npy", "w") as file:
            header = {"descr": "|O", "fortran_order": False, "shape": (2,)}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(content)


@pytest.mark.parametrize(
    "content",
    [
        b"Nr\xff\xff\xff\x7f.",  # stores None as item 2,147,483,647
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".",  # a bytearray of a terabyte
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".",  # bytes
    ],
)
def test_a_few_bytes_take_no_memory(tmp_path, content):
    write_bytes(tmp_path / "a.npz", content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"a\.npz is not an npz of numbers"):
        load_npz(tmp_path / "a.npz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_an_array_that_is_named_often_is_refused(tmp_path):
    """A pickle of a megabyte whose 1000 arrays share it."""
    one = np.zeros(10**6, np.uint8)
    write_pickle(tmp_path / "a.npz", object_array(*[one] * 1000), 4)
    with pytest.raises(InputError, match=r"names 1,000,000,000 bytes"):
        load_npz(tmp_path / "a.npz")


class Forged:
    """An array with a state that NumPy itself would trust."""

    def __init__(self, *state):
        self.state = state

    def __reduce__(self):
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), self.state


class Pointers:
    """dtype('O') whose flags deny that it holds objects: NumPy takes raw bytes for pointers."""

    def __reduce__(self):
        return np.dtype, ("O", False, True), (3, "|", None, None, None, -1, -1, 0)


@pytest.mark.parametrize(
    "forged",
    [
        Forged(1, (2,), Pointers(), False, b"\x41" * 16),
        Forged(1, (2,), np.dtype("f8"), False, [Forged(1, (9,), np.dtype("f8"), False, b"1")]),
        Forged(1, (2,), np.dtype("f8"), False, b"\x41" * 16),
        Forged(1, (2,), 3, False, [np.dtype("f8")]),
        3,
    ],
)
def test_a_forged_array_is_refused(tmp_path, forged):
    write_pickle(tmp_path / "a.npz", forged, 2)
    with pytest.raises(InputError, match=r"a\.npz is not an npz of numbers"):
        load_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("nested", [False, True])
def test_nothing_in_a_pickle_is_executed(tmp_path, nested):
    target = tmp_path / "made by a pickle"
    evil = Evil(target)
    np.savez(tmp_path / "evil.npz", train=object_array(object_array(evil) if nested else evil))
    with pytest.raises(InputError, match=r"evil\.npz is not an npz of numbers.*mkdir"):
        load_npz(tmp_path / "evil.npz")
    assert not target.exists()


@pytest.mark.parametrize("item", ["text", {"a": 1}, None, [1, 2]])
def test_what_is_no_array_of_numbers_is_refused(tmp_path, item):
    np.savez(tmp_path / "a.npz", train=object_array(np.ones(2), item))
    with pytest.raises(InputError, match="not arrays of numbers"):
        load_npz(tmp_path / "a.npz")


def test_broken_foreign_and_missing_files(tmp_path):
    for name, content in (("a.npz", b"no zip"), ("b.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            load_npz(tmp_path / name)
    with pytest.raises(InputError, match="is missing"):
        load_npz(tmp_path / "c.npz")


def test_text_of_invalid_characters_is_refused(tmp_path):
    texts = np.full(3, 0x110000, np.uint32).view("<U1")
    np.savez(tmp_path / "a.npz", text=texts)
    with pytest.raises(InputError, match="text with invalid characters"):
        load_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", text=np.array(["day", "日"], ">U3"))
    assert load_npz(tmp_path / "b.npz")["text"].tolist() == ["day", "日"]


CONTENT = {
    "a.ndjson": b'{"drawing": [[[0, 5, 9], [1, 2, 3]], [[4, 8], [0, 6]]]}\n' * 60,
    "a.log": b"2026-11-25T10:00:00.000000,interface,0.25,0.5\n" * 20,
    "04e00.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><path d="M1,2c3,4,5,6,7,8"/></svg>',
}
READERS = {
    "a.ndjson": lambda path: read_drawings(path, 100),
    "a.log": read_performances,
    "04e00.svg": lambda path: read_kanjivg([path], 1.0),
    "sketches.npz": lambda path: read_drawings(path, 100),
    "performances.npz": read_performances,
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, name, sketches, performances):
    """Bytes are changed inside the members of an npz, whose checksums stay right."""
    generator = np.random.default_rng(0)

    def damaged(content):
        content = bytearray(content)
        for place in generator.integers(len(content), size=generator.integers(1, 20)):
            content[place] = generator.integers(256)
        return bytes(content)

    whole = {}
    if name.endswith("npz"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            whole = {member: archive.read(member) for member in archive.namelist()}
    path = tmp_path / f"damaged_{name}" if whole else tmp_path / name
    for _ in range(20):
        if whole:
            with zipfile.ZipFile(path, "w") as archive:
                for member, content in whole.items():
                    archive.writestr(member, damaged(content))
        else:
            path.write_bytes(damaged(CONTENT[name]))
        message = ""
        try:
            READERS[name](path)
        except InputError as error:
            message = str(error)
        assert "\n" not in message
