"""Calls of a user's environment: limited in time, and recorded for the parent process.

A worker may die inside a call without an error, or hang in compiled code. So it records each call
in a file. The parent process reads the file, ends a worker that hangs, and reports the lost call;
the job then runs again up to that call.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import mmap
import os
import shutil
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from worldmodels.temporary import owner_of, remove_left_behind, temporary_folder

Result = TypeVar("Result")
VARIABLE = "WORLDMODELS_CALLS"
"""Names the folder of the notes; child processes inherit it."""
LOST = "lost"
"""The file that lists lost calls."""
GRACE = 5.0
"""Seconds after its limit at which the process of a call is killed: Python's own code has then had
its chance to be interrupted."""
SIGKILL = 9  # Windows has no name for it
KILLED = (None, -signal.SIGTERM, -SIGKILL)
"""Exit codes of workers that did not end by themselves: they are ended when another one dies."""
HUNG = "it did not return within env.step_timeout"
_ended = set[int]()  # processes that were killed in a call
FORMAT = struct.Struct("=?qqd")


class Call(NamedTuple):
    """A note: whether a process is inside a call, and which."""

    inside: bool
    seed: int
    step: int
    end: float
    """When it must have returned, by the monotonic clock; infinity outside of a call.

    So a note that is read while it is written, part old and part new, is not late.
    """


class TimeLimitError(BaseException):
    """A call lasts too long. No environment catches it by mistake: it is no Exception."""


def limited(
    function: Callable[..., Result], seed: int, step: int, seconds: float, *arguments: Any
) -> Result:
    """Calls a function, for at most some seconds.

    Raises:
        TimeLimitError: they have passed. Only a main thread is interrupted, and only in Python.
    """
    timed = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    before = signal.signal(signal.SIGALRM, _interrupt) if timed else None
    _write(Call(True, seed, step, time.monotonic() + seconds))
    try:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
        return function(*arguments)
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        _write(Call(False, seed, step, math.inf))


def begin_notes() -> None:
    """Lets the processes that this one starts note their calls."""
    if VARIABLE not in os.environ:
        remove_left_behind()
        folder = temporary_folder("calls")
        os.environ[VARIABLE] = str(folder)
        atexit.register(end_notes, folder)


def end_notes(folder: Path | None = None) -> None:
    """Removes the notes, if this process began them; when it exits this is done by itself.

    Args:
        folder: of the notes; None: the one that the environment names.
    """
    folder = folder or _folder()
    if folder is not None and owner_of(folder) == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


def why_lost(seed: int, step: int) -> str | None:
    """Why a call may not be made again; None: it may."""
    return _lost().get((seed, step))


def blame(processes: Iterable[Any]) -> str | None:
    """Lists the calls in which processes ended by themselves as lost; the last reason of an end.

    Args:
        processes: have a `pid` and an `exitcode`, None while they run.
    """
    found = None
    for process in processes:
        call = _read(process.pid or 0)
        if process.pid in _ended:
            found = HUNG
        elif call and call.inside and process.exitcode not in KILLED:
            found = f"its process ended without a word ({_how(process.exitcode or 0)})"
            _lose(call, found)
    return found


def end_hung(processes: Iterable[Any]) -> None:
    """Kills the processes whose call has lasted too long, and lists it as lost."""
    for process in processes:
        call = _read(process.pid or 0)
        late = call and is_late(call) and _read(process.pid or 0) == call  # no half note
        if call and late and process.pid and process.pid not in _ended:
            _lose(call, HUNG)
            _ended.add(process.pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, SIGKILL)


def is_late(call: Call) -> bool:
    """Whether a call should have been interrupted by now."""
    return call.inside and time.monotonic() > call.end + GRACE


def _interrupt(*_: object) -> NoReturn:
    raise TimeLimitError


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _folder() -> Path | None:
    return Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None


@cache
def _note(pid: int) -> mmap.mmap | None:  # noqa: ARG001  (a forked process needs its own)
    folder = _folder()
    if folder is None or not folder.is_dir():
        return None
    with open(folder / str(os.getpid()), "wb+") as file:
        file.write(FORMAT.pack(False, -1, 0, math.inf))
        file.flush()
        return mmap.mmap(file.fileno(), FORMAT.size)


def _write(call: Call) -> None:
    if VARIABLE in os.environ and (note := _note(os.getpid())) is not None:
        note[:] = FORMAT.pack(*call)  # trap: `pack_into` writes zeros first


def _read(pid: int) -> Call | None:
    folder = _folder()
    try:
        return Call(*FORMAT.unpack((folder / str(pid)).read_bytes())) if folder else None
    except (OSError, struct.error):
        return None


def _lose(call: Call, why: str) -> None:
    folder = _folder()
    assert folder is not None
    with open(folder / LOST, "a", encoding="utf-8") as file:
        file.write(json.dumps([call.seed, call.step, why]) + "\n")


@cache
def _lost() -> dict[tuple[int, int], str]:
    """Read once: processes that begin after a loss see it."""
    folder = _folder()
    file = folder / LOST if folder else None
    if file is None or not file.exists():
        return {}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {(seed, step): why for seed, step, why in rows}
