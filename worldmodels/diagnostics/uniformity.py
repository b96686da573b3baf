"""Probability integral transform: uniform where M's mixture is the law of the next z."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

BINS = 20


@dataclass(frozen=True)
class Uniformity:
    """How far P(z <= the next z) is from uniform. ∪: too narrow a mixture, ∩: too wide."""

    histogram: list[float]
    """Density in equal bins from 0 to 1, over all dimensions; 1 everywhere were it uniform."""
    ks: float
    """Kolmogorov-Smirnov distance from uniform, all dimensions together."""
    worst_ks: float
    """The largest of a single dimension."""
    worst_dimension: int
    steps: int


def uniformity(pit: Float[np.ndarray, "N Z"]) -> Uniformity:
    """Histogram and distances of the transforms of N steps."""
    each = [ks_from_uniform(column) for column in pit.T]
    worst = int(np.argmax(each))
    # float32 may round to a hair above 1
    density, _ = np.histogram(pit.clip(0, 1), BINS, range=(0, 1), density=True)
    return Uniformity(density.tolist(), ks_from_uniform(pit.ravel()), each[worst], worst, len(pit))


def ks_from_uniform(values: Float[np.ndarray, " N"]) -> float:
    """Largest distance of the empirical distribution function from u.

    >>> ks_from_uniform(np.array([0.25, 0.75]))
    0.25
    """
    u = np.sort(values.astype(np.float64))
    steps = np.arange(len(u) + 1) / len(u)
    return float(max((steps[1:] - u).max(), (u - steps[:-1]).max()))
