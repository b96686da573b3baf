"""Collect real episodes, one compressed file each; the same command continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from worldmodels.acting.environments import frame_env
from worldmodels.acting.rollout import record
from worldmodels.artifacts import load_world
from worldmodels.data.episode import Episode, episode_files
from worldmodels.data.manifest import SEED, Entry, entry_of, load_manifest, save_manifest
from worldmodels.envs.preflight import preflight
from worldmodels.errors import InputError
from worldmodels.files import load_arrays, read_bytes, save_json, save_together
from worldmodels.models.action import Actions
from worldmodels.ranges import ClosedUnitInterval, Episodes, NonNegativeInt, PositiveInt
from worldmodels.run import Metrics, Run, say
from worldmodels.seeding import numpy_generator, recorded_seed
from worldmodels.stages.explore import (
    Evolved,
    ExploreConfig,
    GoBack,
    Trail,
    collecting_policy,
    function_of,
    trails_of,
)
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import EnvConfig, World

IMPORT = "worldmodels import SOURCE"
"""What makes episodes where there is no live environment."""
PARTS = 8
"""Where episodes go back, they are played in so many parts, each of which knows those before it."""
LANES = 8
"""Episodes of a job."""
ATTEMPTS = 50
"""Episodes played to find one of at least min_steps."""
MOST_LOST = 4
"""A job gives up where more episodes are lost, for each that is not."""


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """The recorded episodes."""

    episodes: Episodes = 10_000
    """Episodes of a round; the paper: 10,000."""
    max_steps: PositiveInt = 1000
    """Steps after which an episode is truncated; the paper: 1000."""
    min_steps: NonNegativeInt = 0
    """Minimum steps of an episode; shorter ones are replaced. The paper's Doom: 100."""
    evolved_share: ClosedUnitInterval = 0.75
    """In later rounds, the share of episodes that evolved controllers play, with noise."""
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    """The policy of the other episodes."""
    reset_options: dict[str, Any] = field(default_factory=dict)
    """Options for the environment's `reset`, used only to collect. TakeCover: `late_start: n` lets
    episodes begin up to n - 1 tics later, with full health."""
    reset_options_share: ClosedUnitInterval = 1.0
    """Share of the jobs of eight episodes that use `reset_options`."""

    def __post_init__(self) -> None:
        if self.min_steps > self.max_steps:
            raise InputError(f"collect.min_steps {self.min_steps} is above max_steps")


@dataclass(frozen=True)
class Job:
    """A few episodes that are played side by side."""

    world: World
    config: CollectConfig
    evolved: Evolved | None
    """The controller that acts; none: the exploring policy does."""
    seed: int
    round_number: int
    episodes: tuple[int, ...]
    folder: Path
    trails: tuple[Trail, ...] = ()
    """Of earlier episodes, to go back to."""

    def file(self, episode: int) -> Path:
        return self.folder / f"{self.round_number:02d}_{episode:06d}.npz"

    @property
    def done(self) -> bool:
        return all(self.file(episode).exists() for episode in self.episodes)


class Recording(NamedTuple):
    """An episode that was played, as its file will be."""

    file: Path
    contents: bytes
    entry: Entry
    episode_return: float

    @classmethod
    def of(cls, episode: Episode, file: Path, seed: int | None) -> Recording:
        """`seed` is the environment's, if it alone says how the episode began."""
        contents = episode.packed(**({} if seed is None else {SEED: np.array(seed)}))
        entry = entry_of(contents, len(episode), seed)
        return cls(file, contents, entry, float(episode.rewards.sum()))


def save(recordings: Sequence[Recording]) -> tuple[dict[str, Entry], float]:
    """Writes the files of a job; their entries for the manifest, and their mean return."""
    save_together({one.file: one.contents for one in recordings})
    entries = {one.file.name: one.entry for one in recordings}
    return entries, float(np.mean([one.episode_return for one in recordings]))


def collect(
    run: Run,
    env: EnvConfig,
    config: CollectConfig,
    workers: WorkersConfig,
    seed: int,
    controllers: Sequence[Evolved] = (),
) -> None:
    """Records the episodes that are missing in the run's folder.

    Args:
        run: where episodes/ and world.json are written.
        env: the world.
        config: how many episodes, and which policies act.
        workers: where they are played.
        seed: the experiment's.
        controllers: act in `evolved_share` of the episodes, in turns.

    Raises:
        InputError: the environment is unknown, or its episodes never reach min_steps.
    """
    if not env.live:
        imported = episode_files(run.episodes, command=IMPORT)
        load_world(run)
        say(f"{len(imported)} imported episodes in {run.episodes}")
        return
    if config.explore.given:
        function_of(config.explore.policy)  # a mistake is found before workers begin
    with Metrics(run, "collect") as metrics:
        jobs = _jobs(run, _world(run, env, workers), config, seed, controllers)
        done = list[tuple[dict[str, Entry], float]]()
        for part in _parts(jobs, config.explore.go_back):
            left = [job for job in part if not job.done]
            if left and config.explore.go_back:
                trails = trails_of(_earlier(run, jobs[: jobs.index(part[0])]))
                left = [replace(job, trails=trails) for job in left]
            played = [(job,) for job in left]
            done += run_jobs(_play, played, workers, "collect", apart=True, keep=save)
        total = sum(len(job.episodes) for job in jobs)
        made = {name: entry for entries, _ in done for name, entry in entries.items()}
        _enter(run.episodes, made)
        frames, returns = sum(entry["steps"] for entry in made.values()), [r for _, r in done]
        mean = float(np.mean(returns)) if returns else 0.0
        metrics.log(total, frames=frames, episode_return=mean)
    say(f"{total} episodes in {run.episodes}")


