"""The lanes of a vector environment: their seeds and which of them are reset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def lane_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """One seed per lane; an int means seed + i, as in Gymnasium."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + lane for lane in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(f"{len(seed)} seeds for {num_envs} environments: give one per lane")
    return [None if s is None else int(s) for s in seed]


def reset_mask(options: dict[str, Any] | None, num_envs: int) -> np.ndarray:
    """Lanes to reset: those of `options["reset_mask"]`, else all."""
    if options is None or "reset_mask" not in options:
        return np.ones(num_envs, bool)
    mask = np.asarray(options["reset_mask"])
    if mask.shape != (num_envs,) or mask.dtype != bool:
        raise ValueError(f"reset_mask must be {num_envs} booleans, one per lane")
    return mask
