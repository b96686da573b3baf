"""Two implementations, timed alternately: on a shared machine only their ratio is meaningful."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from worldmodels.precision import product_dtype

Work = Callable[[], float]
"""Does a piece of work; returns how many units of it (frames, steps, images) were done."""
Row = dict[str, Any]
"""One line of the benchmark: a ratio with both speeds behind it, or a number."""


def side_by_side(
    what: str,
    against: str,
    unit: str,
    ours: Work,
    theirs: Work,
    *,
    rounds: int = 5,
    target: float | None = None,
) -> Row:
    """Does both pieces of work in turns, `rounds` times, after one round that isn't counted.

    Returns:
        The medians of both speeds and of their ratio, and the range of the ratio over the rounds;
        at least `target` is asked for.
    """
    speeds = np.array([(_speed(ours), _speed(theirs)) for _ in range(rounds + 1)])[1:]
    ratios = speeds[:, 0] / speeds[:, 1]
    ours_median, theirs_median = np.median(speeds, axis=0)
    return {
        "what": what,
        "against": against,
        "ours": float(ours_median),
        "theirs": float(theirs_median),
        "unit": unit,
        "ratio": float(np.median(ratios)),
        "range": (float(ratios.min()), float(ratios.max())),
        "target": target,
    }


def target(bfloat16: float | None, float32: float | None) -> float | None:
    """The target of a row, by the number type of the products on this processor."""
    return bfloat16 if product_dtype() == torch.bfloat16 else float32


def number(what: str, value: float, unit: str = "", at_most: float | None = None) -> Row:
    """A number that is not a ratio: seconds, bytes, grey levels."""
    return {"what": what, "value": float(value), "unit": unit, "at_most": at_most}


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
