"""One measure of a controller: evaluate(parameters, seeds) -> returns, lengths.

Two bodies: batched dreams, or jobs of some lanes on workers in the real world.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Float64, Int64

from worldmodels.acting.rollout import Policy, rollout
from worldmodels.artifacts import Bundle, load_mdnrnn, load_vae
from worldmodels.envs.dream import DreamEnv
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.real import RealEnvs
from worldmodels.files import file_hash
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.senses import senses_of
from worldmodels.models.vae import VAE
from worldmodels.run import Run
from worldmodels.seeding import numpy_generator
from worldmodels.workers import WorkersConfig, one_thread, run_jobs
from worldmodels.world import World

BASELINES = Path(__file__).parent / "baselines.json"
"""Blind policies found once per world by worldmodels find-baselines."""
LANES, OFFICIAL_LANES = 16, 4
"""Most real environments side by side in a job: many make good batches for V and M, few leave no
worker idle at the end. Fixed: a job's bits depend on its own lanes."""
DREAM_LANES = 512
"""Most lanes of a dream's job. Fixed likewise; fewer make smaller, slower products."""

Returns = Float64[np.ndarray, "P R"]
Lengths = Int64[np.ndarray, "P R"]


@runtime_checkable
class Evaluate(Protocol):
    """What evolution knows of a world."""

    def __call__(
        self, parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]
    ) -> tuple[Returns, Lengths]:
        """Every candidate on every seed."""


@dataclass(frozen=True)
class ModelFiles:
    """V, M and world of a run or of a bundle, by the files they are read from."""

    folder: str
    kind: str
    """`run` or `bundle`."""
    hashes: tuple[str, ...]
    """Of the files, so that a worker's cache notices when they change."""

    @classmethod
    def of_run(cls, run: Run) -> ModelFiles:
        files = run.vae / "vae.safetensors", run.mdnrnn / "mdnrnn.safetensors"
        return cls(str(run.folder.resolve()), "run", tuple(map(file_hash, files)))

    @classmethod
    def of_bundle(cls, folder: Path) -> ModelFiles:
        return cls(str(folder.resolve()), "bundle", (file_hash(folder / "weights.safetensors"),))


@lru_cache(maxsize=2)
def models_of(senses: ModelFiles) -> tuple[VAE, MDNRNN]:
    """V and M, kept by a worker between jobs."""
    if senses.kind == "bundle":
        bundle = Bundle.load(senses.folder)
        return bundle.vae, bundle.mdnrnn
    run = Run(senses.folder)
    return load_vae(run.vae / "vae.safetensors"), load_mdnrnn(run.mdnrnn / "mdnrnn.safetensors")


def population_policy(
    controller: Controller, parameters: Float64[np.ndarray, "P N"], actions: Actions
) -> Policy:
    """Candidates acting on lanes p * R + r."""
    weights = torch.from_numpy(np.ascontiguousarray(parameters, np.float32))

    def act(observations: np.ndarray) -> np.ndarray:
        features = torch.from_numpy(observations).view(len(weights), -1, observations.shape[-1])
        action = actions.bound(controller.act(weights, features))
        return action.reshape(len(observations), -1).numpy()

    return act


class DreamEvaluation:
    """Candidates in the dream, in jobs that threads dream side by side; keeps their environments.

    A job is some candidates on all seeds, and runs on one thread: its bits are the same wherever.
    """

    def __init__(
        self,
        make: Callable[[int], DreamEnv],
        controller: Controller,
        workers: WorkersConfig,
        patience: int | None = None,
    ) -> None:
        self._make, self._controller, self._patience = make, controller, patience
        self._workers = workers
        self._envs: dict[tuple[int, int], DreamEnv] = {}

    def __call__(
        self, parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]
    ) -> tuple[Returns, Lengths]:
        jobs = max(2, math.ceil(len(parameters) * len(seeds) / DREAM_LANES))
        parts = [part for part in np.array_split(parameters, jobs) if len(part)]
        envs = [self._env(job, len(part) * len(seeds)) for job, part in enumerate(parts)]
        # threads take the number from the one that starts them
        with one_thread(), ThreadPoolExecutor(min(self._workers.count, len(parts))) as pool:
            results = list(pool.map(self._dream, envs, parts, repeat(seeds)))
        returns, lengths = (np.concatenate(rows) for rows in zip(*results, strict=True))
        return returns, lengths

    def _env(self, job: int, lanes: int) -> DreamEnv:
        if (job, lanes) not in self._envs:
            self._envs[job, lanes] = self._make(lanes)
        return self._envs[job, lanes]

    def _dream(
        self, env: DreamEnv, parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]
    ) -> tuple[Returns, Lengths]:
        policy = population_policy(self._controller, parameters, env.actions)
        everyone = list(seeds) * len(parameters)
        returns, lengths = rollout(env, policy, everyone, patience=self._patience)
        shape = len(parameters), len(seeds)
        return returns.reshape(shape), lengths.reshape(shape)


