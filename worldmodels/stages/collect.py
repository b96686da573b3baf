"""Collect real episodes, one compressed file each; the same command goes on where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from worldmodels.acting.environments import ModelFiles, frame_env, models_of
from worldmodels.acting.policies import (
    ExploreConfig,
    Explorer,
    NoisyController,
    Overrule,
    Policy,
    Walk,
)
from worldmodels.acting.rollout import record
from worldmodels.artifacts import load_controller, load_world
from worldmodels.data.episode import Episode
from worldmodels.envs.features import Memory
from worldmodels.envs.real import describe
from worldmodels.envs.senses import senses_of
from worldmodels.errors import InputError
from worldmodels.files import save_json
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig, controller_for
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.ranges import ClosedUnitInterval, NonNegativeInt, PositiveInt
from worldmodels.run import Metrics, Run, say
from worldmodels.seeding import numpy_generator, recorded_seed
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import EnvConfig, World

LANES = 8
"""Episodes of a job."""
ATTEMPTS = 50
"""Episodes played to find one of at least min_steps."""


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """What is recorded."""

    episodes: PositiveInt = 10_000
    """Episodes of a round; the paper: 10,000."""
    max_steps: PositiveInt = 1000
    """Steps after which an episode is truncated; the paper: 1000."""
    min_steps: NonNegativeInt = 0
    """Steps of the shortest episode; shorter ones are replaced by others. The paper's Doom: 100."""
    evolved_share: ClosedUnitInterval = 0.75
    """In later rounds, the share of episodes in which evolved controllers plus noise act."""
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    """The policy of the other episodes."""

    def __post_init__(self) -> None:
        if self.min_steps > self.max_steps:
            raise InputError(f"collect.min_steps {self.min_steps} is above max_steps")


@dataclass(frozen=True)
class Evolved:
    """A controller of a run: the best one, or the last mean of its evolution."""

    run: Run
    which: Literal["best", "last"]


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
    with Metrics(run, "collect") as metrics:
        jobs = _jobs(run, _world(run, env), config, seed, controllers)
        done = run_jobs(_play, [(job,) for job in jobs if not job.done], workers, "collect")
        total = sum(len(job.episodes) for job in jobs)
        frames, returns = sum(n for n, _ in done), [r for _, r in done]
        mean = float(np.mean(returns)) if returns else 0.0
        metrics.log(total, frames=frames, episode_return=mean)
    say(f"{total} episodes in {run.episodes}")


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


def _world(run: Run, env: EnvConfig) -> World:
    if run.world_file.exists():
        world = load_world(run)
        if world.config != env:
            raise InputError(
                f"{run.world_file} is another world than `env` says: use another --run"
            )
        return world
    world = describe(env)
    save_json(run.world_file, world.to_dict())
    return world


def _play(job: Job) -> tuple[int, float]:
    """Plays and saves the episodes of a job; their steps and their mean return."""
    left, saved = list(job.episodes), []
    for attempt in range(ATTEMPTS):
        names = [(job.round_number, episode, attempt) for episode in left]
        played = record_episodes(job, names, [recorded_seed(job.seed, *name) for name in names])
        long = {n: e for n, e in zip(left, played, strict=True) if len(e) >= job.config.min_steps}
        for number, episode in long.items():
            episode.save(job.file(number))
            saved.append((len(episode), float(episode.rewards.sum())))
        left = [number for number in left if number not in long]
        if not left:
            steps, returns = zip(*saved, strict=True)
            return sum(steps), float(np.mean(returns))
    raise InputError(f"collect.min_steps {job.config.min_steps}: {ATTEMPTS} episodes ended sooner")


def record_episodes(
    job: Job, names: Sequence[tuple[int, int, int]], seeds: Sequence[int]
) -> list[Episode]:
    """One episode per environment seed; policies sample under (round, episode, attempt)."""
    generators = [numpy_generator(job.seed, "collect", *name) for name in names]
    with frame_env(job.world, len(names)) as env:
        return record(env, _policy(job, env.actions, generators), seeds, job.config.max_steps)


def _policy(job: Job, actions: Actions, generators: list[np.random.Generator]) -> Policy:
    explore = job.config.explore
    if job.evolved is not None:
        return _evolved(job.evolved, explore, actions, generators)
    if explore.policy == "random_network":
        return _random_networks(explore, actions, generators)
    return Explorer(explore, actions, generators)


def _evolved(
    evolved: Evolved,
    explore: ExploreConfig,
    actions: Actions,
    generators: list[np.random.Generator],
) -> NoisyController:
    """A controller plus noise, with random actions now and then."""
    saved, (vae, mdnrnn) = load_controller(evolved.run), models_of(ModelFiles.of_run(evolved.run))
    parameters = getattr(saved, evolved.which).numpy()[None].repeat(len(generators), axis=0)
    noise = np.array([g.uniform(0, explore.noise) for g in generators])
    memory = Memory(*senses_of(saved.config, vae, mdnrnn), saved.config.inputs, len(generators))
    walk = Walk(generators, actions.size, explore.memory)
    overrule = Overrule(explore.overrule, actions, generators) if explore.overrule else None
    controller = controller_for(saved.config, mdnrnn)
    return NoisyController(controller, parameters, memory, actions, walk, noise, overrule)


def _random_networks(
    explore: ExploreConfig,
    actions: Actions,
    generators: list[np.random.Generator],
) -> NoisyController:
    """A random V and M of the paper's sizes for all lanes, and a random C for each."""
    with torch.random.fork_rng():
        torch.manual_seed(int(generators[0].integers(2**62)))
        vae = VAE(VAEConfig()).requires_grad_(False)
        mdnrnn = MDNRNN(MDNRNNConfig(), 32, actions.size).requires_grad_(False)
    settings = ControllerConfig()
    controller = controller_for(settings, mdnrnn)
    size = controller.num_parameters
    # Source: released code, weights Cauchy x U(0, 0.01)
    parameters = np.stack([g.standard_cauchy(size) * g.uniform(0, 0.01) for g in generators])
    memory = Memory(vae, mdnrnn, settings.inputs, len(generators))
    walk, noise = Walk(generators, actions.size, explore.memory), np.zeros(len(generators))
    return NoisyController(controller, parameters.astype(np.float32), memory, actions, walk, noise)
