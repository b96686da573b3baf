"""Reads files from the web without trusting them; object arrays of an npz are pickles.

A pickle may call any function of any package, and even NumPy's own classes read foreign memory if
their state is forged. So a pickle gets nothing of NumPy: classes and functions of this file stand
for the names that an array of numbers needs. Any other name is refused.

A file has many records, and a bad one should not cost the others: see `kept`.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from worldmodels.errors import InputError
from worldmodels.files import LARGEST, members_of, read_header, read_member
from worldmodels.run import say

Record = TypeVar("Record")

SHOWN = 3
"""Bad records that a message names."""


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
    shape: tuple[int, ...] = ()
    """Of an object array."""
    numbers: np.ndarray | None = None

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if isinstance(content, list):
            self.parts, self.shape = content, shape
            return
        content = content.encode("latin1") if isinstance(content, str) else content
        self.numbers = _numbers_of(content, dtype, shape, "F" if fortran else "C")


def _numbers_of(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array that shares its bytes with the pickle's, however often that names them."""
    if math.prod(shape) == 0:
        return np.zeros((0, *shape[1:]), dtype.numbers())
    return np.frombuffer(content, dtype.numbers()).reshape(shape, order=order)


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Stands for `_frombuffer`, which protocol 5 uses for arrays of numbers."""
    found = _Array()
    found.numbers = _numbers_of(content, dtype, shape, order)
    return found


@cache  # a pickle may ask for the same long text again and again
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
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _latin,
}


class _NumbersOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STANDINS:
            raise ValueError(f"it names {module}.{name}")
        return STANDINS[module, name]


def _unpickled(content: bytes) -> Any:
    """What a pickle makes of the stand-ins.

    Trap: the unpickler makes room for any index and any length that a few bytes name. `genops`
    compares lengths with the bytes there are; indices are compared with the operations so far.
    """
    for number, (operation, argument, _) in enumerate(pickletools.genops(content)):
        if operation.name.endswith("PUT") and int(argument or 0) > number:
            raise ValueError(f"operation {number} stores item {argument}")
    try:
        return _NumbersOnly(io.BytesIO(content), encoding="latin1").load()
    finally:
        _latin.cache_clear()


def kept(path: Path, records: Iterable[tuple[str, Callable[[], Record]]]) -> list[Record]:
    """The records that can be read; says how many cannot, where they are, and why.

    Args:
        path: of the file or folder.
        records: the place of each, such as `line 3`, and what reads it.

    Raises:
        InputError: most of them cannot be read, so that the file is of another kind.
    """
    found: list[Record] = []
    bad: list[str] = []
    for place, read in records:
        try:
            found.append(read())
        except Exception as error:  # foreign bytes make readers raise nearly anything
            named = isinstance(error, InputError)  # with its own file
            bad.append(str(error) if named else f"{place}: {_reason(error)}")
    if bad:
        count = f"{len(bad)} of {len(found) + len(bad)} records"
        shown = "; ".join(bad[:SHOWN]) + ("; ..." if len(bad) > SHOWN else "")
        if len(bad) == 1 and not found:
            named = bad[0].startswith(str(path))
            raise InputError(bad[0] if named else f"{path}: {bad[0]}: use another file")
        if len(bad) >= max(len(found), 1):
            raise InputError(f"{path}: {count} cannot be read ({shown}): use another file")
        say(f"{path}: skipped {count} ({shown})")
    return found


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


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
        raise InputError(f"{path} is not {kind} ({_reason(error)}): use another file") from error


def load_npz(path: Path) -> dict[str, list[np.ndarray] | np.ndarray]:
    """All members of an npz; an object array becomes a list of arrays of numbers.

    Members `points` and `offsets`, or `NAME_points` and `NAME_offsets`, become such a list too,
    `points` or `NAME`: one long array, and the ends of its parts after a 0.

    Raises:
        InputError: the file is missing, broken, or holds anything else.
    """
    with reading(path, "an npz of numbers"), zipfile.ZipFile(path) as archive:
        members = members_of(archive)
        found = {name: _member(archive, member) for name, member in members.items()}
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


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> list[np.ndarray] | np.ndarray:
    name = member.filename
    with archive.open(member) as file:
        if not read_header(file)[2].hasobject:
            return _checked(read_member(archive, member), name)
        found = _unpickled(file.read())
    if not isinstance(found, _Array) or found.parts is None:
        raise ValueError(f"{name} holds no list of arrays")
    if len(found.shape) == 3:  # of equally long arrays NumPy makes one of single numbers
        whole = np.array(found.parts)
        if whole.dtype.kind not in "fiu":
            raise ValueError(f"{name} holds {whole.dtype}, not numbers")
        return list(whole.reshape(found.shape))
    parts = [_numbers(part, name) for part in found.parts]
    if (size := sum(part.nbytes for part in parts)) > LARGEST:
        raise ValueError(f"{name} names {size:,} bytes, more than {LARGEST:,}")
    return parts


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
