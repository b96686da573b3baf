"""Episodes recorded for the inspection alone: V, M and C were not fitted to any of them."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worldmodels.acting.environments import ModelFiles
from worldmodels.artifacts import controller_file, load_vae, load_world
from worldmodels.config import Config
from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import numbers_of
from worldmodels.files import file_hash, load_json, plain, save_json
from worldmodels.run import Run
from worldmodels.seeding import environment_seeds, seed_for
from worldmodels.stages.collect import LANES, Evolved, Job, record_episodes
from worldmodels.stages.encode import encode_episodes
from worldmodels.workers import run_jobs


@dataclass(frozen=True)
class HeldOut:
    """Recorded episodes of one driver, and their latents."""

    driver: str
    """`explorer`, the policy that collects, or `controller`, the run's, with collect's noise."""
    files: list[Path]
    """Of the episodes; their latents have the same names."""
    latents: Path
    seeds: list[int]
    """Environment seeds of the episodes, by their numbers."""

    @property
    def source(self) -> EpisodeSource:
        return EpisodeSource([self.latents / path.name for path in self.files])

    def seed_of(self, file: Path) -> int:
        """The environment seed of an episode's file."""
        return self.seeds[numbers_of(file)[1]]


def held_out_episodes(run: Run, config: Config, first: int, count: int) -> list[HeldOut]:
    """Records and encodes validation episodes, or finds those of an earlier inspection.

    The policy that collects drives the first `count`, from number `first` on; the run's controller,
    if there is one, as many others. No episode is thrown away, however short. They lie in
    inspection/DRIVER.
    """
    found = [_held_out(run, config, None, first, count)]
    if (controller := controller_file(run)) is not None:
        found.append(_held_out(run, config, controller, first + count, count))
    return found


def _held_out(run: Run, config: Config, controller: Path | None, first: int, count: int) -> HeldOut:
    driver = "explorer" if controller is None else "controller"
    world, models = load_world(run), ModelFiles.of_run(run)
    own = Run(run.folder / "inspection" / driver)
    about = {
        "world": world.to_dict(),
        "vae": models.hashes[0],
        "driven_by": None if controller is None else [models.hashes[1], file_hash(controller)],
        "explore": asdict(config.collect.explore),
        "max_steps": config.collect.max_steps,
        "seed": config.seed,
        "episodes": [first, count],
    }
    _claim(own.folder, about)
    seeds = environment_seeds("validation", first, count)
    evolved = None if controller is None else Evolved(run, "best")
    fixed = seed_for(config.seed, "inspect", run.number, driver), 0
    parts = [tuple(range(i, min(i + LANES, count))) for i in range(0, count, LANES)]
    jobs = [Job(world, config.collect, evolved, *fixed, part, own.episodes) for part in parts]
    left = [(job, seeds) for job in jobs if not job.done]
    run_jobs(_record, left, config.workers, f"{driver} episodes")
    files = [job.file(number) for job in jobs for number in job.episodes]
    missing = [path for path in files if not (own.latents / path.name).exists()]
    vae = load_vae(run)
    encode_episodes(vae, missing, own.latents, world.config)
    return HeldOut(driver, files, own.latents, seeds)


def _claim(folder: Path, about: dict[str, Any]) -> None:
    """Deletes what an earlier inspection recorded under other conditions."""
    file = folder / "about.json"
    if file.exists() and load_json(file) != plain(about):
        shutil.rmtree(folder)
    save_json(file, about)


def _record(job: Job, seeds: list[int]) -> None:
    names = [(job.round_number, number, 0) for number in job.episodes]
    played = record_episodes(job, names, [seeds[number] for number in job.episodes])
    for number, episode in zip(job.episodes, played, strict=True):
        episode.save(job.file(number))
