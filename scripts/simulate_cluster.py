"""Simulates a Ray cluster of up to 10,000 workers from times that are measured here.

    python scripts/simulate_cluster.py measure times.json
    python scripts/simulate_cluster.py simulate times.json

A worker is one core, like those of this machine. Times are processor time, which other programs
change little; those of the head are of the command's process. Needs Linux and Ray.
"""

from __future__ import annotations

import heapq
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli

from worldmodels.acting.environments import ModelFiles, Reality
from worldmodels.acting.evaluate import Evaluation
from worldmodels.artifacts import Bundle, bundle_folder
from worldmodels.cluster import on_cluster
from worldmodels.command_line import read
from worldmodels.config import Config
from worldmodels.data.manifest import entry_of
from worldmodels.files import load_json, save_json
from worldmodels.stages.cmaes import CMAES, CMAConfig
from worldmodels.stages.collect import LANES, Job, Recording, _play, save
from worldmodels.stages.history import History
from worldmodels.versions import circumstances
from worldmodels.workers import SIDE_BY_SIDE, WorkersConfig

WORLDS = {"car_racing_dream": "car_racing", "take_cover": "take_cover"}
"""Bundles, and the configs with which episodes of their environments are collected."""
CONFIGS = Path(__file__).parents[1] / "configs"
POPULATION, ROLLOUTS, EPISODES = 64, 16, 10_000
WORKERS = 1, 10, 100, 1_000, 10_000
CORES = 16
"""Of a node."""


def measure(out: Path, worlds: Sequence[str] = tuple(WORLDS), jobs: int = 3) -> None:
    """Measures the jobs of some environments, and what the head does; continues if it was stopped.

    Args:
        out: the JSON file.
        worlds: names of bundles.
        jobs: how many of each kind.
    """
    torch.set_num_threads(1)
    found = load_json(out) if out.exists() else {"circumstances": circumstances(), "worlds": {}}
    for name in worlds:
        if name not in found["worlds"]:
            found["worlds"][name] = _jobs_of(name, jobs)
            save_json(out, found)
    import ray

    ray.init(num_cpus=1, include_dashboard=False)
    for name in worlds:
        size = found["worlds"][name]["bytes"]
        found["worlds"][name] |= head_seconds(*_evolution(Bundle.load(name), name), size)
        save_json(out, found)


def _evolution(bundle: Bundle, name: str | Path) -> tuple[Evaluation, np.ndarray]:
    """Reality, and the candidates of a generation near the end of an evolution in it."""
    files = ModelFiles.of_bundle(bundle_folder(name))
    reality = Reality(bundle.world, files, bundle.controller)
    best = bundle.parameters.double().numpy()
    noise = np.random.default_rng(0).normal(size=(POPULATION, len(best)))
    return Evaluation(place=reality, workers=WorkersConfig(processes=1)), best + 0.05 * noise


def _jobs_of(name: str, jobs: int) -> dict[str, Any]:
    """Plays some of the `jobs` of such a generation, and some of a first collect."""
    bundle = Bundle.load(name)
    evaluation, candidates = _evolution(bundle, name)
    config = read(Config, CONFIGS / f"{WORLDS[name]}.yaml").collect
    evolve, collect, recordings = [], [], list[Recording]()
    split = evaluation.place.split(POPULATION, ROLLOUTS)
    for number, (numbers, lanes) in enumerate(split[: jobs + 1]):
        begin = _processor_seconds()
        evaluation.play(candidates, numbers, lanes.tolist())
        evolve.append(_processor_seconds() - begin)
        episodes = tuple(range(number * LANES, (number + 1) * LANES))
        job = Job(bundle.world, config, None, 0, 0, episodes, Path("episodes"))
        begin = _processor_seconds()
        recordings = _play(job)
        collect.append(_processor_seconds() - begin)
    weights = (bundle_folder(name) / "weights.safetensors").stat().st_size * 2  # float16 on disk
    sizes = {"bytes": sum(len(one.contents) for one in recordings), "weights": weights}
    # the first job of a process makes the environments
    kept = {"jobs": len(split), "evolve": evolve[1:], "collect": collect[1:], "first": evolve[0]}
    return {**kept, **sizes}


