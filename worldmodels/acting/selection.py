"""Selection: the better half of a generation, and the best controller of an evolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from worldmodels.acting.evaluate import Evaluate, Lengths, Returns


def halving(
    evaluate: Evaluate,
    screening: int,
    parameters: Float64[np.ndarray, "P N"],
    seeds: Sequence[int],
) -> tuple[Returns, Lengths]:
    """Evaluates candidates, the worse half of them on the first seeds only.

    Source: Karnin, Koren & Somekh 2013 (ICML), with one halving.

    Args:
        evaluate: evaluates candidates on seeds.
        screening: so many seeds are everyone's; 0: all are.
        parameters: the candidates.
        seeds: the episodes.

    Returns:
        Returns and lengths; of episodes that were left out NaN and 0.
    """
    if not screening:
        return evaluate(parameters, seeds)
    shape = len(parameters), len(seeds)
    returns, lengths = np.full(shape, np.nan), np.zeros(shape, np.int64)
    first = evaluate(parameters, seeds[:screening])
    returns[:, :screening], lengths[:, :screening] = first
    kept = better_half(first[0])
    rest = evaluate(parameters[kept], seeds[screening:])
    returns[kept, screening:], lengths[kept, screening:] = rest
    return returns, lengths


def better_half(returns: Returns) -> Int64[np.ndarray, " half"]:
    """Indices of the better half of the candidates, in their order."""
    best_first = np.argsort(-merits(returns), kind="stable")  # NaN comes last
    return np.sort(best_first[: (len(returns) + 1) // 2])


def merits(returns: Returns) -> Float64[np.ndarray, " P"]:
    """The numbers that rank the candidates: the means of those measured on every seed.

    The others rank below all of these, in the order of the means of what was measured. NaN where
    nothing was measured.
    """
    means, dropped = measured_means(returns), ~np.isfinite(returns).all(axis=1)
    if dropped.any() and not dropped.all():
        above = means[~dropped].min() - np.fmax.reduce(means[dropped])
        means[dropped] += np.fmin(0.0, above - 1.0)
    return means


def measured_means(returns: Returns) -> Float64[np.ndarray, " P"]:
    """Each candidate's mean over the seeds on which it was measured; NaN: on none."""
    measured = np.isfinite(returns)
    counts = np.where(measured.any(axis=1), measured.sum(axis=1), np.nan)
    return np.where(measured, returns, 0.0).sum(axis=1) / counts


@dataclass(frozen=True)
class Validated:
    """The distribution's mean after a generation, on real validation episodes."""

    generation: int
    mean: Float64[np.ndarray, " N"]
    returns: Float64[np.ndarray, " E"]
    """Empty: it was not measured."""

    @property
    def score(self) -> float:
        return float(self.returns.mean())


@dataclass(frozen=True)
class Choice:
    """The controller that is kept."""

    generation: int
    parameters: Float64[np.ndarray, " N"]
    score: float
    """Its mean return over the episodes that chose it."""
    steps: int
    """Real steps that the choice took."""


def choose(
    validated: Sequence[Validated], measure: Evaluate, finalists: int, seeds: Sequence[int]
) -> Choice:
    """The best of the validated means: the best `finalists` by validation are measured again.

    The second measurement alone decides: the luck of the first one is not in it. Where nothing was
    measured, the last mean is chosen, and its score is NaN.
    """
    if not len(validated[-1].returns):
        return Choice(validated[-1].generation, validated[-1].mean, float("nan"), 0)
    ranked = sorted(validated, key=lambda one: -one.score)[:finalists]
    if len(ranked) == 1 or not seeds:
        return Choice(ranked[0].generation, ranked[0].mean, ranked[0].score, 0)
    again, lengths = measure(np.stack([one.mean for one in ranked]), seeds)
    best = int(again.mean(axis=1).argmax())
    score = float(again[best].mean())
    return Choice(ranked[best].generation, ranked[best].mean, score, int(lengths.sum()))
