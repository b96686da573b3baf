"""npz files of strangers, whose object arrays are pickles: numbers are read, nothing else.

A pickle may call any function of any package. Here it may call what NumPy needs for an array.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from worldmodels.errors import InputError


def _latin(text: str, encoding: str = "latin1") -> bytes:
    """How Python 2's bytes are written in Python 3's pickles."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding}")
    return text.encode(encoding)


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"array of {kind}")
    return np.ndarray.__new__(kind, shape, code.decode() if isinstance(code, bytes) else code)


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _latin,
}


class NumbersOnly(pickle.Unpickler):
    """Rebuilds arrays of numbers; whatever else a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Only what `ALLOWED` lists."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return ALLOWED[module, name]


def load_numbers(path: Path) -> dict[str, list[np.ndarray] | np.ndarray]:
    """All members of an npz; an object array becomes a list of arrays of numbers.

    Raises:
        InputError: the file is broken, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _member(archive.open, name) for name in members}
    except FileNotFoundError:
        raise InputError(f"{path} is missing: check the name") from None
    # foreign bytes make the readers raise nearly anything
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is no npz of numbers alone ({reason})") from error


def _member(opened: Callable[[str], IO[bytes]], name: str) -> list[np.ndarray] | np.ndarray:
    with opened(name) as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        _, _, dtype = read[version](file)
        if not dtype.hasobject:
            with opened(name) as again:
                return np.lib.format.read_array(again, allow_pickle=False)
        found = NumbersOnly(file, encoding="latin1").load()
    return [_numbers(part, name) for part in np.asarray(found).ravel()]


def _numbers(part: Any, name: str) -> np.ndarray:
    if not isinstance(part, np.ndarray) or part.dtype.kind not in "fiub":
        raise ValueError(f"{name} holds {type(part).__name__}, not arrays of numbers")
    return part
