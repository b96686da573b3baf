"""A run under inspection, and held-out episodes, on which V, M and C were not trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_args

from worldmodels.acting.environments import Dreams, Reality
from worldmodels.artifacts import check_dreams, controller_file
from worldmodels.config import Config
from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.data.starts import sample_starts
from worldmodels.errors import InputError
from worldmodels.files import file_hash, load_json, plain, save_json
from worldmodels.ranges import Episodes, NonNegativeInt, PositiveFloat, PositiveInt, Range
from worldmodels.run import Run
from worldmodels.seeding import environment_seeds, seed_for
from worldmodels.stages.collect import LANES, Job, Recording, record_episodes, save
from worldmodels.stages.encode import encode_episodes
from worldmodels.stages.explore import Evolved
from worldmodels.workers import run_jobs

Part = Literal[
    "reconstruction",
    "fireballs",
    "likelihood",
    "reward",
    "termination",
    "risk",
    "pit",
    "survival",
    "ranking",
    "neighbours",
]
Rows = list[dict[str, Any]]
"""What a part measured: the columns of each row by name."""


class Inspected(TypedDict):
    """What inspection.json holds, beside the rows of its parts."""

    hashes: list[str]
    """Of V and M."""
    conditions: dict[str, dict[str, Any]]
    """Of each part."""


FIRST_EPISODE = 1000
"""Number of the first validation episode that is used. Evolution and the choice among rounds use
those from 0 on."""


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """How the dream is compared with reality."""

    parts: tuple[Part, ...] = get_args(Part)
    """What is measured; other results of an earlier inspection of the same V and M are kept."""
    episodes: Episodes = 200
    """Held-out episodes of the collecting policy, and as many of the run's controller."""
    starts: PositiveInt = 200
    """Held-out moments from which each policy continues, in the dream and in reality."""
    dreams: PositiveInt = 4
    """Dreams from each moment."""
    temperature: PositiveFloat = 1.0
    """Temperature of these dreams; M was trained at 1."""
    ranking_episodes: Annotated[int, Range(2)] = 100
    """Real episodes of each controller of RUN/controllers."""
    ranking_dreams: Annotated[int, Range(2)] = 256
    """Dreams of each."""
    neighbours: NonNegativeInt = 0
    """Controllers drawn about C with the deviation cma.sigma0, and ranked in the same way. 48 show
    whether evolution can tell candidates apart, and whether reality agrees."""


@dataclass(frozen=True, kw_only=True)
class InspectSections(Config):
    """A run's config, and how its dream is inspected."""

    inspect: InspectConfig = field(default_factory=InspectConfig)


@dataclass(frozen=True)
class HeldOut:
    """Recorded episodes of one driver: their files, latents and environment seeds, in one order."""

    driver: str
    """`explorer`, the policy that collects, or `controller`, the run's, with collect's noise."""
    files: list[Path]
    latents: list[Path]
    seeds: list[int]


class Inspection:
    """A run under inspection; what several parts need is read or computed once."""

    def __init__(self, run: Run, config: InspectSections) -> None:
        check_dreams(run)
        self.run, self.config, self.settings = run, config, config.inspect
        self.reality = Reality.of_run(run, config.controller)
        dreams = Dreams.of_run(run, config.controller, config.dream, config.seed)
        self.models, self.run_dreams = self.reality.models, dreams
        self.world, self.vae, self.mdnrnn = dreams.world, dreams.vae, dreams.mdnrnn
        self.seed = seed_for(config.seed, "inspect", run.number)
        self.folder = run.folder / "inspection"

    @cached_property
    def held_out(self) -> list[HeldOut]:
        """Validation episodes, recorded now or by an earlier inspection.

        The policy that collects drives the first of them; the run's controller, if there is one, as
        many others. No episode is thrown away, however short. They lie in inspection/DRIVER.
        """
        controller, count = controller_file(self.run), self.settings.episodes
        found = [self._held_out("explorer", None, FIRST_EPISODE)]
        if controller is not None:
            found.append(self._held_out("controller", controller, FIRST_EPISODE + count))
        return found

    @property
    def held_out_counts(self) -> dict[str, Any]:
        """Episodes and first environment seed of each driver, for the report."""
        return {
            one.driver: {"episodes": len(one.files), "first_seed": one.seeds[0]}
            for one in self.held_out
        }

    @property
    def recorded(self) -> list[tuple[Path, int]]:
        """All held-out episodes, and their environment seeds."""
        pairs = (zip(one.files, one.seeds, strict=True) for one in self.held_out)
        return [pair for some in pairs for pair in some]

    @property
    def source(self) -> EpisodeSource:
        """The latents of all of them."""
        return EpisodeSource([path for one in self.held_out for path in one.latents])

    @property
    def episodes(self) -> list[LatentEpisode]:
        return [LatentEpisode.load(path) for path in self.source.new]

    @cached_property
    def dreams(self) -> Dreams:
        """The run's dreams, but they begin in held-out episodes."""
        dream = self.config.dream
        starts = sample_starts(
            self.source,
            kind=dream.starts,
            window=dream.warmup,
            seed=self.seed,
        )
        return replace(self.run_dreams, starts=starts)

    def _held_out(self, driver: str, controller: Path | None, first: int) -> HeldOut:
        config, count = self.config, self.settings.episodes
        own = Run(self.folder / driver)
        about = {
            "world": self.world.to_dict(),
            "vae": self.models.hashes[0],
            "driven_by": controller and [self.models.hashes[1], file_hash(controller)],
            "explore": asdict(config.collect.explore),
            "max_steps": config.collect.max_steps,
            "seed": config.seed,
            "episodes": [first, count],
        }
        _claim(own, about)
        seeds = environment_seeds("validation", first, count)
        evolved = Evolved.of_run(self.run, "best") if controller else None
        fixed = seed_for(config.seed, "inspect", self.run.number, driver), 0
        parts = [tuple(range(i, min(i + LANES, count))) for i in range(0, count, LANES)]
        # moments of an episode are reached again by its seed and its actions
        collect = replace(config.collect, reset_options={})
        jobs = [Job(self.world, collect, evolved, *fixed, p, own.episodes) for p in parts]
        left = [(job, seeds) for job in jobs if not job.done]
        run_jobs(_record, left, config.workers, f"{driver} episodes", keep=save)
        files = [job.file(number) for job in jobs for number in job.episodes]
        latents = [own.latents / path.name for path in files]
        missing = [file for file, path in zip(files, latents, strict=True) if not path.exists()]
        encode_episodes(self.vae, missing, own.latents, self.world.config)
        return HeldOut(driver, files, latents, seeds)


def _claim(run: Run, about: dict[str, Any]) -> None:
    """Deletes what an earlier inspection recorded under other conditions; other files stay."""
    file = run.folder / "about.json"
    if file.exists() and load_json(file) != plain(about):
        for folder in (run.episodes, run.latents):
            for path in folder.rglob("[0-9][0-9]_*.npz"):
                path.unlink()
    save_json(file, about)


def _record(job: Job, seeds: list[int]) -> list[Recording]:
    names = [(job.round_number, number, 0) for number in job.episodes]
    played = record_episodes(job, names, [seeds[number] for number in job.episodes])
    recordings = []
    for number, episode in zip(job.episodes, played, strict=True):
        if isinstance(episode, str):
            raise InputError(f"an episode is lost: {episode}")
        recordings.append(Recording.of(episode, job.file(number), seeds[number]))
    return recordings
