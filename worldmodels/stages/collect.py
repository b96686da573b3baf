"""Collect: real episodes, one compressed file each, by jobs that can be stopped and started."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from worldmodels.acting.policies import Driver, Evolved, ExploreConfig, Explorer, Slips, Walk
from worldmodels.acting.rollout import record
from worldmodels.artifacts import load_controller, load_mdnrnn, load_vae
from worldmodels.data.episode import Episode
from worldmodels.envs.features import Memory
from worldmodels.envs.real import RealEnvs, describe
from worldmodels.errors import InputError, check_at_least, check_share
from worldmodels.files import load_json, save_json
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig, controller_for
from worldmodels.models.mdnrnn import MDNRNN, Heads, MDNRNNConfig
from worldmodels.models.senses import senses_of
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.run import Metrics, Run, say
from worldmodels.seeding import numpy_generator, recorded_seed
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import EnvConfig, World

LANES = 8
"""Episodes of a job."""
ATTEMPTS = 50
"""Tries for an episode of at least min_steps."""


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """What is recorded."""

    episodes: int = 10_000
    """Episodes of a round; the paper: 10,000."""
    max_steps: int = 1000
    """Steps after which an episode is cut; the paper: 1000."""
    min_steps: int = 0
    """Shorter episodes are thrown away and played anew; the paper's Doom: 100."""
    evolved_share: float = 0.75
    """In later rounds, the share of episodes driven by the best controller so far plus noise."""
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    """How the others are driven."""

    def __post_init__(self) -> None:
        check_at_least("collect", self, 1, "episodes", "max_steps")
        check_at_least("collect", self, 0, "min_steps")
        check_share("collect", self, "evolved_share")
        if self.min_steps > self.max_steps:
            raise InputError(f"collect.min_steps {self.min_steps} is above max_steps")


Evolvee = tuple[Run, Literal["best", "last"]]
"""A run, and which of its controllers: the chosen one, or where its evolution ended."""


@dataclass(frozen=True)
class Job:
    """A few episodes that are played side by side."""

    world: str
    """world.json's text."""
    config: CollectConfig
    evolvee: Evolvee | None
    """Who drives; none: the explorer."""
    seed: int
    round_number: int
    episodes: tuple[int, ...]
    folder: Path

    def file(self, episode: int) -> Path:
        return self.folder / f"{self.round_number:02d}_{episode:06d}.npz"

    @property
    def done(self) -> bool:
        return all(self.file(episode).exists() for episode in self.episodes)


def collect(
    run: Run,
    env: EnvConfig,
    config: CollectConfig,
    workers: WorkersConfig,
    seed: int,
    evolvees: Sequence[Evolvee] = (),
) -> None:
    """Records the episodes that are missing in the run's folder.

    Args:
        run: where episodes/ and world.json are written.
        env: the world.
        config: how many episodes, and how they are driven.
        workers: where they are played.
        seed: of everything drawn.
        evolvees: controllers that drive `evolved_share` of the episodes in turns.

    Raises:
        InputError: the environment is unknown, or its episodes never reach min_steps.
    """
    with Metrics(run, "collect") as metrics:
        jobs = _jobs(run, _world(run, env), config, seed, evolvees)
        done = run_jobs(_play, [(job,) for job in jobs if not job.done], workers, "collect")
        total = sum(len(job.episodes) for job in jobs)
        frames, returns = sum(n for n, _ in done), [r for _, r in done]
        metrics.log(total, frames=frames, episode_return=_mean(returns))
    say(f"{total} episodes in {run.episodes}")


def _jobs(
    run: Run, world: World, config: CollectConfig, seed: int, evolvees: Sequence[Evolvee]
) -> list[Job]:
    text = json.dumps(world.to_dict(), sort_keys=True)
    jobs, driven = [], 0
    for index, first in enumerate(range(0, config.episodes, LANES)):
        # spread evenly: a job is driven whenever the share passes a whole number
        turn = int((index + 1) * config.evolved_share) > int(index * config.evolved_share)
        evolvee = evolvees[driven % len(evolvees)] if evolvees and turn else None
        driven += evolvee is not None
        numbers = tuple(range(first, min(first + LANES, config.episodes)))
        jobs.append(Job(text, config, evolvee, seed, run.number, numbers, run.episodes))
    return jobs


