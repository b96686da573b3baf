"""One episode per lane, in whichever world: the only loop in which an agent acts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Float64, Int64

from worldmodels.data.episode import Episode

Policy = Callable[[np.ndarray], np.ndarray]
"""Observations of all lanes to actions of all lanes."""


def rollout(
    env: VectorEnv[np.ndarray, np.ndarray, Any],
    policy: Policy,
    seeds: Sequence[int],
    max_steps: int | None = None,
    patience: int | None = None,
) -> tuple[Float64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
    """Returns and lengths (in steps) of each lane's first episode.

    Args:
        env: under AutoresetMode.DISABLED, so that finished lanes cost nothing.
        policy: acts on all lanes at once.
        seeds: one per lane.
        max_steps: ends every episode after so many steps.
        patience: for training only: ends an episode after so many steps without a new best of its
            return, which begins at 0. `env` then needs `retire(lanes)`: a mask of lanes that are
            over, frozen until reset as if truncated.
    """
    if env.metadata["autoreset_mode"] != AutoresetMode.DISABLED:
        raise ValueError("rollout needs an environment under AutoresetMode.DISABLED")
    observations, _ = env.reset(seed=list(seeds))  # type: ignore[arg-type]
    returns, lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
    live = np.ones(env.num_envs, bool)
    progress = _Progress(env.num_envs)
    while live.any() and (max_steps is None or lengths.max() < max_steps):
        observations, rewards, terminated, truncated, _ = env.step(policy(observations))
        returns += np.where(live, rewards, 0.0)
        lengths += live
        live &= ~(terminated | truncated)
        if patience is not None:
            hopeless = live & (progress.steps_without(returns) >= patience)
            live &= ~hopeless
            env.retire(hopeless)  # type: ignore[attr-defined]
    return returns, lengths


class _Progress:
    """The best that each lane's return has been, and when."""

    def __init__(self, lanes: int) -> None:
        self._best, self._since = np.zeros(lanes), np.zeros(lanes, np.int64)

    def steps_without(self, returns: Float64[np.ndarray, " E"]) -> Int64[np.ndarray, " E"]:
        """Steps since the last new best; to be asked after every step."""
        self._since = np.where(returns > self._best, 0, self._since + 1)
        self._best = np.maximum(self._best, returns)
        return self._since


def record(
    envs: VectorEnv[np.ndarray, np.ndarray, Any],
    drive: Callable[[np.ndarray, np.ndarray], np.ndarray],
    to_environment: Callable[[np.ndarray], np.ndarray],
    seeds: Sequence[int],
    max_steps: int,
    last_frame: bool,
) -> list[Episode]:
    """Each lane's first episode, frames and all.

    Args:
        envs: real environments under AutoresetMode.DISABLED.
        drive: frames (E, 64, 64, 3), and a mask of the lanes that go on, to actions a (E, A).
        to_environment: actions a to the environment's own.
        seeds: one per lane.
        max_steps: episodes longer than this are cut, and marked truncated.
        last_frame: False where the picture after the end is not real: it is dropped.
    """
    frames, _ = envs.reset(seed=list(seeds))  # type: ignore[arg-type]
    pictures, steps = [frames], list[tuple[np.ndarray, ...]]()
    live = np.ones(envs.num_envs, bool)
    lengths = np.zeros(envs.num_envs, int)
    while live.any() and len(steps) < max_steps:
        actions = drive(frames, live)
        frames, rewards, terminated, truncated, infos = envs.step(to_environment(actions))
        pictures.append(frames)
        steps.append((actions, rewards, infos["count"], terminated, truncated))
        lengths += live
        live &= ~(terminated | truncated)
    return [
        _episode(pictures, steps, lane, int(lengths[lane]), last_frame)
        for lane in range(envs.num_envs)
    ]


def _episode(
    pictures: list[np.ndarray],
    steps: list[tuple[np.ndarray, ...]],
    lane: int,
    length: int,
    last_frame: bool,
) -> Episode:
    actions, rewards, counts, terminated, truncated = (
        np.stack([step[i][lane] for step in steps[:length]]) for i in range(5)
    )
    ended = bool(terminated[-1] or truncated[-1])
    frames = np.stack([p[lane] for p in pictures[: length + (last_frame or not ended)]])
    truncated[-1] |= not ended
    actions, rewards, counts = (np.asarray(x, np.float32) for x in (actions, rewards, counts))
    return Episode(frames, actions, rewards, counts, terminated, truncated)
