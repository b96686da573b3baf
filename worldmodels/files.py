"""Reads and writes text, JSON, safetensors and npz files.

A file is whole or absent, also after a crash. Equal contents give equal bytes.
"""

import contextlib
import errno
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from worldmodels.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Name = str | os.PathLike[str]
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
ZIP_LEVEL = 1
"""Frames shrink nearly as much as at level 6, four times faster."""


@contextlib.contextmanager
def replacing(path: Name) -> Iterator[Path]:
    """Yields a temporary file beside `path` that replaces it when the block succeeds.

    A reader sees the old file or the whole new one. File and folder are synced, so that this also
    holds after a power failure.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        with contextlib.suppress(OSError):  # Windows and some network disks cannot sync a folder
            _sync(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be read hides the first error
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Name) -> None:
    """Removes the temporary files that killed processes left in a folder and below.

    Only for a folder in which no other process writes.
    """
    for path in Path(folder).rglob("*.tmp"):
        if path.suffixes[-2:-1] and path.suffixes[-2][1:].isdigit():
            path.unlink(missing_ok=True)


def append_line(path: Name, line: str) -> None:
    """Appends a whole line to a text file, or nothing; half a last line is overwritten.

    Raises:
        InputError: the disk is full, or the file cannot be written.
    """
    path, data = Path(path), f"{line}\n".encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+", buffering=0) as file:
            end = _end_of_lines(file)
            file.truncate(end)
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except BaseException:
                file.truncate(end)
                raise
    except OSError as error:
        raise _unwritable(path, error) from error


def _end_of_lines(file: BinaryIO) -> int:
    """Position after the last newline of a file."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return size
    file.seek(0)
    return file.read(size).rfind(b"\n") + 1


def _sync(path: Path) -> None:
    """Waits until the disk holds a file or a folder."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> InputError:
    reason = error.strerror or type(error).__name__
    return InputError(f"{path} cannot be written ({reason}): free space or choose another folder")


def save_text(path: Name, text: str) -> None:
    """Writes a text file (UTF-8) atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_json(path: Name, data: object) -> None:
    """Writes JSON atomically; NaN becomes null, as JSON has none."""
    text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    save_text(path, text + "\n")


def load_json(path: Name) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        InputError: the file is missing, truncated or of another kind.
    """
    with _reading(path, "a JSON object"):
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise TypeError("an object is expected")
        return data


def save_tensors(
    path: Name, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, Any] | None = None
) -> None:
    """Writes a safetensors file atomically; its metadata are JSON."""
    from safetensors.torch import save

    # one entry, because safetensors writes several in random order
    packed = {"worldmodels": json.dumps(dict(metadata or {}), sort_keys=True)}
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:  # safetensors' save_file denies other users to read
        temporary.write_bytes(save(contiguous, metadata=packed))


def load_tensors(path: Name) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Reads a safetensors file and its metadata.

    Trap: safetensors opens the file again for the metadata. Beside a writer these would be another
    file's, so tensors and metadata come from the same bytes here.

    Raises:
        InputError: the file is missing, truncated or of another kind.
    """
    from safetensors.torch import load

    with _reading(path, "a safetensors file"):
        data = Path(path).read_bytes()
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return tensors, json.loads(header.get("__metadata__", {}).get("worldmodels", "{}"))


def save_arrays(path: Name, **arrays: Any) -> None:
    """Writes a compressed npz atomically.

    Differs: `np.savez_compressed` writes the time of day into the file.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            # the one name that Python 3.11 to 3.13 know
            member._compresslevel = ZIP_LEVEL  # type: ignore[attr-defined]
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def load_arrays(path: Name, command: str = "worldmodels collect") -> dict[str, np.ndarray]:
    """Reads an npz file without unpickling anything.

    Args:
        path: the file.
        command: makes the file again; the error names it.

    Raises:
        InputError: the file is missing, truncated or of another kind.
    """
    fix = f"delete it and run `{command}` again"
    # np.load leaves a broken file open and recommends pickle for other kinds of file
    with _reading(path, "an npz file", fix), open(path, "rb") as file:
        with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def file_hash(*paths: Name) -> str:
    """SHA-256 of the bytes of a file, or of several in their order, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with _reading(path, "readable"):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def plain(data: Any) -> Any:
    """Converts data to JSON's types: arrays to lists, paths to text, NaN and infinity to None."""
    if isinstance(data, Mapping):
        return {str(name): plain(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    if hasattr(data, "tolist"):
        return plain(data.tolist())
    if isinstance(data, Path):
        return data.as_posix()
    if isinstance(data, float) and not np.isfinite(data):
        return None
    return data


@contextlib.contextmanager
def _reading(
    path: Name, kind: str, fix: str = "delete it and run its stage again"
) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing: check the name or run the stage that makes it"
        ) from None
    # other bytes make the readers raise nearly anything: zlib, struct, syntax, attribute errors
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is truncated or not {kind} ({reason}): {fix}") from error
