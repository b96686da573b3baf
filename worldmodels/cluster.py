"""Jobs on the nodes of a Ray cluster. A node needs the same packages, and no file of a run."""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache, lru_cache, partial
from typing import Any, TypeVar

import numpy as np

from worldmodels.errors import InputError, install
from worldmodels.versions import package_versions

Result = TypeVar("Result")
Kind = TypeVar("Kind", bound=Hashable)
RETRIES = 3
"""Further attempts of a job whose worker or node is lost."""
CONNECT_SECONDS = 10.0
PREFIX = "WORLDMODELS_"
"""Of the environment variables that a command's processes share."""
KEPT = 64
"""Most objects of `send_once` that the head holds for the nodes."""
_contents: dict[type, Callable[[Any], Any]] = {}
_once: set[type] = set()
_received: dict[Hashable, Any] = {}
"""References to the contents of what came with jobs."""


def send_contents(kind: type[Kind], contents: Callable[[Kind], Any]) -> None:
    """Lets `contents(one)` go with each `one` of a kind that names files of this machine.

    They go once to each node, however many jobs have them; `received` gives them there.
    """
    _contents[kind] = contents


def send_once(kind: type[Any]) -> None:
    """Lets an object of a kind go once to each node, however many jobs have it.

    A worker keeps the last few, so what they keep for themselves serves later jobs. Objects are
    told apart by their identity.
    """
    _once.add(kind)


def received(one: Hashable) -> Any:
    """The contents that came with `one` from another machine; None: it is this machine's own."""
    if one not in _received:
        return None
    import ray

    return ray.get(_received[one])


def on_cluster(
    function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], address: str, timeout: float
) -> Iterator[tuple[int, Result]]:
    """The result of function(*job) for every job, with the job's index, as they end.

    An array that several jobs share goes once to each node.

    Ray does a job again whose worker or node is lost. A job is left out if that happens four times,
    or if no job ends for some seconds.

    Args:
        function: what a job does; it goes once to each node.
        jobs: arguments of each call.
        address: of the cluster: HOST:PORT, or `auto` on one of its nodes.
        timeout: these seconds.

    Raises:
        InputError: Ray is missing, no cluster answers, or a node's packages differ.
    """
    ray = _connected(address)
    shared, packages = ray.put(function), tuple(package_versions().items())
    variables = tuple(sorted(pair for pair in os.environ.items() if pair[0].startswith(PREFIX)))
    task = _task(ray).options(max_retries=RETRIES)
    sent = _with_references(ray, jobs)
    running = {
        task.remote(packages, variables, shared, *job): index for index, job in enumerate(sent)
    }
    try:
        for ref in _ended(ray, list(running), timeout):
            try:
                result = ray.get(ref, timeout=timeout)
            except ray.exceptions.RayTaskError as error:
                raise _cause(error) from None
            except ray.exceptions.RayError:
                continue
            yield running.pop(ref), result
    finally:
        for ref in running:
            ray.cancel(ref, force=True)


def _with_references(ray: Any, jobs: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The jobs with a reference for each array that several of them share."""
    arrays = {id(part): part for job in jobs for part in job if isinstance(part, np.ndarray)}
    count = Counter(id(part) for job in jobs for part in job if id(part) in arrays)
    references = {key: ray.put(arrays[key]) for key, jobs_of in count.items() if jobs_of > 1}
    return [tuple(references.get(id(part), part) for part in job) for job in jobs]


def _ended(ray: Any, left: list[Any], timeout: float) -> Iterator[Any]:
    last = time.monotonic()
    while left and time.monotonic() - last < timeout:
        # one call a second, not one a job: each looks at all that are left
        done, left = ray.wait(left, num_returns=len(left), timeout=min(1.0, timeout))
        for ref in done:
            yield ref
            last = time.monotonic()


@cache
def _task(ray: Any) -> Any:
    return ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_job)


def _job(
    packages: tuple[tuple[str, str], ...],
    variables: tuple[tuple[str, str], ...],
    function: Callable[..., Result],
    *job: Any,
) -> Result:
    """A job on a node."""
    _begin_worker(packages, variables)
    return function(*job)


@cache
def _begin_worker(
    packages: tuple[tuple[str, str], ...], variables: tuple[tuple[str, str], ...]
) -> None:
    """Gives a worker the command's settings, once.

    Raises:
        InputError: its packages are other ones.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.update(variables)
    theirs, ours = package_versions(), dict(packages)
    for name in sorted({*theirs, *ours}):
        if (found := theirs.get(name)) != (needed := ours.get(name)):
            cure = "set it to float32" if name == "precision" else "install the same on all nodes"
            raise InputError(
                f"{name} is {found or 'missing'} on node {platform.node()}, but "
                f"{needed or 'missing'} here: {cure}"
            )


def _connected(address: str) -> Any:
    """The module ray, connected to a cluster."""
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"workers.backend is ray, but Ray is missing: run {install('ray')} on all nodes"
        ) from error
    if not ray.is_initialized():
        try:
            if address != "auto":  # Ray itself waits for minutes, and says so every few seconds
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
            ray.init(address=address, logging_level=logging.WARNING)
        except Exception as error:  # Ray raises several kinds
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"workers.address is {address}, but no cluster answers there ({reason}): begin the "
                "command on a node of the cluster; `ray start --head` makes this machine one"
            ) from error
        _put.cache_clear()
        _put_state.cache_clear()
    for kind, contents in _contents.items():
        packing = {"serializer": partial(_pack, contents), "deserializer": _unpack}
        ray.util.register_serializer(kind, **packing)
    for kind in _once:
        ray.util.register_serializer(kind, serializer=_put_state, deserializer=_made_once)
    return ray


def _pack(contents: Callable[[Any], Any], one: Any) -> tuple[type, dict[str, Any], Any]:
    return type(one), vars(one), _put(contents, one)


@cache
def _put(contents: Callable[[Any], Any], one: Any) -> Any:
    import ray

    return ray.put(contents(one))


def _unpack(packed: tuple[type, dict[str, Any], Any]) -> Any:
    kind, fields, reference = packed
    one = kind(**fields)
    _received[one] = reference
    return one


@lru_cache(maxsize=KEPT)
def _put_state(one: Any) -> tuple[type, Any]:
    import ray

    return type(one), ray.put(one.__getstate__())


@lru_cache(maxsize=4)
def _made_once(sent: tuple[type, Any]) -> Any:
    import ray

    kind, reference = sent
    one: Any = object.__new__(kind)
    one.__dict__.update(ray.get(reference))
    return one


def _cause(error: Any) -> BaseException:
    """What a job raised, or why a node could not begin it."""
    cause = getattr(error.cause, "client_exc", error.cause)
    if isinstance(cause, ImportError):
        return InputError(f"a node cannot run a job ({cause}): install it on all nodes")
    return cause if isinstance(cause, BaseException) else error
