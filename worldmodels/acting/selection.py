"""Who is measured further: the better half of a generation, and the finalists of an evolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from worldmodels.acting.evaluate import Evaluate, Lengths, Returns


def halving(evaluate: Evaluate, screening: int) -> Evaluate:
    """`evaluate` that leaves the worse half's later episodes out: NaN, of length 0.

    Source: Karnin, Koren & Somekh 2013 (ICML), with one halving.

    Args:
        evaluate: measures candidates on seeds.
        screening: the first so many seeds are everyone's; 0: all are.
    """

    def screened(
        parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]
    ) -> tuple[Returns, Lengths]:
        first, first_lengths = evaluate(parameters, seeds[:screening])
        kept = better_half(first)
        returns = np.full((len(parameters), len(seeds)), np.nan)
        lengths = np.zeros(returns.shape, np.int64)
        returns[:, :screening], lengths[:, :screening] = first, first_lengths
        rest = evaluate(parameters[kept], seeds[screening:])
        returns[kept, screening:], lengths[kept, screening:] = rest
        return returns, lengths

    return screened if screening else evaluate


def better_half(returns: Returns) -> Int64[np.ndarray, " half"]:
    """Which candidates are in it, in their order."""
    best_first = np.argsort(-merits(returns), kind="stable")  # NaN comes last
    return np.sort(best_first[: (len(returns) + 1) // 2])


def merits(returns: Returns) -> Float64[np.ndarray, " P"]:
    """What ranks the candidates: the mean of those that were measured on every seed.

    The others come below them all, in the order of the means of what was measured; NaN: nothing.
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
    """The best of the validated, once the first `finalists` of them are measured again.

    The second measurement alone decides: it is free of the luck of having passed the first.
    Where nothing was measured the last one is chosen, and its score is NaN.
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
