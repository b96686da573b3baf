"""The manifest of a folder of episodes: what each file held when it was written.

Sizes are compared when the folder is opened, checksums when a file is read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, TypedDict

from msgspec import Meta

from worldmodels.errors import InputError
from worldmodels.files import save_json
from worldmodels.schema import load_like

MANIFEST = "manifest.json"
NAME = re.compile(r"[\w-]+\.npz", re.ASCII)
SEED = "seed"
"""The array of an episode's file that holds the seed of its environment."""


class Entry(TypedDict):
    """What the manifest says of a file."""

    sha256: str
    bytes: Annotated[int, Meta(ge=0)]
    steps: Annotated[int, Meta(ge=1)]
    seed: int | None
    """Of the environment; None: it is not known."""


class _Manifest(TypedDict):
    episodes: dict[str, Entry]


def entry_of(contents: bytes, steps: int, seed: int | None = None) -> Entry:
    """The entry of a file."""
    sha256 = hashlib.sha256(contents).hexdigest()
    return {"sha256": sha256, "bytes": len(contents), "steps": steps, "seed": seed}


def load_manifest(folder: Path) -> dict[str, Entry]:
    """The entries of a folder's files by their names; none for a folder of an older version.

    Raises:
        InputError: the manifest is broken.
    """
    path = folder / MANIFEST
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return _read(path, found.st_mtime_ns, found.st_ino)


@lru_cache(maxsize=64)
def _read(path: Path, *_: int) -> dict[str, Entry]:
    """Read again when it has changed."""
    entries: dict[str, Entry] = load_like(path, _Manifest)["episodes"]
    if wrong := next((name for name in entries if not NAME.fullmatch(name)), None):
        raise InputError(f"{path} names {wrong!r}, which is not an episode file: delete it")
    return entries


def save_manifest(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Writes the manifest, sorted by name."""
    save_json(folder / MANIFEST, {"episodes": dict(sorted(entries.items()))})


def check_sizes(folder: Path, command: str) -> None:
    """Checks that every file of the manifest is there and has its size.

    Raises:
        InputError: one is missing or changed; `command` makes it again.
    """
    entries = load_manifest(folder)
    sizes = {one.name: one.stat().st_size for one in os.scandir(folder)} if entries else {}
    for name, entry in entries.items():
        if name not in sizes:
            raise InputError(f"{folder / name} is missing: run `{command}` again")
        if sizes[name] != entry["bytes"]:
            raise InputError(
                f"{folder / name} is truncated or another file (it has {sizes[name]} bytes, "
                f"{entry['bytes']} were written): delete it and run `{command}` again"
            )
