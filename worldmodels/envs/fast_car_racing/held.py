"""Several frames of CarRacing with one action, in one call."""

from typing import Any

import gymnasium

from worldmodels.envs.abilities import HoldsActions


class Held(HoldsActions, gymnasium.Wrapper[Any, Any, Any, Any]):
    """The outermost wrapper of `worldmodels/CarRacing-v3`: counts held frames in its time limit."""

    _frames = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self._frames = 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self._frames += 1
        return observation, reward, terminated, truncated or self._over(), info

    def hold(self, action: Any, frames: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """What so many calls of `step` return, with the sum of their rewards."""
        limit = self._limit()
        frames = frames if limit is None else min(frames, limit - self._frames)
        env: Any = self.unwrapped
        observation, reward, taken, terminated, info = env.hold(action, frames)
        self._frames += taken
        return observation, reward, terminated, self._over(), info

    def _limit(self) -> int | None:
        return self.spec.max_episode_steps if self.spec else None

    def _over(self) -> bool:
        limit = self._limit()
        return limit is not None and self._frames >= limit
