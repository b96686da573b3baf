"""The measure of a controller: evaluate(parameters, seeds) -> returns, lengths.

The same call has two bodies: `DreamEvaluation` and `RealEvaluation`. Both call `rollout`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from worldmodels.acting.environments import Dreams, ModelFiles, feature_env, frame_env
from worldmodels.acting.policies import Baseline, Candidates, OpenLoop
from worldmodels.acting.rollout import rollout
from worldmodels.envs.dream import DreamConfig, DreamEnv
from worldmodels.models.controller import Controller, ControllerConfig
from worldmodels.run import Run
from worldmodels.seeding import numpy_generator
from worldmodels.workers import WorkersConfig, one_thread, run_jobs
from worldmodels.world import World

LANES, OFFICIAL_LANES = 16, 4
"""Most real environments of a job: many make good batches for V and M, few leave no worker idle at
the end. They are constants, because a job's bits depend on its lanes."""
OPEN_LOOP_LANES = 2
DREAM_LANES = 512
"""Most lanes of a dream's job; fewer make smaller, slower matrix products."""

Returns = Float64[np.ndarray, "P R"]
Lengths = Int64[np.ndarray, "P R"]


@runtime_checkable
class Evaluate(Protocol):
    """All that evolution knows of a world."""

    def __call__(
        self, parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]
    ) -> tuple[Returns, Lengths]:
        """Returns and lengths of an episode of every candidate on every seed."""


class DreamEvaluation:
    """Candidates in the dream: jobs of some candidates on all seeds, side by side in threads.

    Each job runs on one thread, so its bits do not depend on the number of threads. Environments
    are kept between calls.
    """

    def __init__(
        self,
        make: Callable[[int], DreamEnv],
        controller: Controller,
        workers: WorkersConfig,
        patience: int | None = None,
    ) -> None:
        """`make` takes a number of lanes; `patience` is that of `rollout`."""
        self._make, self._controller = make, controller
        self._workers, self._patience = workers, patience
        self._envs: dict[tuple[int, int], DreamEnv] = {}

    def __call__(
        self, parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]
    ) -> tuple[Returns, Lengths]:
        jobs = max(2, math.ceil(len(parameters) * len(seeds) / DREAM_LANES))
        parts = [part for part in np.array_split(parameters, jobs) if len(part)]
        envs = [self._env(job, len(part) * len(seeds)) for job, part in enumerate(parts)]
        # threads inherit the number of threads of the one that starts them
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
        policy = Candidates(self._controller, parameters, env.actions)
        lanes = list(seeds) * len(parameters)
        returns, lengths = rollout(env, policy, lanes, patience=self._patience)
        shape = len(parameters), len(seeds)
        return returns.reshape(shape), lengths.reshape(shape)


