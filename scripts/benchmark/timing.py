"""Two ways of doing the same, timed side by side: the only honest speed on a shared machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Work = Callable[[], float]
"""Does a piece of work; returns how many units of it (frames, steps, images) were done."""


@dataclass(frozen=True)
class Row:
    """One line of the benchmark: a ratio, with both speeds behind it."""

    what: str
    against: str
    unit: str
    """Of both speeds, e.g. `frames/s`."""
    ours: float
    theirs: float
    ratio: float
    """Median over the rounds."""
    spread: tuple[float, float]
    """Lowest and highest ratio of a round."""
    target: float | None = None
    """At least so much is asked for; none: a row to look at."""
    note: str = ""


def side_by_side(
    what: str,
    against: str,
    unit: str,
    ours: Work,
    theirs: Work,
    *,
    rounds: int = 5,
    target: float | None = None,
    note: str = "",
) -> Row:
    """Does both pieces of work in turns, `rounds` times, after one round that isn't counted."""
    speeds = np.array([(_speed(ours), _speed(theirs)) for _ in range(rounds + 1)])[1:]
    ratios = speeds[:, 0] / speeds[:, 1]
    ours_median, theirs_median = np.median(speeds, axis=0)
    return Row(
        what,
        against,
        unit,
        float(ours_median),
        float(theirs_median),
        float(np.median(ratios)),
        (float(ratios.min()), float(ratios.max())),
        target,
        note,
    )


def timed(work: Work) -> tuple[float, float]:
    """Units done, and the seconds that took."""
    start = time.perf_counter()
    units = work()
    return units, time.perf_counter() - start


def rate(work: Work) -> float:
    """Units a second, the second time: the first may compile, or fill caches."""
    work()
    return _speed(work)


def _speed(work: Work) -> float:
    units, seconds = timed(work)
    return units / seconds
