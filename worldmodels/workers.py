"""Jobs on this process, or on local worker processes that are replaced when they die."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import cv2
import torch

from worldmodels.calls import begin_notes, blame, end_hung
from worldmodels.errors import InputError
from worldmodels.precision import Precision, get_precision, set_precision
from worldmodels.ranges import PositiveFloat, Range
from worldmodels.run import cores, progress

if TYPE_CHECKING:
    from tqdm import tqdm

Result = TypeVar("Result")
ATTEMPTS = 4
"""Most pools of workers for the same jobs: one that loses a worker is replaced."""
MOST_BLAMED = 50
"""Most pools that the calls of environments may end: each such call is made only once."""


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """Processes for real environments. Results do not depend on their number."""

    processes: Annotated[int, Range(0, 1024)] = 0
    """Worker processes; 0: one per core; 1: this process does the work."""
    timeout: PositiveFloat = 3600.0
    """Seconds without any finished job after which the processes hang, and others replace them,
    with twice the time. A job is a few episodes side by side."""

    @property
    def count(self) -> int:
        return self.processes or cores()


def run_jobs(
    function: Callable[..., Result],
    jobs: Sequence[tuple[Any, ...]],
    workers: WorkersConfig,
    label: str | None = None,
    *,
    threads: bool = False,
    apart: bool = False,
) -> list[Result]:
    """Calls function(*job) for every job.

    Each job runs on one thread, so its bits are the same wherever it runs. A job whose worker dies
    runs again.

    Args:
        function: what a job does.
        jobs: arguments of each call.
        workers: where the jobs run.
        label: of the progress bar; none: no bar.
        threads: runs the jobs on threads of this process, as many as there would be processes.
        apart: runs a single job on a worker process too, unless workers.processes is 1.

    Returns:
        The results in the order of the jobs.

    Raises:
        InputError: workers died or hung again and again.
    """
    results: dict[int, Result] = {}
    here = workers.count == 1 or (len(jobs) == 1 and not apart)
    run = _here if here else _in_threads if threads else _in_processes
    completed = run(function, jobs, workers)
    bar: tqdm[Any] = progress(len(jobs), label or "", disable=None if label else True)
    with bar:
        for index, result in completed:
            results[index] = result
            bar.update()
    return [results[i] for i in range(len(jobs))]


def _here(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], _: WorkersConfig
) -> Iterator[tuple[int, Result]]:
    for index, job in enumerate(jobs):
        with one_thread():
            result = function(*job)
        yield index, result


def _in_threads(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], workers: WorkersConfig
) -> Iterator[tuple[int, Result]]:
    # threads inherit the number of threads of the one that starts them
    with one_thread(), ThreadPoolExecutor(min(workers.count, len(jobs))) as pool:
        yield from enumerate(pool.map(function, *zip(*jobs, strict=True)))


def _in_processes(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], workers: WorkersConfig
) -> Iterator[tuple[int, Result]]:
    from loky import get_reusable_executor

    left, hung, died, blamed, reason = dict(enumerate(jobs)), 0, 0, 0, ""
    begin_notes()
    while hung + died < ATTEMPTS and blamed < MOST_BLAMED:
        seconds = workers.timeout * 2 ** (hung + died)  # it may be a slow machine
        # a pool that began with another precision is replaced: its arguments differ
        begun, members = (os.getpid(), get_precision()), list[Any]()
        pool = get_reusable_executor(
            workers.count, timeout=300, initializer=_begin_worker, initargs=begun
        )
        try:
            futures = {pool.submit(function, *job): index for index, job in left.items()}
            members += pool._processes.values()
            for future in _completed(futures, members, seconds):
                result = future.result()
                del left[futures[future]]
                yield futures[future], result
            return
        except Empty:
            # trap: without waiting, loky's next pool forgets that these are to be killed
            pool.shutdown(wait=True, kill_workers=True)
            hung += 1
        except BrokenProcessPool:  # loky's errors derive from it; its next pool is a fresh one
            found = blame(members)
            died, blamed, reason = died + (not found), blamed + bool(found), found or ""
        except BaseException:  # Ctrl-C or a failed job: the other jobs must not go on
            pool.shutdown(wait=False, kill_workers=True)
            raise
    raise InputError(
        f"worker processes died {died + blamed} times and hung {hung} times, the last time with "
        f"{len(left)} of {len(jobs)} jobs left{f' ({reason})' if reason else ''}: if memory is "
        "short, set workers.processes lower; if the jobs are slow, set workers.timeout higher than "
        f"{workers.timeout:g} seconds"
    )


def _completed(
    futures: Iterable[Future[Result]], members: Sequence[Any], seconds: float
) -> Iterator[Future[Result]]:
    """The futures as they are done; meanwhile workers that hang in a call are ended.

    Raises:
        Empty: none is done within some seconds.
    """
    waiting, last = set(futures), time.monotonic()
    while waiting:
        done, waiting = wait(waiting, timeout=min(1.0, seconds), return_when=FIRST_COMPLETED)
        end_hung(members)
        if not done and time.monotonic() - last > seconds:
            raise Empty
        for future in done:
            yield future
            last = time.monotonic()


def _begin_worker(parent: int, precision: Precision) -> None:
    set_precision(precision)
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this worker soon after its parent."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch and OpenCV on one thread, as in a worker."""
    # trap: in a fork of a process with threads these calls never return, so none is made in vain
    before = torch.get_num_threads(), cv2.getNumThreads()
    if before != (1, 1):
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        if before != (1, 1):
            torch.set_num_threads(before[0])
            cv2.setNumThreads(before[1])
