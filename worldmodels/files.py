"""Files that are whole or not there, and byte-stable: text, JSON, safetensors, npz."""

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldmodels.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Name = str | os.PathLike[str]
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
FAST = 1
"""zlib's level: frames shrink nearly as much as at 6, four times faster."""


@contextlib.contextmanager
def replacing(path: Name) -> Iterator[Path]:
    """Temporary file beside `path` that takes its place when the block succeeds.

    A reader sees the old file or the whole new one, never half of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_text(path: Name, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_json(path: Name, data: object) -> None:
    """Write JSON atomically; NaN becomes null, as JSON has none."""
    text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    save_text(path, text + "\n")


def load_json(path: Name) -> Any:
    """Read JSON; an InputError names a file that is missing or broken."""
    with _reading(path, "JSON"):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def save_tensors(
    path: Name, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically; equal tensors and metadata give equal bytes."""
    from safetensors.torch import save

    # one entry: safetensors writes several in random order
    packed = {"worldmodels": json.dumps(dict(metadata or {}), sort_keys=True)}
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:  # safetensors' own save_file hides files from other users
        temporary.write_bytes(save(contiguous, metadata=packed))


def load_tensors(path: Name) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Read a safetensors file and its metadata; an InputError names one missing or broken."""
    from safetensors import safe_open

    with _reading(path, "safetensors"), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads((file.metadata() or {}).get("worldmodels", "{}"))


def save_arrays(path: Name, **arrays: Any) -> None:
    """Write a compressed npz atomically; equal arrays give equal bytes.

    Differs: `np.savez_compressed` stamps the members with the time of day; these have none.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            # the only name that all Pythons know
            member._compresslevel = FAST  # type: ignore[attr-defined]
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def load_arrays(path: Name, command: str = "scripts/collect.py") -> dict[str, np.ndarray]:
    """Read an npz file, without pickle; an InputError names one missing or broken."""
    fix = f"delete it and run `{command}` again"
    # opened here: np.load leaves a broken file open, and advises pickle for a foreign one
    with _reading(path, "npz", fix), open(path, "rb") as file:
        with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def file_hash(path: Name) -> str:
    """sha256 of a file's bytes, in hex."""
    return files_hash([path])


def files_hash(paths: Iterable[Name]) -> str:
    """sha256 of the files' bytes one after the other, in the given order, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with _reading(path, "file"):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def plain(data: Any) -> Any:
    """Data with JSON's types only: arrays and paths unwrapped, NaN and infinities as None."""
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
            f"{path} is missing: check the name, or run the stage that makes it first"
        ) from None
    # foreign bytes make the readers raise nearly anything: zlib, struct, syntax, attribute errors
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is truncated or no {kind} ({reason}): {fix}") from error
