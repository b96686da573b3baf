"""Does the dream rank controllers as reality does? As far as either measurement can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from worldmodels.seeding import numpy_generator

HALVINGS = 1000
RESAMPLES = 2000


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ of mean returns in the dream and in reality, and how high it could be."""

    spearman: float
    """NaN where one world returns the same for all."""
    ci95: tuple[float, float]
    """Bootstrapped over the controllers."""
    ceiling: float
    """ρ expected of a perfect dream: what noise of few episodes leaves of 1."""
    real_reliability: float
    """Of the real means: correlation expected with those of as many other episodes."""
    dream_reliability: float
    controllers: int


def rank_correlation(
    dream: Float64[np.ndarray, "C D"], real: Float64[np.ndarray, "C E"], seed: int = 0
) -> RankCorrelation:
    """Compares the returns of C controllers, D dreams and E real episodes each.

    Ceiling: sqrt(reliability of dream) x sqrt(reliability of reality), for no measured correlation
    exceeds the product of the correlations with the true values. Source: Spearman 1904.
    """
    means = dream.mean(axis=1), real.mean(axis=1)
    reliabilities = reliability(real, seed), reliability(dream, seed)
    return RankCorrelation(
        spearman(*means),
        _bootstrapped(*means, seed),
        float(np.sqrt(reliabilities[0] * reliabilities[1])),
        *reliabilities,
        len(dream),
    )


def spearman(x: Float64[np.ndarray, " C"], y: Float64[np.ndarray, " C"]) -> float:
    """Pearson's correlation of the ranks, equal values sharing theirs; NaN if all are equal.

    >>> spearman(np.array([1.0, 2.0, 9.0]), np.array([-3.0, -2.0, 0.0]))
    1.0
    """
    a, b = (ranks(values) - (len(values) + 1) / 2 for values in (x, y))
    scale = np.sqrt(np.square(a).sum() * np.square(b).sum())
    return float((a * b).sum() / scale) if scale > 0 else np.nan


def ranks(values: Float64[np.ndarray, " C"]) -> Float64[np.ndarray, " C"]:
    """From 1 on; equal values have the mean of their places.

    >>> ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def reliability(returns: Float64[np.ndarray, "C N"], seed: int = 0) -> float:
    """Correlation of the controllers' means with those of as many other episodes; 0 or more.

    Mean of Spearman's ρ between halves of the episodes, r, is that of half as many; of all it is
    2r / (1 + r). Source: Spearman 1910; Brown 1910. NaN for less than two episodes.
    """
    generator, half = numpy_generator(seed, "halvings"), returns.shape[1] // 2
    if not half:
        return np.nan
    found = []
    for _ in range(HALVINGS):
        order = generator.permutation(returns.shape[1])
        halves = returns[:, order[:half]], returns[:, order[half : 2 * half]]
        found.append(spearman(*(part.mean(axis=1) for part in halves)))
    r = max(0.0, float(np.mean(found)))
    return 2 * r / (1 + r)


def _bootstrapped(
    x: Float64[np.ndarray, " C"], y: Float64[np.ndarray, " C"], seed: int
) -> tuple[float, float]:
    generator = numpy_generator(seed, "ranks")
    rows = generator.integers(len(x), size=(RESAMPLES, len(x)))
    values = np.array([spearman(x[row], y[row]) for row in rows])
    known = values[np.isfinite(values)]  # a resample may hold one controller alone
    if not len(known):
        return np.nan, np.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
