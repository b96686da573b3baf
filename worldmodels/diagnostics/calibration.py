"""Is a predicted probability the frequency with which it happens? The head for the end, tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

EDGES = (0.0, 0.001, 0.01, *(i / 10 for i in range(1, 11)))
"""Of the bins: tenths, and finer where most steps are, for an end is rare."""


@dataclass(frozen=True)
class Bin:
    """The steps at which about the same was predicted."""

    low: float
    high: float
    count: int
    predicted: float
    """Mean probability; NaN in an empty bin, as below."""
    observed: float
    """Share of the steps that did end."""


@dataclass(frozen=True)
class Calibration:
    """How probabilities and what happened agree."""

    brier: float
    """Mean of (p - y)². Source: Brier 1950, halved as it is today."""
    no_skill: float
    """The same of who says the share of ends at every step: ȳ (1 - ȳ)."""
    ece: float
    """Expected calibration error: Σ_bins share of steps x |predicted - observed|.
    Source: Guo et al. 2017, eq. 3."""
    predicted: float
    """Mean of all probabilities."""
    observed: float
    """Share of steps that ended."""
    steps: int
    bins: list[Bin]


def calibration(
    p: Float[np.ndarray, " N"], ended: Bool[np.ndarray, " N"], edges: Sequence[float] = EDGES
) -> Calibration:
    """Compares probabilities with what happened."""
    p, share = p.astype(np.float64), float(ended.mean())
    owners = np.digitize(p, edges[1:-1])
    bins = [
        _bin(low, high, p[owners == i], ended[owners == i])
        for i, (low, high) in enumerate(pairwise(edges))
    ]
    gaps = [b.count * abs(b.predicted - b.observed) for b in bins if b.count]
    brier = float(np.square(p - ended).mean())
    ece = sum(gaps) / len(p)
    return Calibration(brier, share * (1 - share), ece, float(p.mean()), share, len(p), bins)


def _bin(low: float, high: float, p: np.ndarray, ended: np.ndarray) -> Bin:
    if not len(p):
        return Bin(low, high, 0, np.nan, np.nan)
    return Bin(low, high, len(p), float(p.mean()), float(ended.mean()))


def unweighted(p: Float[np.ndarray, " N"], positive_weight: float) -> Float[np.ndarray, " N"]:
    """What a head means that was trained with ends weighing w: p / (p + w (1 - p)).

    The weighted cross-entropy is least at w q / (w q + 1 - q) for an event of probability q.
    """
    p = p.astype(np.float64)
    return p / (p + positive_weight * (1 - p))
