"""Simulates a Ray cluster of up to 10,000 workers from job times that are measured here.

    python scripts/simulate_cluster.py measure times.json
    python scripts/simulate_cluster.py simulate times.json

A worker is one core. Times are processor time, which other programs on this machine change little.
The head submits all jobs of a generation, takes the results as they come, and updates the
evolutions. Nodes have cores like this one. Needs Linux and Ray.
"""

from __future__ import annotations

import heapq
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
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
"""Bundles, and the configs by which their worlds are collected."""
CONFIGS = Path(__file__).parents[1] / "configs"
POPULATION, ROLLOUTS, EPISODES = 64, 16, 10_000
WORKERS = 1, 10, 100, 1_000, 10_000
CORES = 16
"""Of a node."""
DAEMONS = "raylet", "gcs_server"


def measure(out: Path, worlds: Sequence[str] = tuple(WORLDS), jobs: int = 3) -> None:
    """Measures the jobs of some worlds, and what the head does for each; goes on if it is stopped.

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

    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=400 * 2**20)
    for name in worlds:
        evaluation, candidates = _evolution(name)
        files = [Path(f"00_{number:06d}.npz") for number in range(LANES)]
        contents = os.urandom(found["worlds"][name]["bytes"] // LANES)
        recordings = [Recording(file, contents, entry_of(contents, 1), 0.0) for file in files]
        found["worlds"][name] |= {
            "evolve_head": _head(evaluation, candidates, _nothing, 1000),
            "collect_head": _head(evaluation, candidates, partial(_made, recordings), 20),
            "generation": _generation(candidates.shape[1]),
        }
        save_json(out, found)


def _evolution(name: str) -> tuple[Evaluation, np.ndarray]:
    """Reality, and the candidates of a generation near the end of an evolution in it."""
    bundle = Bundle.load(name)
    files = ModelFiles.of_bundle(bundle_folder(name))
    reality = Reality(bundle.world, files, bundle.controller)
    best = bundle.parameters.double().numpy()
    noise = np.random.default_rng(0).normal(size=(POPULATION, len(best)))
    return Evaluation(place=reality, workers=WorkersConfig(processes=1)), best + 0.05 * noise


def _jobs_of(name: str, jobs: int) -> dict[str, Any]:
    """Plays jobs of such a generation, and of a first collect; their processor seconds."""
    evaluation, candidates = _evolution(name)
    config = read(Config, CONFIGS / f"{WORLDS[name]}.yaml").collect
    evolve, collect, recordings = [], [], list[Recording]()
    split = evaluation.place.split(POPULATION, ROLLOUTS)
    for number, (numbers, lanes) in enumerate(split[: jobs + 1]):
        begin = _processor_seconds()
        evaluation.play(candidates, numbers, lanes.tolist())
        evolve.append(_processor_seconds() - begin)
        episodes = tuple(range(number * LANES, (number + 1) * LANES))
        job = Job(evaluation.place.world, config, None, 0, 0, episodes, Path("episodes"))
        begin = _processor_seconds()
        recordings = _play(job)
        collect.append(_processor_seconds() - begin)
    size = sum(len(one.contents) for one in recordings)
    # the first job of a process makes the environments
    weights = (bundle_folder(name) / "weights.safetensors").stat().st_size * 2  # float16 on disk
    sizes = {"bytes": size, "weights": weights}
    return {"evolve": evolve[1:], "collect": collect[1:], "first": evolve[0], **sizes}


def _head(evaluation: Evaluation, parameters: np.ndarray, job: Any, count: int) -> dict[str, float]:
    """Seconds that the head needs to submit a job, to receive its result, and to store it."""
    numbers = np.arange(16)
    arguments = [(evaluation, parameters, numbers.copy(), numbers.tolist()) for _ in range(count)]
    next(on_cluster(_nothing, arguments[:1], "auto", 600.0))  # a worker is there
    begin, first, stored, storing = _head_seconds(), 0.0, 0.0, 0.0
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for _, result in on_cluster(job, arguments, "auto", 600.0):
            first = first or _head_seconds() - begin
            if isinstance(result[0], Recording):
                start, busy = _seconds_alone(), time.process_time()
                save([one._replace(file=Path(folder) / one.file.name) for one in result])
                stored += _seconds_alone() - start
                storing += time.process_time() - busy
    spent = _head_seconds() - begin
    return {
        "submit": first / count,
        "receive": max(spent - first - storing, 0.0) / count,
        "store": stored / count,
    }


def _nothing(_: Evaluation, parameters: np.ndarray, numbers: np.ndarray, seeds: list[int]) -> Any:
    """A job of evolution that takes no time: what it returns is of the right size."""
    return np.zeros(len(parameters[numbers])), np.zeros(len(seeds), np.int64)


def _made(recordings: list[Recording], *_: Any) -> list[Recording]:
    return [one._replace(contents=bytes(bytearray(one.contents))) for one in recordings]


def _generation(parameters: int) -> float:
    """Seconds of the head for a generation: ask, tell, and what is written."""
    es, start = CMAES(CMAConfig(population_size=POPULATION), np.zeros(parameters), 0), 0.0
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for generation in range(6):
            start = start if generation > 1 else _seconds_alone()
            told = es.ask().sum(axis=1)
            es.tell(told)
            History("", es.mean, es.mean, [told] * 900).save(Path(folder) / "history.safetensors")
    return (_seconds_alone() - start) / 5


def _seconds_alone() -> float:
    """The clock without the time in which other programs had this thread's core."""
    waited = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    return time.perf_counter() - waited / 1e9


