"""Several frames of CarRacing with one action, in one call."""

from typing import Any

import gymnasium

from worldmodels.envs.abilities import HoldsActions


class Held(
    HoldsActions, gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs
):
    """The outermost wrapper of `worldmodels/CarRacing-v3`: counts held frames in its time limit."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)
        self._frames: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self._frames = 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self._frames = (self._frames or 0) + 1
        return observation, reward, terminated, truncated or self._over(), info

    def hold(self, action: Any, frames: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """What so many calls of `step` return (fewer at an end), with the sum of their rewards.

        Raises:
            ValueError: frames is less than 1.
            gymnasium.error.ResetNeeded: no episode has begun, or its time is over.
        """
        limit = self._limit()
        if frames < 1:
            raise ValueError(f"frames is {frames}: hold an action for 1 or more")
        if self._frames is None or self._over():
            raise gymnasium.error.ResetNeeded("call reset() before hold()")
        frames = frames if limit is None else min(frames, limit - self._frames)
        env: Any = self.unwrapped
        observation, reward, taken, terminated, info = env.hold(action, frames)
        self._frames += taken
        return observation, reward, terminated, self._over(), info

    def _limit(self) -> int | None:
        return self.spec.max_episode_steps if self.spec else None

    def _over(self) -> bool:
        limit = self._limit()
        return limit is not None and (self._frames or 0) >= limit