@dataclass(frozen=True, kw_only=True)
class RealEvaluation:
    """Candidates in the real world: jobs on workers, of one candidate and seed per lane.

    Lanes are sorted by seed, so that a worker builds each track once. The size of the jobs depends
    on the number of lanes alone, so the bits do not depend on the number of workers.
    """

    world: World
    models: ModelFiles
    """V and M that C sees through."""
    controller: Controller
    workers: WorkersConfig
    official: bool = False
    """In the official environment, not in its faster twin."""
    max_steps: int | None = None
    patience: int | None = None
    """As for `rollout`."""
    label: str | None = None
    """Of the progress bar; none: no bar."""

    def __call__(
        self, parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]
    ) -> tuple[Returns, Lengths]:
        shape = len(seeds), len(parameters)
        rollouts, candidates = np.divmod(np.arange(math.prod(shape)), len(parameters))
        size = self._job_size(len(candidates))
        jobs = [
            (self, parameters[candidates[i : i + size]], [seeds[r] for r in rollouts[i : i + size]])
            for i in range(0, len(candidates), size)
        ]
        results = run_jobs(RealEvaluation._play, jobs, self.workers, self.label)
        returns, lengths = (
            np.ascontiguousarray(np.concatenate(rows).reshape(shape).T)
            for rows in zip(*results, strict=True)
        )
        return returns, lengths

    def _job_size(self, lanes: int) -> int:
        """Lanes of a job, so that an even number of jobs shares them equally."""
        most = OFFICIAL_LANES if self.official else LANES
        return math.ceil(lanes / (2 * math.ceil(lanes / (2 * most))))

    def _play(
        self, parameters: Float64[np.ndarray, "E N"], seeds: list[int]
    ) -> tuple[Float64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
        """One job."""
        seen = self.world, self.models, self.controller.config
        with feature_env(*seen, len(seeds), official=self.official) as env:
            policy = Candidates(self.controller, parameters, env.actions)
            return rollout(env, policy, seeds, self.max_steps, self.patience)


def evaluate_open_loop(
    world: World, baseline: Baseline, seeds: Sequence[int], workers: WorkersConfig
) -> tuple[Float64[np.ndarray, " R"], Int64[np.ndarray, " R"]]:
    """Returns and lengths (in frames) of an open-loop policy.

    It acts at every frame, whatever the agent's action_repeat, and nothing is drawn.
    """
    single = replace(world, config=replace(world.config, action_repeat=1))
    starts = range(0, len(seeds), OPEN_LOOP_LANES)
    jobs = [(single, baseline, list(seeds[i : i + OPEN_LOOP_LANES])) for i in starts]
    results = run_jobs(_play_open_loop, jobs, workers)
    returns, lengths = zip(*results, strict=True)
    return np.concatenate(returns), np.concatenate(lengths)


def _play_open_loop(
    world: World, baseline: Baseline, seeds: list[int]
) -> tuple[Float64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
    generators = [numpy_generator(seed, "random policy") for seed in seeds]
    with frame_env(world, len(seeds), drawing=False) as env:
        space = env.envs.single_action_space
        return rollout(env, OpenLoop(baseline, env.actions, generators, space=space), seeds)


@dataclass(frozen=True)
class Evaluations:
    """What a run's candidates are measured with."""

    dreams: Dreams
    dream: DreamEvaluation
    real: RealEvaluation
    """For training episodes in the real world."""
    validation: RealEvaluation

    @property
    def num_parameters(self) -> int:
        """Of the controller."""
        return self.dreams.controller.num_parameters

    @classmethod
    def of_run(
        cls,
        run: Run,
        controller: ControllerConfig,
        dream: DreamConfig,
        workers: WorkersConfig,
        seed: int,
        validation_steps: int | None = None,
        patience: int | None = None,
    ) -> Evaluations:
        """The measures with a run's V and M.

        Args:
            run: has world.json, V and M, and latents or an unpacked bundle's starts.
            controller: C's inputs and size.
            dream: of the dreams.
            workers: where real episodes run.
            seed: of the choice of start windows.
            validation_steps: most steps of a validation episode; none: to its end.
            patience: of training episodes, see `rollout`.

        Raises:
            InputError: V or M is missing or broken.
        """
        dreams = Dreams.of_run(run, controller, dream, seed)
        validation = RealEvaluation(
            world=dreams.world,
            models=ModelFiles.of_run(run),
            controller=dreams.controller,
            workers=workers,
            max_steps=validation_steps,
        )
        return cls(
            dreams,
            DreamEvaluation(dreams.make, dreams.controller, workers, patience),
            replace(validation, max_steps=None, patience=patience),
            validation,
        )


@dataclass(frozen=True)
class Interval:
    """A mean and its uncertainty."""

    mean: float
    std: float
    ci95: tuple[float, float]


def interval(values: np.ndarray) -> Interval:
    """Mean, standard deviation, and bootstrapped 95% interval of the mean (10,000 resamples)."""
    generator = numpy_generator(0, "bootstrap")
    means = generator.choice(values, size=(10_000, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Interval(float(values.mean()), std, (float(low), float(high)))