def _stat(process: str | int) -> tuple[str, int, float]:
    """Name, parent and processor seconds of a process."""
    name, _, rest = Path(f"/proc/{process}/stat").read_text().partition("(")[2].rpartition(")")
    fields = rest.split()
    ticks = int(fields[11]) + int(fields[12])
    return name, int(fields[1]), ticks / os.sysconf("SC_CLK_TCK")


def _all_processes() -> dict[int, tuple[str, int, float]]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = _stat(folder.name)
        except OSError:  # it has just ended
            continue
    return found


def _processor_seconds() -> float:
    """Processor time of this process and of all that it started, such as Doom's engines."""
    known, family = _all_processes(), {os.getpid()}
    while new := {pid for pid, one in known.items() if one[1] in family} - family:
        family |= new
    return time.process_time() + sum(known[pid][2] for pid in family - {os.getpid()})


def _head_seconds() -> float:
    """Processor time of this process and of Ray's daemons beside it."""
    children = (one for one in _all_processes().values() if one[1] == os.getpid())
    return time.process_time() + sum(one[2] for one in children if one[0] in DAEMONS)


def simulate(times: Path, gigabits: float = 10.0) -> None:
    """Prints what clusters of several sizes do.

    Args:
        times: the file of `measure`.
        gigabits: a second, of the head's network.
    """
    for name, one in load_json(times)["worlds"].items():
        for evolutions in (1, SIDE_BY_SIDE):
            jobs = evolutions * POPULATION * ROLLOUTS // 16
            print(f"\n{name}: {evolutions} evolutions at once, {jobs} jobs a generation")
            rest = evolutions * one["generation"]
            for row in _rows(one["evolve"], jobs, one["evolve_head"], rest):
                print(row)
        jobs, network = EPISODES // LANES, one["bytes"] / (gigabits * 1e9 / 8)
        print(f"\n{name}: collect of {EPISODES} episodes, {jobs} jobs, {one['bytes']:,} bytes each")
        head = one["collect_head"] | {"network": network}
        for row in _rows(one["collect"], jobs, head, 0.0):
            print(row)
        nodes = max(WORKERS) / CORES
        seconds = nodes * one["weights"] / (gigabits * 1e9 / 8)
        print(f"V and M to {nodes:.0f} nodes, once: {seconds:.0f} s of the head's network")


def _rows(known: Sequence[float], jobs: int, head: dict[str, float], rest: float) -> Iterator[str]:
    seconds = np.random.default_rng(0).choice(known, size=jobs).tolist()
    receive = sum(head.values()) - head["submit"]
    busy = jobs * (head["submit"] + receive) + rest
    yield "workers   an hour   workers busy   head busy   held back by"
    for workers in WORKERS:
        total = round_of(seconds, workers, head["submit"], receive) + rest
        used, load = sum(seconds) / workers / total, busy / total
        limit = "head" if load > 0.5 else "workers" if used > 0.5 else "too few jobs"
        yield f"{workers:7} {3600 / total:9.1f} {used:14.0%} {load:11.1%}   {limit}"


def round_of(seconds: Sequence[float], workers: int, submit: float, receive: float) -> float:
    """Seconds until the head has the results of all jobs.

    It submits them one after the other, then receives one result after the other as jobs end. A
    worker that is free takes the next job.

    >>> round_of([10.0, 10.0, 10.0], workers=2, submit=1.0, receive=1.0)
    22.0
    """
    free, ends = [0.0] * min(workers, len(seconds)), []
    for number, one in enumerate(seconds, 1):
        ends.append(max(heapq.heappop(free), number * submit) + one)
        heapq.heappush(free, ends[-1])
    clock = len(seconds) * submit
    for end in sorted(ends):
        clock = max(clock, end) + receive
    return clock


if __name__ == "__main__":
    auto_cli({"measure": measure, "simulate": simulate})
