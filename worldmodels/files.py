"""Reads and writes text, JSON, safetensors and npz files.

A file is whole or absent, also after a crash. Equal contents give equal bytes.
"""

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from worldmodels.errors import InputError
from worldmodels.temporary import is_alive

if TYPE_CHECKING:
    from torch import Tensor

Name = str | os.PathLike[str]
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
ZIP_LEVEL = 1
"""Frames shrink nearly as much as at level 6, four times faster."""
LARGEST = 400_000_000
"""Most bytes of one file that is read, or of its arrays: an episode of 32,000 frames. What a file
says of its own sizes is compared with this, and with its length, before memory is used."""
HEADERS = threading.Lock()
"""One thread at a time reads a header: numpy parses it with `ast`, which raises a SystemError now
and then if two threads use it (CPython issue 106905; fixed in 3.11.8 and 3.12.2)."""
CHANGED = "is not as it was written (its checksum differs)"
COPY_AGAIN = "copy it again from where it came from"


@contextlib.contextmanager
def replacing(path: Name, *, sync_folder: bool = True) -> Iterator[Path]:
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
        if sync_folder:
            _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be read hides the first error
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Name) -> None:
    """Removes the temporary files that killed processes left in a folder and below."""
    for path in Path(folder).rglob("*.tmp*"):
        found = re.search(r"\.([0-9]+)\.tmp(\.webm)?$", path.name)
        if found and not is_alive(int(found[1])):  # `play` films without the run's lock
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


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Windows and some network disks cannot sync a folder
        _sync(folder)


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
    save_bytes(path, text.encode())


def save_bytes(path: Name, data: bytes) -> None:
    """Writes a file atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def save_together(files: Mapping[Path, bytes]) -> None:
    """Writes files of one folder, each atomically, and syncs them together: that is faster.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        for path, data in files.items():
            temporary = stack.enter_context(replacing(path, sync_folder=False))
            temporary.write_bytes(data)
    for folder in {path.parent for path in files}:
        _sync_folder(folder)


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
        data = json.loads(read_bytes(path).decode("utf-8"))
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
    # safetensors' save_file denies other users to read
    save_bytes(path, save(contiguous, metadata=packed))


def load_tensors(
    path: Name, sha256: str | None = None
) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Reads a safetensors file and its metadata.

    Trap: safetensors opens the file again for the metadata. Beside a writer these would be another
    file's, so tensors and metadata come from the same bytes here.

    Args:
        path: the file.
        sha256: what its bytes must have; None: they may be any.

    Raises:
        InputError: the file is missing, truncated, changed or of another kind.
    """
    from safetensors.torch import load

    with _reading(path, "a safetensors file"):
        data = read_bytes(path)
        if sha256 not in (None, hashlib.sha256(data).hexdigest()):
            raise InputError(f"{path} {CHANGED}: {COPY_AGAIN}")
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header.get("__metadata__", {}).get("worldmodels", "{}"))
        return tensors, dict(about)


def save_arrays(path: Name, **arrays: Any) -> None:
    """Writes a compressed npz atomically."""
    save_bytes(path, pack_arrays(**arrays))


def pack_arrays(**arrays: Any) -> bytes:
    """The contents of a compressed npz.

    Differs: `np.savez_compressed` writes the time of day into the file.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            # the one name that Python 3.11 to 3.13 know
            member._compresslevel = ZIP_LEVEL  # type: ignore[attr-defined]
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return packed.getvalue()


def load_arrays(
    path: Name, command: str = "worldmodels collect", sha256: str | None = None
) -> dict[str, np.ndarray]:
    """Reads an npz file without unpickling anything.

    Args:
        path: the file.
        command: makes the file again; the error names it.
        sha256: what its bytes must have; None: they may be any.

    Raises:
        InputError: the file is missing, truncated, changed or of another kind.
    """
    fix = f"delete it and run `{command}` again"
    with _reading(path, "an npz file", fix):
        data = read_bytes(path)
        if sha256 not in (None, hashlib.sha256(data).hexdigest()):
            raise InputError(f"{path} {CHANGED}: {fix}")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = members_of(archive)
            return {name: read_member(archive, member) for name, member in members.items()}


def members_of(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an open npz by their names, from its directory alone.

    Raises:
        ValueError: together they are larger than LARGEST; a small file may claim any size.
    """
    found = [member for member in archive.infolist() if member.filename.endswith(".npy")]
    if (size := sum(member.file_size for member in found)) > LARGEST:
        raise ValueError(f"its arrays have {size:,} bytes, more than {LARGEST:,}")
    return {member.filename.removesuffix(".npy"): member for member in found}


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """An array of an open npz, whose header is compared with its length first.

    Raises:
        ValueError: it is not an array of numbers or text, or of another size than it says.
    """
    with archive.open(member) as file:
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise ValueError(f"{member.filename} holds no {dtype} of shape {shape}")
        flat = np.frombuffer(bytearray(file.read()), dtype)
        return flat.reshape(shape, order="F" if fortran else "C")


def read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype of an npy, as its header says."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with HEADERS:
        return readers[np.lib.format.read_magic(file)](file)


def require_regular(path: Name) -> None:
    """Checks that a file that is there is no pipe or device, which might never end.

    Raises:
        InputError: it is one.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is a pipe or a device: name a file")


def file_hash(*paths: Name) -> str:
    """SHA-256 of the bytes of a file, or of several in their order, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with _reading(path, "readable"):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def read_bytes(path: Name) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: it is larger than LARGEST.
    """
    with open(path, "rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > LARGEST:
            raise ValueError(f"it has {size:,} bytes, more than {LARGEST:,}")
        return file.read(size)  # trap: as many bytes as are asked for are reserved first


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
    require_regular(path)
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing: check the name or run the stage that makes it"
        ) from None
    # other bytes make the readers raise nearly anything: zlib, struct, syntax, attribute errors
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is truncated or not {kind} ({reason}): {fix}") from error
