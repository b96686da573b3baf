"""Survival and returns after some moments, compared between the dream and reality."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy import stats

from worldmodels.seeding import numpy_generator
from worldmodels.world import EnvConfig, World

NO_COUNT = 0.5
"""Less is none: M predicts a fraction of a count where it is not sure."""
RESAMPLES = 2000
"""Bootstrap resamples of an interval."""

Rewards = Callable[[np.ndarray, dict[str, Any]], np.ndarray]
"""An environment's rewards and infos to the rewards that are compared."""


@dataclass(frozen=True)
class Outcomes:
    """What happened to E lanes in the steps after their starts, at most H."""

    rewards: Float64[np.ndarray, "E H"]
    """0 after the end."""
    lengths: Int64[np.ndarray, " E"]
    """Steps until the end, or H."""
    terminated: Bool[np.ndarray, " E"]
    truncated: Bool[np.ndarray, " E"]
    """The environment's time limit ended the episode before H steps."""

    @classmethod
    def joined(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """All lanes of all parts, in their order."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def within(self, limits: Int64[np.ndarray, " E"]) -> Outcomes:
        """What happened until each lane's limit; a later end is none."""
        observed = np.arange(self.rewards.shape[1]) < limits[:, None]
        died = self.terminated & (self.lengths <= limits)
        rewards = np.where(observed, self.rewards, 0.0)
        return Outcomes(rewards, np.minimum(self.lengths, limits), died, self.truncated)


def until_stalled(outcomes: Outcomes, world: World) -> Outcomes:
    """The outcomes up to the first second without a count, as if the lane had died there.

    For environments that pay for counts, in which an episode continues after an agent has failed: a
    car that has left the road. A lane that stops sooner is censored.

    Args:
        outcomes: with the rewards of `dream_rewards`.
        world: pays for counts.
    """
    config, horizon = world.config, outcomes.rewards.shape[1]
    second = min(max(round(world.fps / config.action_repeat), 1), horizon)
    counts = (outcomes.rewards - config.reward_per_step) / config.reward_per_count
    sums = np.lib.stride_tricks.sliding_window_view(counts, second, axis=1).sum(axis=2)
    complete = np.arange(sums.shape[1]) <= (outcomes.lengths - second)[:, None]
    stalled = complete & (sums < NO_COUNT)
    until = np.where(stalled.any(axis=1), stalled.argmax(axis=1), complete.sum(axis=1))
    return replace(outcomes, lengths=np.maximum(until, 1), terminated=stalled.any(axis=1))


def dream_rewards(config: EnvConfig) -> Rewards:
    """Reality's rewards on the dream's scale: the reward of a count may differ between episodes."""
    if config.reward == "real":
        return lambda rewards, _: rewards
    constant = config.reward_per_frame * config.action_repeat
    per_count = config.reward_per_count if config.reward == "count" else 0.0
    return lambda _, infos: infos["count"] * per_count + constant


def step_limits(
    starts: Int64[np.ndarray, " N"], horizon: int, real: Sequence[Outcomes]
) -> Int64[np.ndarray, " N"]:
    """Steps for which each start is compared: no more than reality's time limit leaves.

    The dream has no time limit. Both are cut at the same step.

    Args:
        starts: steps of the episode before each start.
        horizon: most steps.
        real: outcomes in reality; the earliest truncation among them is the time limit.
    """
    ends = np.concatenate([(starts + one.lengths)[one.truncated] for one in real])
    limit = float(ends.min()) if len(ends) else np.inf
    return np.clip(limit - starts, 1, horizon).astype(np.int64)


def survival_curve(outcomes: Outcomes) -> Float64[np.ndarray, " H1"]:
    """Share alive after 0 .. H steps; lanes cut at their limits are censored.

    NaN from the step on at which no lane is observed any more. Source: Kaplan & Meier 1958.
    """
    until, died = outcomes.lengths, outcomes.terminated
    steps = np.arange(outcomes.rewards.shape[1] + 1)
    curve = stats.ecdf(stats.CensoredData(until[died], right=until[~died])).sf.evaluate(steps)
    return np.where((steps <= until.max()) | (curve == 0), curve, np.nan)


def return_curve(outcomes: Outcomes, limits: Int64[np.ndarray, " E"]) -> Float64[np.ndarray, " H1"]:
    """Mean return after 0 .. H steps: the sum of each step's mean over the observed lanes."""
    lanes = (limits[:, None] >= np.arange(1, outcomes.rewards.shape[1] + 1)).sum(axis=0)
    means = outcomes.rewards.sum(axis=0) / np.where(lanes > 0, lanes, np.nan)
    return np.concatenate([[0.0], np.cumsum(means)])


def compare(
    dream: Float64[np.ndarray, " N"],
    real: Float64[np.ndarray, " N"],
    episodes: Int64[np.ndarray, " N"],
    seed: int = 0,
) -> dict[str, Any]:
    """Compares the means of two values of the same N starts, with bootstrapped 95% intervals.

    Args:
        dream: values in the dream.
        real: values in reality.
        episodes: the episode of each start. The bootstrap resamples whole episodes, because
            starts of one episode are not independent.
        seed: of the bootstrap.

    Returns:
        Both means, their ratio (NaN unless all of reality's values are positive), and their
        difference, also in standard deviations of reality's values.
    """
    _, owners = np.unique(episodes, return_inverse=True)
    sums = [np.bincount(owners, weights=values) for values in (dream, real, np.ones(len(real)))]

    def interval(statistic: Callable[..., np.ndarray]) -> tuple[float, float]:
        return bootstrapped(statistic, sums, numpy_generator(seed, "compare"))

    difference, positive = float(dream.mean() - real.mean()), bool(real.min() > 0)
    return {
        "dream": float(dream.mean()),
        "real": float(real.mean()),
        "ratio": float(dream.mean() / real.mean()) if positive else np.nan,
        "ratio_ci95": interval(_ratio) if positive else (np.nan, np.nan),
        "difference": difference,
        "difference_ci95": interval(_mean_difference),
        "deviations": difference / max(float(real.std()), 1e-9),
    }


def _mean_difference(
    dream: np.ndarray, real: np.ndarray, counts: np.ndarray, axis: int
) -> np.ndarray:
    return (dream.sum(axis) - real.sum(axis)) / counts.sum(axis)


def _ratio(dream: np.ndarray, real: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
    del counts
    return dream.sum(axis) / real.sum(axis)


def bootstrapped(
    statistic: Callable[..., Any], data: Sequence[np.ndarray], generator: np.random.Generator
) -> tuple[float, float]:
    """The 95% interval of a statistic of paired data; resamples without a value are left out.

    NaN for less than two values.
    """
    if len(data[0]) < 2:
        return np.nan, np.nan
    with warnings.catch_warnings():
        # a resample may hold one value only
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            data,
            statistic,
            paired=True,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=generator,
        ).bootstrap_distribution
    known = found[np.isfinite(found)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)