def _processor_seconds() -> float:
    """Processor time of this process and of all that it started, such as Doom's engines."""
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[int(folder.name)] = int(fields[1])
        ticks = int(fields[11]) + int(fields[12])
        seconds[int(folder.name)] = ticks / os.sysconf("SC_CLK_TCK")
    family = {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= new
    return time.process_time() + sum(seconds[pid] for pid in family - {os.getpid()})


def head_seconds(
    evaluation: Evaluation, candidates: np.ndarray, size: int, count: int = 1000
) -> dict[str, Any]:
    """What the head of a connected cluster does, in seconds.

    Args:
        evaluation: goes with the jobs of evolution.
        candidates: of a generation (P, N).
        size: bytes of the episodes of a job of `collect`.
        count: jobs of evolution that are sent; a hundredth as many are of `collect`.

    Returns:
        `evolve_head` and `collect_head`: of each job, by what is done. `generation`: of each
        generation, beside its jobs.
    """
    numbers = np.arange(min(16, len(candidates)))
    jobs = [(evaluation, candidates, numbers.copy(), numbers.tolist()) for _ in range(count)]
    return {
        "evolve_head": _sent(_nothing, jobs),
        "collect_head": _sent(_made, [(size,)] * max(2, count // 100)),
        "generation": _generation(*candidates.shape),
    }


def _nothing(_: Evaluation, candidates: np.ndarray, numbers: np.ndarray, seeds: list[int]) -> Any:
    """A job of evolution that takes no time: what it returns is of the right size."""
    return np.zeros(len(candidates[numbers])), np.zeros(len(seeds), np.int64)


def _made(size: int) -> list[Recording]:
    """A job of collect that takes no time."""
    files = [Path(f"00_{number:06d}.npz") for number in range(LANES)]
    contents = [os.urandom(size // LANES) for _ in files]
    parts = zip(files, contents, strict=True)
    return [Recording(file, one, entry_of(one, 1), 0.0) for file, one in parts]


def _sent(function: Callable[..., Any], jobs: list[Any]) -> dict[str, float]:
    next(on_cluster(function, jobs[:1], "auto", 600.0))  # a worker is there
    begin, submitted, stored, storing = time.process_time(), 0.0, 0.0, 0.0
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for _, result in on_cluster(function, jobs, "auto", 600.0):
            start, busy = _seconds_alone(), time.process_time()
            submitted = submitted or busy - begin  # all were, when the first result is there
            if isinstance(result[0], Recording):
                save([one._replace(file=Path(folder) / one.file.name) for one in result])
                stored += _seconds_alone() - start
                storing += time.process_time() - busy
    received = time.process_time() - begin - submitted - storing
    parts = {"submit": submitted, "receive": received, "store": stored}
    return {name: seconds / len(jobs) for name, seconds in parts.items()}


def _generation(population: int, parameters: int) -> float:
    """Asks, tells, and writes the history."""
    es = CMAES(CMAConfig(population_size=population), np.zeros(parameters), 0)
    start = _seconds_alone()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for _ in range(5):
            told = es.ask().sum(axis=1)
            es.tell(told)
            History("", es.mean, es.mean, [told] * 900).save(Path(folder) / "history.safetensors")
    return (_seconds_alone() - start) / 5


def _seconds_alone() -> float:
    """A clock that stands while other programs have this thread's core; it counts the disk."""
    waited = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    return time.perf_counter() - waited / 1e9


def simulate(times: Path, gigabits: float = 10.0) -> None:
    """Prints what clusters of several sizes do.

    Args:
        times: the file of `measure`.
        gigabits: a second, of the head's network.
    """
    for name, one in load_json(times)["worlds"].items():
        for evolutions in (1, SIDE_BY_SIDE):
            jobs, rest = evolutions * one["jobs"], evolutions * one["generation"]
            print(f"{name}: generations of {evolutions} evolutions side by side, {jobs} jobs")
            print(*_rows(one["evolve"], jobs, one["evolve_head"], evolutions, rest), sep="\n")
        jobs, network = EPISODES // LANES, one["bytes"] * 8 / gigabits / 1e9
        print(f"{name}: collects of {EPISODES} episodes, {jobs} jobs of {one['bytes']:,} bytes")
        print(*_rows(one["collect"], jobs, {**one["collect_head"], "network": network}), sep="\n")
        nodes = max(WORKERS) / CORES
        print(f"V and M once to {nodes:.0f} nodes: {nodes * one['weights'] / 1e9:.1f} GB")


def _rows(
    known: Sequence[float], jobs: int, head: Mapping[str, float], done: int = 1, rest: float = 0.0
) -> Iterator[str]:
    """What is done an hour by clusters of several sizes, and what limits it."""
    seconds = np.random.default_rng(0).choice(known, size=jobs).tolist()
    submit, receive = head["submit"], sum(head.values()) - head["submit"]
    yield "workers    an hour   workers busy   head busy   limited by"
    for workers in WORKERS:
        total = seconds_of(seconds, workers, submit, receive) + rest
        used = sum(seconds) / workers / total
        load = (jobs * sum(head.values()) + rest) / total
        limit = "head" if load > 0.5 else "workers" if used > 0.5 else "number of jobs"
        yield f"{workers:7} {3600 * done / total:10.2f} {used:14.0%} {load:11.1%}   {limit}"


def seconds_of(jobs: Sequence[float], workers: int, submit: float, receive: float) -> float:
    """Seconds until the head has the results of all jobs.

    It submits them one after the other, then receives one result after the other as jobs end. A
    free worker takes the next job.
    """
    free, ends = [0.0] * min(workers, len(jobs)), []
    for number, seconds in enumerate(jobs, 1):
        ends.append(max(heapq.heappop(free), number * submit) + seconds)
        heapq.heappush(free, ends[-1])
    clock = len(jobs) * submit
    for end in sorted(ends):
        clock = max(clock, end) + receive
    return clock


if __name__ == "__main__":
    auto_cli({"measure": measure, "simulate": simulate})
