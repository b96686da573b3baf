"""Reads files from the web without trusting them; object arrays of an npz are pickles.

A pickle may call any function of any package, and even NumPy's own classes read foreign memory if
their state is forged. So a pickle gets nothing of NumPy: classes and functions of this file stand
for the names that an array of numbers needs. Any other name is refused.
"""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from worldmodels.errors import InputError


class _DType:
    """Stands for `numpy.dtype`."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.code = state[1] + self.code  # the byte order

    def numbers(self) -> np.dtype:
        found = np.dtype(self.code)
        if found.kind not in "fiub":
            raise ValueError(f"an array of {self.code}")
        return found


class _Array:
    """Stands for `numpy.ndarray`, and for the function that makes an empty one."""

    parts: list[Any] | None = None
    """The items of an object array."""
    numbers: np.ndarray | None = None

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if isinstance(content, list):
            self.parts = content
            return
        content = content.encode("latin1") if isinstance(content, str) else content
        flat = np.frombuffer(content, dtype.numbers())
        self.numbers = flat.reshape(shape, order="F" if fortran else "C").copy()


def _latin(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, which protocols below 3 use for bytes."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding}")
    return text.encode("latin1")


STANDINS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _latin,
}


class _NumbersOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STANDINS:
            raise ValueError(f"it names {module}.{name}")
        return STANDINS[module, name]


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever the reader of a file from the web raises into one line.

    Raises:
        InputError: the file is missing, or is not of the kind, such as `an IMPSY log`.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} is missing: check the name") from None
    # foreign bytes make readers raise nearly anything
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is not {kind} ({reason}): use another file") from error


def load_npz(path: Path) -> dict[str, list[np.ndarray] | np.ndarray]:
    """All members of an npz; an object array becomes a list of arrays of numbers.

    Members `points` and `offsets`, or `NAME_points` and `NAME_offsets`, become such a list too,
    `points` or `NAME`: one long array, and the ends of its parts after a 0.

    Raises:
        InputError: the file is missing, broken, or holds anything else.
    """
    with reading(path, "an npz of numbers"), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        found = {name.removesuffix(".npy"): _member(archive, name) for name in names}
        for name in [name for name in found if name.endswith("offsets")]:
            points = f"{name.removesuffix('offsets')}points"
            found[points.removesuffix("_points")] = _cut(found.pop(points), found.pop(name))
    return found


def _cut(points: Any, offsets: Any) -> list[np.ndarray]:
    if offsets.ndim != 1 or not len(offsets) or (np.diff(offsets) < 0).any():
        raise InputError("offsets do not rise: use another file")
    if offsets[0] != 0 or offsets[-1] != len(points):
        raise InputError(f"offsets end at {offsets[-1]}, but there are {len(points)} points")
    return np.split(points, offsets[1:-1])


def _member(archive: zipfile.ZipFile, name: str) -> list[np.ndarray] | np.ndarray:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        _, _, dtype = read[version](file)
        if not dtype.hasobject:
            with archive.open(name) as again:
                return _checked(np.lib.format.read_array(again, allow_pickle=False), name)
        found = _NumbersOnly(file, encoding="latin1").load()
    if not isinstance(found, _Array) or found.parts is None:
        raise ValueError(f"{name} holds no list of arrays")
    return [_numbers(part, name) for part in found.parts]


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    """An array of numbers or text; NumPy makes strings of codes that are no characters."""
    if array.dtype.kind not in "fiubU":
        raise ValueError(f"{name} holds {array.dtype}")
    if array.dtype.kind == "U" and array.size:
        codes = np.frombuffer(array.astype(array.dtype.newbyteorder("=")).tobytes(), np.uint32)
        if codes.max(initial=0) > sys.maxunicode:
            raise ValueError(f"{name} holds text with invalid characters")
    return array


def _numbers(part: Any, name: str) -> np.ndarray:
    if not isinstance(part, _Array) or part.numbers is None:
        raise ValueError(f"{name} holds {type(part).__name__.strip('_')}, not arrays of numbers")
    return part.numbers
