"""The rollout loop: any policy in any environment, one episode per lane."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from worldmodels.acting.policies import Policy
from worldmodels.data.episode import Episode


class Step(NamedTuple):
    """One step of all lanes, and what the environment returned."""

    actions: Float32[np.ndarray, "E A"]
    observations: Shaped[np.ndarray, "E ..."]
    rewards: Float64[np.ndarray, " E"]
    terminated: Bool[np.ndarray, " E"]
    truncated: Bool[np.ndarray, " E"]
    infos: dict[str, Any]
    took: Bool[np.ndarray, " E"]
    """Lanes that took this step."""
    live: Bool[np.ndarray, " E"]
    """Lanes that go on after it."""


def steps(
    env: VectorEnv[np.ndarray, np.ndarray, Any],
    policy: Policy,
    observations: Shaped[np.ndarray, "E ..."],
    live: Bool[np.ndarray, " E"] | None = None,
    max_steps: int | None = None,
    patience: int | None = None,
) -> Iterator[Step]:
    """Lets a policy act until all lanes have ended.

    Args:
        env: takes actions a, under AutoresetMode.DISABLED: lanes that have ended cost nothing.
        policy: acts on all lanes at once.
        observations: of the lanes as they are now.
        live: lanes that go on; by default all.
        max_steps: most steps.
        patience: ends a lane after so many steps without a new best of its return, which begins
            at 0. `env` then needs `retire(mask)`, which freezes lanes as if truncated, and returns
            what that costs them.
    """
    if env.metadata["autoreset_mode"] != AutoresetMode.DISABLED:
        raise ValueError("an environment under AutoresetMode.DISABLED is needed")
    live = np.ones(env.num_envs, bool) if live is None else live
    progress, count = _Progress(env.num_envs), 0
    while live.any() and (max_steps is None or count < max_steps):
        actions, took = policy(observations, live), live
        observations, rewards, terminated, truncated, infos = env.step(actions)
        live = took & ~(terminated | truncated)
        if patience is not None:
            hopeless = live & (progress.steps_without(rewards) >= patience)
            rewards = rewards + env.retire(hopeless)  # type: ignore[attr-defined]
            live, truncated = live & ~hopeless, truncated | hopeless
        yield Step(actions, observations, rewards, terminated, truncated, infos, took, live)
        count += 1


class _Progress:
    """Each lane's return, its best so far, and the steps since then."""

    def __init__(self, lanes: int) -> None:
        self._returns, self._best = np.zeros(lanes), np.zeros(lanes)
        self._since = np.zeros(lanes, np.int64)

    def steps_without(self, rewards: Float64[np.ndarray, " E"]) -> Int64[np.ndarray, " E"]:
        """Steps since the last new best; call it after every step."""
        self._returns = self._returns + rewards
        self._since = np.where(self._returns > self._best, 0, self._since + 1)
        self._best = np.maximum(self._best, self._returns)
        return self._since


def rollout(
    env: VectorEnv[np.ndarray, np.ndarray, Any],
    policy: Policy,
    seeds: Sequence[int],
    patience: int | None = None,
    max_steps: int | None = None,
) -> tuple[Float64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
    """Returns and lengths (in steps) of one episode per lane.

    Args:
        env: as for `steps`.
        policy: acts on all lanes at once.
        seeds: one per lane.
        patience: as for `steps`; for training only.
        max_steps: longer episodes are cut.
    """
    observations, _ = env.reset(seed=list(seeds))  # type: ignore[arg-type]
    returns, lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
    for step in steps(env, policy, observations, max_steps=max_steps, patience=patience):
        returns += np.where(step.took, step.rewards, 0.0)
        lengths += step.took
    return returns, lengths


def record(
    env: VectorEnv[np.ndarray, np.ndarray, Any],
    policy: Policy,
    seeds: Sequence[int],
    max_steps: int,
    options: dict[str, Any] | None = None,
) -> list[Episode | str]:
    """One episode per lane, with its frames; where the environment broke, the reason.

    A black picture at the end of an episode is left out: ViZDoom has no picture there.

    Args:
        env: observations are frames; takes actions a, under AutoresetMode.DISABLED.
        policy: acts on all lanes at once.
        seeds: one per lane.
        max_steps: longer episodes are cut, and marked truncated.
        options: for the environments' `reset`.
    """
    frames, _ = env.reset(seed=list(seeds), options=options)  # type: ignore[arg-type]
    taken = list(steps(env, policy, frames, max_steps=max_steps))
    return [_episode(frames[lane], taken, lane) for lane in range(env.num_envs)]


def _episode(first: np.ndarray, taken: list[Step], lane: int) -> Episode | str:
    mine = [step for step in taken if step.took[lane]]
    if broken := mine[-1].infos["broken"][lane]:
        return str(broken)
    ended = not mine[-1].live[lane]
    seen = mine[:-1] if ended and not mine[-1].observations[lane].any() else mine
    frames = np.stack([first, *(step.observations[lane] for step in seen)])
    actions, rewards, counts = (
        np.asarray(np.stack(values), np.float32)
        for values in (
            [step.actions[lane] for step in mine],
            [step.rewards[lane] for step in mine],
            [step.infos["count"][lane] for step in mine],
        )
    )
    terminated, truncated = (
        np.array([getattr(step, name)[lane] for step in mine])
        for name in ("terminated", "truncated")
    )
    truncated[-1] |= not ended
    return Episode(frames, actions, rewards, counts, terminated, truncated)
