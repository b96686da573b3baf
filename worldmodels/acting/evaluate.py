"""Evaluation of controllers: evaluate(parameters, seeds) -> returns, lengths.

The call is the same in dreams and in reality.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from worldmodels.acting.environments import Dreams, Reality, frame_env
from worldmodels.acting.policies import Baseline, Candidates, OpenLoop
from worldmodels.acting.rollout import rollout
from worldmodels.seeding import numpy_generator
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import World

OPEN_LOOP_LANES = 2
"""Most environments of an open-loop policy's job."""

Returns = Float64[np.ndarray, "P R"]
Lengths = Int64[np.ndarray, "P R"]


Measured = tuple[Returns, Lengths]
Evaluate = Callable[[np.ndarray, Sequence[int]], Measured]
"""Returns and lengths of an episode of every candidate on every seed."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Candidates in dreams or in the real environment, in jobs on threads or on worker processes.

    Each job runs on one thread, and the jobs depend on the numbers of candidates and seeds alone,
    so the bits do not depend on the number of workers.
    """

    place: Dreams | Reality
    workers: WorkersConfig
    patience: int | None = None
    """As for `rollout`."""
    label: str | None = None
    """Of the progress bar; none: no bar."""

    def __call__(self, parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]) -> Measured:
        return evaluate_all([(self, parameters, seeds)])[0]

    def play(
        self,
        parameters: Float64[np.ndarray, "P N"],
        numbers: Int64[np.ndarray, " C"],
        seeds: Sequence[int],
    ) -> tuple[Float64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
        """One job: an episode per seed; each candidate has as many of them, one after the other."""
        if isinstance(self.place, Dreams) and (gpu := self.place.gpu) is not None:
            rollouts = len(seeds) // len(numbers)
            batch = self.place.batch(len(numbers), rollouts, self.patience, gpu)
            return batch.play(parameters[numbers], seeds[:rollouts])
        with self.place.open(len(seeds)) as env:
            policy = Candidates(self.place.controller, parameters[numbers], env.actions)
            return rollout(env, policy, seeds, self.patience)


Request = tuple[Evaluation, np.ndarray, Sequence[int]]
"""What is to be evaluated: candidates (P, N), and the seeds of their episodes (R,)."""


def evaluate_all(requests: Sequence[Request]) -> list[Measured]:
    """What each request measures. Their jobs run side by side, dreams first.

    The jobs of a request are those that it has alone, and so are its bits.
    """
    measured: dict[int, Measured] = {}
    for threads in (True, False):
        chosen = [i for i, one in enumerate(requests) if one[0].place.threads is threads]
        measured |= zip(chosen, _evaluated([requests[i] for i in chosen], threads), strict=True)
    return [measured[i] for i in range(len(requests))]


def _evaluated(requests: Sequence[Request], threads: bool) -> list[Measured]:
    """What requests measure that all run on threads, or all on workers."""
    if not requests:
        return []
    splits, jobs = [], []
    for evaluation, parameters, seeds in requests:
        splits.append(evaluation.place.split(len(parameters), len(seeds)))
        for numbers, lanes in splits[-1]:
            jobs.append((evaluation, parameters, numbers, [seeds[i] for i in lanes]))
    first, places = requests[0][0], [one.place for one, *_ in requests]
    on_gpu = any(isinstance(place, Dreams) and place.gpu is not None for place in places)
    workers = WorkersConfig(processes=1) if on_gpu else first.workers  # batch after batch, here
    played = iter(run_jobs(Evaluation.play, jobs, workers, first.label, threads=threads))
    measured = []
    for (_, parameters, seeds), split in zip(requests, splits, strict=True):
        shape = len(parameters), len(seeds)
        returns, lengths = np.empty(shape), np.empty(shape, np.int64)
        for numbers, lanes in split:
            where = np.repeat(numbers, len(lanes) // len(numbers)), lanes
            returns[where], lengths[where] = next(played)
        measured.append((returns, lengths))
    return measured


def evaluate_open_loop(
    world: World,
    baselines: Sequence[Baseline],
    seeds: Sequence[int],
    workers: WorkersConfig,
    max_frames: int | None = None,
    label: str | None = None,
) -> tuple[Returns, Lengths]:
    """Returns and lengths, in frames, of an episode of every open-loop policy on every seed.

    They act at every frame, whatever the agent's action_repeat, and nothing is drawn.

    Args:
        world: which environment.
        baselines: the policies.
        seeds: of the episodes.
        workers: where they run; results do not depend on it.
        max_frames: longer episodes are cut.
        label: of the progress bar; none: no bar.
    """
    single = replace(world, config=replace(world.config, action_repeat=1))
    starts = range(0, len(seeds), OPEN_LOOP_LANES)
    parts = [list(seeds[i : i + OPEN_LOOP_LANES]) for i in starts]
    jobs = [(single, one, part, max_frames) for one in baselines for part in parts]
    played = run_jobs(_play_open_loop, jobs, workers, label)
    shape = len(baselines), len(seeds)
    returns, lengths = (np.concatenate(part).reshape(shape) for part in zip(*played, strict=True))
    return returns, lengths


def _play_open_loop(
    world: World, baseline: Baseline, seeds: list[int], max_frames: int | None
) -> tuple[Float64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
    generators = [numpy_generator(seed, "random policy") for seed in seeds]
    with frame_env(world, len(seeds), drawing=False) as env:
        space = env.envs.single_action_space
        policy = OpenLoop(baseline, env.actions, generators, space=space)
        return rollout(env, policy, seeds, max_steps=max_frames)


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


def agreement(returns: Returns) -> float:
    """Whether the episodes tell candidates apart: 0 if chance alone does, 1 if they all agree.

    The correlation over candidates between their mean returns in even and in odd episodes; nan if
    there is one episode, or one of the means is the same for all.
    """
    if returns.shape[1] < 2:
        return math.nan
    halves = np.stack([returns[:, ::2].mean(axis=1), returns[:, 1::2].mean(axis=1)])
    if (halves.std(axis=1) <= 1e-9 * np.abs(halves).max()).any():
        return math.nan
    return float(np.corrcoef(halves)[0, 1])