def _enter(folder: Path, made: Mapping[str, Entry]) -> None:
    """Writes the manifest. Files that a killed command or an older version wrote are read first."""
    known = load_manifest(folder)
    entries = {**known, **made}
    for path in folder.glob("*.npz"):
        if path.name not in entries:
            steps, seed = len(Episode.load(path)), load_arrays(path).get(SEED)
            number = None if seed is None else int(seed)
            entries[path.name] = entry_of(read_bytes(path), steps, number)
    if entries != known:
        save_manifest(folder, entries)


def _jobs(
    run: Run, world: World, config: CollectConfig, seed: int, controllers: Sequence[Evolved]
) -> list[Job]:
    jobs, turns = [], 0
    for index, first in enumerate(range(0, config.episodes, LANES)):
        # spread evenly: a controller acts whenever the share passes a whole number
        turn = int((index + 1) * config.evolved_share) > int(index * config.evolved_share)
        evolved = controllers[turns % len(controllers)] if controllers and turn else None
        turns += evolved is not None
        numbers = tuple(range(first, min(first + LANES, config.episodes)))
        jobs.append(Job(world, config, evolved, seed, run.number, numbers, run.episodes))
    return jobs


def _parts(jobs: list[Job], go_back: float) -> list[list[Job]]:
    """The jobs that are played together: those that go back need the episodes before them."""
    if not go_back:
        return [jobs]
    ends = [len(jobs) * part // PARTS for part in range(PARTS + 1)]
    return [part for low, high in pairwise(ends) if (part := jobs[low:high])]


def _earlier(run: Run, jobs: Sequence[Job]) -> list[Path]:
    """The episodes of earlier rounds, and those of some jobs."""
    folders = [path for one in run.earlier for path in sorted(one.episodes.glob("*.npz"))]
    return folders + [job.file(episode) for job in jobs for episode in job.episodes]


def _world(run: Run, env: EnvConfig, workers: WorkersConfig) -> World:
    if run.world_file.exists():
        world = load_world(run)
        if world.config != env:
            raise InputError(
                f"{run.world_file} is for another environment than `env`: use another --run"
            )
        return world
    found = preflight(env, workers)
    if run.number == 0:
        picture = run.top.folder / "first_frame.png"
        found.save_picture(picture)
        for line in (*found.lines, f"{picture} shows what V sees"):
            say(line)
    save_json(run.world_file, found.world.to_dict())
    return found.world


def _play(job: Job) -> list[Recording]:
    """Plays the episodes of a job.

    One that is too short, or in which the environment breaks, is replaced by another.
    """
    left, whole, lost, with_options = list(job.episodes), 0, 0, bool(_reset_options(job))
    recordings: list[Recording] = []
    for attempt in range(ATTEMPTS):
        names = [(job.round_number, episode, attempt) for episode in left]
        seeds, ways = _ways(job, names)
        played = record_episodes(job, names, seeds, ways)
        broken = [one for one in played if isinstance(one, str)]
        for number, episode, seed in list(zip(left, played, seeds, strict=True)):
            if isinstance(episode, Episode) and len(episode) >= job.config.min_steps:
                alone = None if with_options else seed
                recordings.append(Recording.of(episode, job.file(number), alone))
                left.remove(number)
        if not left:
            return recordings
        whole, lost = whole + len(played) - len(broken), lost + len(broken)
        if lost > MOST_LOST * (whole + 1):
            raise InputError(f"{lost} of {lost + whole} episodes were lost: {broken[-1]}")
    raise InputError(f"collect.min_steps {job.config.min_steps}: {ATTEMPTS} episodes ended sooner")


def _ways(
    job: Job, names: Sequence[tuple[int, int, int]]
) -> tuple[list[int], list[Float32[np.ndarray, "_ A"]]]:
    """The environment's seed of each episode, and the actions with which it begins."""
    seeds = [recorded_seed(job.seed, *name) for name in names]
    ways = [np.zeros((0, Actions.from_dict(job.world.action).size), np.float32) for _ in names]
    if job.trails and job.evolved is None:
        for lane, name in enumerate(names):
            generator = numpy_generator(job.seed, "go back", *name)
            if generator.random() < job.config.explore.go_back:
                trail = job.trails[generator.integers(len(job.trails))]
                seeds[lane], ways[lane] = trail.seed, trail.part(generator)
    return seeds, ways


def record_episodes(
    job: Job,
    names: Sequence[tuple[int, int, int]],
    seeds: Sequence[int],
    ways: Sequence[Float32[np.ndarray, "_ A"]] = (),
) -> list[Episode | str]:
    """One episode per environment seed, or why it is lost.

    Policies sample under (round, episode, attempt). `ways` are actions that episodes begin with.
    """
    generators = [numpy_generator(job.seed, "collect", *name) for name in names]
    options = _reset_options(job)
    with frame_env(job.world, len(names)) as env:
        policy = collecting_policy(job.config.explore, job.evolved, env.envs, generators)
        return record(env, GoBack(policy, ways), seeds, job.config.max_steps, options)


def _reset_options(job: Job) -> dict[str, Any]:
    """The options with which all episodes of a job begin."""
    generator = numpy_generator(job.seed, "reset options", job.round_number, job.episodes[0])
    begun_so = generator.random() < job.config.reset_options_share
    return job.config.reset_options if begun_so else {}
