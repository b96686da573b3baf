"""Temporary folders that name their process, so that those of killed processes are found again."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PREFIX = "worldmodels-"
"""Then the kind, `_system()`, the process id and a random name, with hyphens between them."""

ARGUMENTS = "arguments"
"""The file in which a game's launcher notes them."""
SHARED = Path("/dev/shm")
MARK = "left"
"""The file that marks the folder of a game whose memory is not known."""
SETTLED = 10.0
"""Seconds after which a process that has made shared memory uses it."""


def temporary_folder(kind: str) -> Path:
    """A new temporary folder of a kind (letters), which the caller removes."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-{_system()}-{os.getpid()}-"))


@contextlib.contextmanager
def using_temporary_folder(kind: str) -> Iterator[Path]:
    """A temporary folder during a block. Those that killed processes left behind are removed."""
    remove_left_behind()
    folder = temporary_folder(kind)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def owner_of(folder: Path) -> int | None:
    """The process that made a temporary folder; None: it is another folder, or another system's."""
    found = re.fullmatch(rf"{PREFIX}[a-z]+-{_system()}-([0-9]+)-.*", folder.name)
    return int(found[1]) if found else None


def remove_left_behind() -> None:
    """Removes this user's temporary folders whose process is dead, and its shared memory.

    Linux only.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # there is no temporary folder, or another removes them too
        found = list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
        # those first whose memory is known: the rest is then that of games without arguments
        for folder in sorted(found, key=lambda path: not (path / ARGUMENTS).exists()):
            owner, mine = owner_of(folder), folder.lstat().st_uid == os.getuid()
            dead = owner is not None and mine and is_alive(owner) is False
            if owner and dead and _remove_shared_memory(folder, owner):
                shutil.rmtree(folder, ignore_errors=True)


def _remove_shared_memory(folder: Path, owner: int) -> bool:
    """Removes the semaphores of a dead process's pool, and the memory of the game in a folder.

    The launcher of a game notes its arguments in the folder. Where it was killed before, the folder
    is marked, and a command some seconds later removes what is newer than the folder, older than
    the mark, and used by no process. Returns whether the folder may go.
    """
    for semaphore in _mine(f"sem.loky-{owner}-*"):
        _unlink(semaphore)
    if not folder.name.startswith(f"{PREFIX}doom-"):
        return True
    with contextlib.suppress(OSError, ValueError, IndexError):
        words = (folder / ARGUMENTS).read_text().split()
        engine = words[words.index("+viz_instance_id") + 1]
        for name in ("SM", "MQCtr", "MQDoom") if engine.isalnum() else ():
            _unlink(SHARED / f"ViZDoom{name}{engine}")
        return True
    mark = folder / MARK
    with contextlib.suppress(OSError):
        if not mark.exists():
            made = folder.lstat().st_mtime
            mark.touch()
            os.utime(folder, (made, made))  # the mark is not a change of the game's
        begun, marked = folder.lstat().st_mtime, mark.lstat().st_mtime
        if time.time() < marked + SETTLED:
            return False
        for memory in _mine("ViZDoom*"):
            if begun <= memory.lstat().st_mtime <= marked and not _is_used(memory):
                _unlink(memory)
        return True
    return False


def _is_used(memory: Path) -> bool:
    """Whether a process that is visible uses shared memory."""
    return any(str(memory) in _read(maps) for maps in Path("/proc").glob("[0-9]*/maps"))


def _mine(pattern: str) -> list[Path]:
    """This user's shared memory by its name."""
    found = []
    for path in SHARED.glob(pattern):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.getuid():
                found.append(path)
    return found


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _read(path: Path) -> str:
    """A file of a process, empty if the process has ended or is another user's."""
    try:
        return path.read_text()
    except OSError:
        return ""


def is_alive(process: int) -> bool | None:
    """Whether a process of this system runs; a zombie does not. None: it is unknown."""
    if sys.platform != "linux":
        return None
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False if Path("/proc/self").exists() else None
    except OSError:  # such as too many open files
        return None


@cache
def _system() -> str:
    """Tells machines, and the containers on them, apart: each has its own process ids."""
    space = Path("/proc/self/ns/pid")
    name = f"{platform.node()} {space.readlink() if space.is_symlink() else ''}"
    return f"{zlib.crc32(name.encode()):08x}"
