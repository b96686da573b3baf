"""Selection of the best candidate: each stage plays more episodes with fewer candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldmodels.acting.evaluate import Evaluate, Returns


@dataclass(frozen=True)
class Race:
    """The outcome of a race."""

    kept: list[int]
    """Indices of the candidates of the last rung, the best one first."""
    returns: Returns
    """Theirs, on all seeds."""
    steps: int
    """Steps that all candidates took."""


def race(
    evaluate: Evaluate,
    candidates: np.ndarray,
    seeds: Sequence[int],
    rungs: Sequence[tuple[int, int]],
) -> Race:
    """Successive halving.

    Source: Karnin, Koren & Somekh 2013 (ICML), with rungs of any size; earlier episodes count too.

    Args:
        evaluate: evaluates some of the candidates on some of the seeds.
        candidates: what is compared, one a row.
        seeds: the episodes, in this order.
        rungs: (episodes that a candidate has then played, candidates that are kept).
    """
    kept, returns = np.arange(len(candidates)), np.empty((len(candidates), 0))
    steps = played = 0
    for episodes, number in rungs:
        more, lengths = evaluate(candidates[kept], seeds[played:episodes])
        returns = np.concatenate([returns, more], axis=1)
        best = np.argsort(-returns.mean(axis=1), kind="stable")[:number]
        kept, returns = kept[best], returns[best]
        steps, played = steps + int(lengths.sum()), episodes
    return Race(kept.tolist(), returns, steps)