def _world(run: Run, env: EnvConfig) -> World:
    if run.world_file.exists():
        world = World.from_dict(load_json(run.world_file), run.world_file)
        if world.config != env:
            raise InputError(
                f"{run.world_file} is another world than `env` says: use another --run"
            )
        return world
    world = describe(env)
    save_json(run.world_file, world.to_dict())
    return world


def _play(job: Job) -> tuple[int, float]:
    """Plays and saves a job's episodes; their steps and mean return."""
    left, steps, returns = list(job.episodes), 0, []
    for attempt in range(ATTEMPTS):
        names = [(job.round_number, episode, attempt) for episode in left]
        played = record_episodes(job, names, [recorded_seed(job.seed, *name) for name in names])
        short = []
        for number, episode in zip(left, played, strict=True):
            if len(episode) < job.config.min_steps:
                short.append(number)
                continue
            episode.save(job.file(number))
            steps += len(episode)
            returns.append(float(episode.rewards.sum()))
        left = short
        if not left:
            return steps, _mean(returns)
    raise InputError(f"collect.min_steps {job.config.min_steps}: {ATTEMPTS} episodes ended sooner")


def record_episodes(
    job: Job, names: Sequence[tuple[int, int, int]], seeds: Sequence[int]
) -> list[Episode]:
    """One episode per environment seed; the driver samples under (round, episode, attempt)."""
    envs = _envs(job.world, len(names))
    actions = Actions.from_dict(envs.world.action)
    generators = [numpy_generator(job.seed, "collect", *name) for name in names]
    drive = _driver(job, envs.world, actions, generators)
    last_frame = envs.world.config.last_frame
    return record(envs, drive, actions.to_environment, seeds, job.config.max_steps, last_frame)


def _driver(
    job: Job, world: World, actions: Actions, generators: list[np.random.Generator]
) -> Driver:
    explore = job.config.explore
    if job.evolvee is None and explore.policy != "random_network":
        return Explorer(explore, actions, generators)
    if job.evolvee is not None:
        run, which = job.evolvee
        vae, mdnrnn = _models(run)
        saved = load_controller(run)
        settings = saved.config
        parameters = saved.parameters[which].numpy()[None].repeat(len(generators), axis=0)
        noise = np.array([g.uniform(0, explore.noise) for g in generators])
    else:
        vae, mdnrnn = _random_models(world, actions, int(generators[0].integers(2**62)))
        settings, noise = ControllerConfig(), np.zeros(len(generators))
        size = controller_for(settings, mdnrnn).num_parameters
        # Source: released code, weights Cauchy x U(0, 0.01)
        parameters = np.stack([g.standard_cauchy(size) * g.uniform(0, 0.01) for g in generators])
    controller = controller_for(settings, mdnrnn)
    memory = Memory(*senses_of(settings, vae, mdnrnn), settings.inputs, len(generators))
    walk = Walk(generators, actions.size, explore.memory)
    slips = None
    if job.evolvee is not None and explore.overrule:
        slips = Slips(explore.overrule, actions, generators)
    drawn = parameters.astype(np.float32)
    return Evolved(controller, drawn, memory, actions, walk, noise, slips)


def _random_models(world: World, actions: Actions, seed: int) -> tuple[VAE, MDNRNN]:
    """V and M of the paper's sizes with fresh random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = VAE(VAEConfig()).requires_grad_(False)
        config = MDNRNNConfig()
        mdnrnn = MDNRNN(config, 32, actions.size, Heads.of(config, world)).requires_grad_(False)
    return vae, mdnrnn


@lru_cache(maxsize=2)
def _envs(world_text: str, lanes: int) -> RealEnvs:
    world = World.from_dict(json.loads(world_text))
    return RealEnvs(world, lanes, autoreset_mode=AutoresetMode.DISABLED)


def _models(run: Run) -> tuple[VAE, MDNRNN]:
    return load_vae(run.vae / "vae.safetensors"), load_mdnrnn(run.mdnrnn / "mdnrnn.safetensors")


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0