class RealEvaluation:
    """Candidates in the real world, as jobs whose size depends on the number of lanes alone.

    Lanes are sorted by seed, so that a worker builds each track once.
    """

    def __init__(
        self,
        world: World,
        senses: ModelFiles,
        controller: Controller,
        workers: WorkersConfig,
        *,
        official: bool,
        max_steps: int | None = None,
        patience: int | None = None,
        label: str | None = None,
    ) -> None:
        self._fixed = (world_text(world), senses, controller, official, max_steps, patience)
        self._workers, self._label, self._official = workers, label, official

    def __call__(
        self, parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]
    ) -> tuple[Returns, Lengths]:
        population, episodes = len(parameters), len(seeds)
        lanes = [(p, r) for r in range(episodes) for p in range(population)]
        size = _job_size(len(lanes), OFFICIAL_LANES if self._official else LANES)
        jobs = [lanes[i : i + size] for i in range(0, len(lanes), size)]
        results = run_jobs(
            _real_job,
            [
                (*self._fixed, parameters[[p for p, _ in job]], [seeds[r] for _, r in job])
                for job in jobs
            ],
            self._workers,
            self._label,
        )
        returns, lengths = np.zeros((population, episodes)), np.zeros((population, episodes), int)
        for job, (job_returns, job_lengths) in zip(jobs, results, strict=True):
            for lane, value, length in zip(job, job_returns, job_lengths, strict=True):
                returns[lane], lengths[lane] = value, length
        return returns, lengths


def _job_size(lanes: int, most: int) -> int:
    """Lanes of a job, so that an even number of jobs, whatever the workers, shares them alike."""
    return math.ceil(lanes / (2 * math.ceil(lanes / (2 * most))))


@lru_cache(maxsize=3)
def real_envs(world: str, lanes: int, official: bool) -> RealEnvs:
    """Environments that a worker keeps between jobs; the world comes as JSON, a cache's key."""
    kept = World.from_dict(json.loads(world))
    return RealEnvs(kept, lanes, official=official, autoreset_mode=AutoresetMode.DISABLED)


def _real_job(
    world: str,
    senses: ModelFiles,
    controller: Controller,
    official: bool,
    max_steps: int | None,
    patience: int | None,
    parameters: np.ndarray,
    seeds: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """One candidate per lane."""
    vae, mdnrnn = senses_of(controller.config, *models_of(senses))
    envs = real_envs(world, len(seeds), official)
    envs.drawing = True
    actions = Actions.from_dict(envs.world.action)
    env = FeatureEnv(envs, vae, mdnrnn, actions, controller.config.inputs)
    policy = population_policy(controller, parameters, actions)
    return rollout(env, policy, seeds, max_steps, patience)


def evaluate_open_loop(
    world: World, policy: str, argument: Any, seeds: Sequence[int], workers: WorkersConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths (frames) of a policy without eyes: `random`, `constant` or `sweep`.

    One action a frame, whatever the agent's action_repeat; nothing is drawn.
    """
    single = replace(world, config=replace(world.config, action_repeat=1))
    jobs = [
        (world_text(single), policy, argument, list(seeds[i : i + 2]))
        for i in range(0, len(seeds), 2)
    ]
    results = run_jobs(_blind_job, jobs, workers)
    returns, lengths = zip(*results, strict=True)
    return np.concatenate(returns), np.concatenate(lengths)


def _blind_job(
    world: str, policy: str, argument: Any, seeds: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    env = real_envs(world, len(seeds), False)
    env.drawing = False
    generators = [numpy_generator(seed, "random policy") for seed in seeds]
    space = env.single_action_space
    frame = 0

    def act(_: np.ndarray) -> np.ndarray:
        nonlocal frame
        frame += 1
        if policy == "random":
            return np.stack([_uniform(space, generator) for generator in generators])
        action = swept(frame - 1, argument) if policy == "sweep" else argument
        return np.repeat(np.asarray(action, space.dtype)[None], len(seeds), axis=0)

    return rollout(env, act, seeds)


def swept(frame: int, period: int) -> int:
    """A sweep's own action at a frame: left for half a period, right for the other."""
    return 2 if frame % period < period / 2 else 1


def _uniform(space: Any, generator: np.random.Generator) -> Any:
    space.seed(int(generator.integers(2**31)))
    return space.sample()


def world_text(world: World) -> str:
    """A world as JSON, which can be a cache's key."""
    return json.dumps(world.to_dict(), sort_keys=True)


@dataclass(frozen=True)
class Interval:
    """A mean and how sure it is."""

    mean: float
    std: float
    ci95: tuple[float, float]


def interval(values: np.ndarray) -> Interval:
    """Mean, standard deviation and bootstrapped 95% interval of the mean (10,000 resamples)."""
    generator = numpy_generator(0, "bootstrap")
    means = generator.choice(values, size=(10_000, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Interval(float(values.mean()), std, (float(low), float(high)))
