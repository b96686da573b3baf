"""Checks what a vector environment is given for its lanes: seeds, masks and actions.

They are checked once, here; the compiled code behind an environment trusts their shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Bool, Float32

from worldmodels.errors import InputError

RESET_MASK = "reset_mask"
"""Option of `reset` that selects lanes."""


def check_lanes(num_envs: Any) -> None:
    """Checks a number of lanes.

    Raises:
        InputError: it is not a whole number from 1.
    """
    whole = isinstance(num_envs, (int, np.integer)) and not isinstance(num_envs, bool)
    if not whole or num_envs < 1:
        raise InputError(f"num_envs is {num_envs!r}: it must be a whole number from 1")


def lane_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """One seed per lane; an int means seed + i, as in Gymnasium.

    Raises:
        InputError: there is not one seed per lane, or one is not a whole number from 0.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)):
        seed = range(int(seed), int(seed) + num_envs)
    if not isinstance(seed, (Sequence, np.ndarray)):
        raise InputError(f"seed {seed!r} is neither a whole number nor one per lane")
    if len(seed) != num_envs:
        raise InputError(f"{len(seed)} seeds for {num_envs} environments: give one per lane")
    for one in seed:
        if one is not None and (not isinstance(one, (int, np.integer)) or one < 0):
            raise InputError(f"seed {one!r} is not a whole number from 0")
    return [None if one is None else int(one) for one in seed]


def reset_mask(options: dict[str, Any] | None, num_envs: int) -> Bool[np.ndarray, " E"]:
    """Lanes to reset: those of `options["reset_mask"]`, else all."""
    if options is not None and not isinstance(options, dict):
        raise InputError(f"options is a {type(options).__name__}: it must be a dictionary")
    if options is None or RESET_MASK not in options:
        return np.ones(num_envs, bool)
    return lane_mask(options[RESET_MASK], num_envs, RESET_MASK)


def lane_mask(mask: Any, num_envs: int, name: str) -> Bool[np.ndarray, " E"]:
    """The mask, one boolean per lane.

    Raises:
        InputError: it has another shape or dtype.
    """
    mask = _array(mask, name)
    if mask.shape != (num_envs,) or mask.dtype != bool:
        raise InputError(
            f"{name} has shape {mask.shape} and dtype {mask.dtype}: it must be {num_envs} "
            "booleans, one per lane"
        )
    return mask


def lane_actions(actions: Any, num_envs: int, size: int) -> Float32[np.ndarray, "E A"]:
    """The actions of all lanes as contiguous float32 numbers.

    Args:
        actions: (num_envs, size), finite real numbers.
        num_envs: lanes.
        size: numbers in an action.

    Raises:
        InputError: shape or dtype differ, or a number is not finite.
    """
    given = _array(actions, "actions")
    if given.shape != (num_envs, size) or given.dtype.kind not in "biuf":
        raise InputError(
            f"actions have shape {given.shape} and dtype {given.dtype}: {num_envs} lanes need real "
            f"numbers of shape {(num_envs, size)}, one row per lane"
        )
    with np.errstate(over="ignore"):  # infinite numbers are refused below
        checked = np.ascontiguousarray(given, np.float32)
    if not (finite := np.isfinite(checked)).all():
        lane = int(np.flatnonzero(~finite.all(1))[0])
        raise InputError(f"the action of lane {lane} is {given[lane]}: it must be finite")
    return checked


def own_actions(actions: Any, space: gymnasium.Space[Any]) -> np.ndarray:
    """The environment's own actions of all lanes, checked against their batched space.

    Numbers of a Box may pass its bounds: what then happens is up to the environment.

    Raises:
        InputError: shape or dtype differ, a number is not finite, or a choice does not exist.
    """
    given, floats = _array(actions, "actions"), isinstance(space, gymnasium.spaces.Box)
    if given.shape != space.shape or given.dtype.kind not in ("biuf" if floats else "biu"):
        raise InputError(
            f"actions have shape {given.shape} and dtype {given.dtype}, but the environments need "
            f"{space.dtype} {space.shape}, one row per lane"
        )
    chosen = given if floats else given.astype(space.dtype)
    if not (np.isfinite(chosen).all() if floats else space.contains(chosen)):
        raise InputError(
            f"actions {given.tolist()} are not all "
            + ("finite" if floats else f"choices of {' '.join(str(space).split())}")
        )
    return chosen


def _array(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of several lengths, GPU tensors
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{name} cannot be made one NumPy array ({reason})") from error
