"""Jobs in this process, in local processes that are replaced when they die, or on a cluster."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import cv2
import torch

from worldmodels.calls import begin_notes, blame, end_hung
from worldmodels.cluster import on_cluster
from worldmodels.errors import InputError
from worldmodels.precision import Precision, get_precision, set_precision
from worldmodels.ranges import PositiveFloat, Range
from worldmodels.run import cores, progress, say

if TYPE_CHECKING:
    from tqdm import tqdm

Result = TypeVar("Result")
Completed = Generator[tuple[int, Result], None, None]
"""Results with the indices of their jobs, in the order of completion."""
ATTEMPTS = 4
"""Maximum number of worker pools for the same jobs: a pool that loses a worker is replaced."""
SIDE_BY_SIDE = 32
"""Maximum number of parallel evolutions on a cluster: each keeps its dreams in memory."""
MOST_BLAMED = 50
"""Maximum number of pools that environments may end: each such call is made only once."""


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """Where episodes are played. Results do not depend on it."""

    backend: Literal["local", "ray"] = "local"
    """`local`: processes of this machine; `ray`: all processor cores of a Ray cluster."""
    address: str = "auto"
    """Address of the Ray cluster: HOST:PORT, or `auto` on one of its nodes."""
    processes: Annotated[int, Range(0, 1024)] = 0
    """Local worker processes, or threads for dreams; 0: one per core; 1: this process does the
    work."""
    timeout: PositiveFloat = 3600.0
    """Seconds without a finished job after which the processes are replaced; the new ones get twice
    the time. A job is a few episodes in parallel."""

    @property
    def count(self) -> int:
        return self.processes or cores()

    @property
    def at_once(self) -> int:
        """Number of parallel evolutions: a generation has at least two jobs."""
        return SIDE_BY_SIDE if self.backend == "ray" else max(1, self.count // 2)


def run_jobs(
    function: Callable[..., Result],
    jobs: Sequence[tuple[Any, ...]],
    workers: WorkersConfig,
    label: str | None = None,
    *,
    threads: bool = False,
    apart: bool = False,
    keep: Callable[[Any], Any] | None = None,
) -> list[Any]:
    """Calls function(*job) for every job.

    A job changes nothing, and runs on one thread: its bits are the same wherever it runs, and
    however often. A job whose worker dies runs again.

    Args:
        function: what a job does.
        jobs: arguments of each call.
        workers: where the jobs run.
        label: of the progress bar; none: no bar.
        threads: takes threads of this process in place of local ones, as many.
        apart: runs a single job on a worker too, unless workers.processes is 1.
        keep: is given each result as soon as it is there, in this process, such as to write a file;
            what it returns takes the result's place.

    Returns:
        The results in the order of the jobs.

    Raises:
        InputError: workers died or hung again and again.
    """
    results: dict[int, Any] = {}
    ray = workers.backend == "ray"
    here = not jobs or (len(jobs) == 1 and not apart) or (workers.count == 1 and not ray)
    local: Callable[..., Completed[Result]] = _in_threads if threads else _in_processes
    run = _here if here else partial(_on_ray, local) if ray else local
    bar: tqdm[Any] = progress(len(jobs), label or "", disable=None if label else True)
    with bar, closing(run(function, jobs, workers)) as completed:
        for index, result in completed:
            results[index] = keep(result) if keep else result
            bar.update()
    return [results[i] for i in range(len(jobs))]


def _here(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], _: WorkersConfig
) -> Completed[Result]:
    for index, job in enumerate(jobs):
        yield index, _on_one_thread(function, *job)


def _on_one_thread(function: Callable[..., Result], *job: Any) -> Result:
    with one_thread():
        return function(*job)


def _on_ray(
    local: Callable[..., Completed[Result]],
    function: Callable[..., Result],
    jobs: Sequence[tuple[Any, ...]],
    workers: WorkersConfig,
) -> Completed[Result]:
    left, alone = dict(enumerate(jobs)), partial(_on_one_thread, function)
    for index, result in on_cluster(alone, jobs, workers.address, workers.timeout):
        del left[index]
        yield index, result
    if left:  # local processes tell which call of an environment hangs or ends its process
        say(f"{len(left)} of {len(jobs)} jobs did not end on the cluster: they run here")
        indices = list(left)
        for position, result in local(function, list(left.values()), workers):
            yield indices[position], result


def _in_threads(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], workers: WorkersConfig
) -> Completed[Result]:
    # threads inherit the number of threads of the one that starts them
    with one_thread(), ThreadPoolExecutor(min(workers.count, len(jobs))) as pool:
        yield from enumerate(pool.map(function, *zip(*jobs, strict=True)))


def _in_processes(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], workers: WorkersConfig
) -> Completed[Result]:
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
            for future in _completed(set(futures), members, seconds):
                index, result = futures.pop(future), future.result()  # none is kept in memory
                del left[index]
                yield index, result
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
    waiting: set[Future[Result]], members: Sequence[Any], seconds: float
) -> Iterator[Future[Result]]:
    """The futures as they are done; meanwhile workers that hang in a call are ended.

    Raises:
        Empty: none is done within some seconds.
    """
    last = time.monotonic()
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
