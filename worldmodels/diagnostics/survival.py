"""What becomes of fixed policies in dream and reality: how long they live, what they earn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float64, Int64

from worldmodels.acting.rollout import Policy
from worldmodels.seeding import numpy_generator
from worldmodels.world import EnvConfig

RESAMPLES = 2000
"""Of a bootstrap."""

Paid = Callable[[np.ndarray, dict[str, Any]], np.ndarray]
"""An environment's rewards and infos to the rewards that are compared."""


@dataclass(frozen=True)
class Course:
    """What became of some lanes in the steps after their starts, at most H."""

    rewards: Float64[np.ndarray, "E H"]
    """0 after the end."""
    lengths: Int64[np.ndarray, " E"]
    """Steps until the end, or H."""
    terminated: Bool[np.ndarray, " E"]
    truncated: Bool[np.ndarray, " E"]
    """Ended by a limit of the world's own, within H."""

    @classmethod
    def joined(cls, courses: Sequence[Course]) -> Course:
        """The lanes of all, in their order."""
        return cls(*(np.concatenate([getattr(c, f.name) for c in courses]) for f in fields(cls)))


def follow(
    env: VectorEnv[np.ndarray, np.ndarray, Any],
    observations: np.ndarray,
    policy: Policy,
    horizon: int,
    paid: Paid = lambda rewards, _: rewards,
    live: Bool[np.ndarray, " E"] | None = None,
) -> Course:
    """Lets a policy act from where an environment is, for `horizon` steps.

    Args:
        env: under AutoresetMode.DISABLED, so that ended lanes are frozen.
        observations: the present ones.
        policy: acts on all lanes at once.
        horizon: H.
        paid: gives the rewards that are compared; none: the environment's.
        live: lanes that have not ended yet; none: all.
    """
    live = np.ones(env.num_envs, bool) if live is None else live.copy()
    rewards, lengths = np.zeros((env.num_envs, horizon)), np.zeros(env.num_envs, np.int64)
    died, cut = np.zeros(env.num_envs, bool), np.zeros(env.num_envs, bool)
    for step in range(horizon):
        if not live.any():
            break
        observations, received, terminated, truncated, infos = env.step(policy(observations))
        rewards[:, step] = np.where(live, paid(received, infos), 0.0)
        lengths += live
        died |= live & terminated
        cut |= live & truncated & ~terminated & (step < horizon - 1)
        live &= ~(terminated | truncated)
    return Course(rewards, lengths, died, cut)


def in_dreams_currency(config: EnvConfig) -> Paid:
    """Reality's rewards as the dream pays them: a count's price may differ between episodes."""
    if config.reward == "real":
        return lambda rewards, _: rewards
    constant = config.reward_per_frame * config.action_repeat
    price = config.reward_per_count if config.reward == "count" else 0.0
    return lambda _, infos: infos["count"] * price + constant


def time_limit(starts: Int64[np.ndarray, " E"], course: Course) -> float:
    """Steps of an episode after which the world cuts it, as far as one can see; inf: it doesn't."""
    seen = (starts + course.lengths)[course.truncated]
    return float(seen.min()) if len(seen) else np.inf


def limits_of(
    starts: Int64[np.ndarray, " E"], horizon: int, time_limit: float
) -> Int64[np.ndarray, " E"]:
    """Steps for which each lane is compared: at most those that reality's time limit leaves.

    The dream knows no time limit; cut at the same step in both worlds nothing is favoured.
    """
    return np.clip(time_limit - starts, 1, horizon).astype(np.int64)


def survived(course: Course, limits: Int64[np.ndarray, " E"]) -> Float64[np.ndarray, " E"]:
    """Steps lived, within the limits."""
    return np.minimum(course.lengths, limits).astype(np.float64)


def earned(course: Course, limits: Int64[np.ndarray, " E"]) -> Float64[np.ndarray, " E"]:
    """Returns within the limits."""
    within = np.arange(course.rewards.shape[1]) < limits[:, None]
    return np.where(within, course.rewards, 0.0).sum(axis=1)


def survival_curve(course: Course, limits: Int64[np.ndarray, " E"]) -> Float64[np.ndarray, " H1"]:
    """Share alive after 0 .. H steps, the lanes cut at their limits being censored.

    S(k) = Π_{j <= k} (1 - deaths_j / at risk_j); NaN once nobody is observed.
    Source: Kaplan & Meier 1958.
    """
    steps = np.arange(1, course.rewards.shape[1] + 1)
    until = np.minimum(course.lengths, limits)
    died = course.terminated & (course.lengths <= limits)
    at_risk = (until[:, None] >= steps).sum(axis=0)
    deaths = (died[:, None] & (until[:, None] == steps)).sum(axis=0)
    curve = np.cumprod(1 - deaths / np.maximum(at_risk, 1))
    return np.concatenate([[1.0], np.where((at_risk > 0) | (curve == 0), curve, np.nan)])


def return_curve(course: Course, limits: Int64[np.ndarray, " E"]) -> Float64[np.ndarray, " H1"]:
    """Mean return after 0 .. H steps: the sum of each step's mean over the lanes still observed."""
    observed = limits[:, None] >= np.arange(1, course.rewards.shape[1] + 1)
    lanes = observed.sum(axis=0)
    means = np.where(observed, course.rewards, 0.0).sum(axis=0) / np.where(lanes > 0, lanes, np.nan)
    return np.concatenate([[0.0], np.cumsum(means)])


@dataclass(frozen=True)
class Compared:
    """Two means over the same starts; intervals are bootstrapped over the starts."""

    dream: float
    real: float
    difference: float
    """Dream less reality."""
    difference_ci95: tuple[float, float]
    deviations: float
    """The difference in standard deviations of reality's values."""
    ratio: float
    """Dream to reality; NaN where reality's values are not all positive."""
    ratio_ci95: tuple[float, float]


def compare(
    dream: Float64[np.ndarray, " N"], real: Float64[np.ndarray, " N"], seed: int = 0
) -> Compared:
    """Compares values of the same N starts."""
    generator = numpy_generator(seed, "compare")
    rows = generator.integers(len(real), size=(RESAMPLES, len(real)))
    dreams, reals = dream[rows].mean(axis=1), real[rows].mean(axis=1)
    difference = float(dream.mean() - real.mean())
    positive = bool(real.min() > 0)
    ratios = dreams / reals if positive else np.full(RESAMPLES, np.nan)
    return Compared(
        float(dream.mean()),
        float(real.mean()),
        difference,
        _ci95(dreams - reals),
        difference / max(float(real.std()), 1e-9),
        float(dream.mean() / real.mean()) if positive else np.nan,
        _ci95(ratios),
    )


def _ci95(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
