"""Calls a user's environment and checks what it returns."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Callable
from numbers import Real
from typing import Any, NoReturn

import gymnasium
import numpy as np

from worldmodels.calls import TimeLimitError, limited, why_lost
from worldmodels.envs.abilities import HoldsActions, SkipsDrawing
from worldmodels.envs.make import drawing_cure, make_env, reason
from worldmodels.world import EnvConfig

MOST_FRAMES = 5000
"""Frames after which an episode is truncated if the environment has no time limit."""
OWN = "worldmodels.envs.fast_car_racing"
"""An environment that always returns: limits would cost a sixth of its frames."""
STEP_VALUES = "(observation, reward, terminated, truncated, info)"


class BrokenEnvError(Exception):
    """A call of an environment failed, or returned what it may not; says in which step and why."""


class Guard:
    """One environment, its present episode, and the frames of it so far.

    After a BrokenEnvError the environment is closed; the next `reset` makes another.
    """

    def __init__(self, config: EnvConfig, *, official: bool) -> None:
        self.config, self.official = config, official
        self.env: gymnasium.Env[Any, Any] = make_env(config, official=official)
        self.limit = _limit(self.env)
        self.seed: int | None = None
        self.frame = 0
        self._broken = False

    def reset(self, seed: int | None, options: dict[str, Any] | None = None) -> Any:
        """Begins an episode; the first observation. Options are passed on if there are any."""
        if self._broken:
            self.env, self._broken = make_env(self.config, official=self.official), False
        self.seed, self.frame = seed, 0
        more = {"options": options} if options else {}
        returned = self._call(lambda: self.env.reset(seed=seed, **more))
        if not (isinstance(returned, tuple) and len(returned) == 2):
            self.fail(f"reset() returns {_kind(returned)}, but (observation, info) is needed")
        return returned[0]

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        """One frame: observation, reward, terminated, truncated."""
        self.frame += 1
        return self._checked(self._call(self.env.step, action))

    def hold(self, action: Any, frames: int) -> tuple[Any, float, bool, bool]:
        """Some frames at once, of an environment that offers it."""
        self.frame += frames
        assert isinstance(self.env, HoldsActions)
        return self._checked(self._call(self.env.hold, action, frames))

    def picture(self, observation: Any, *, rendered: bool) -> Any:
        """The observation, or what is rendered."""
        return self._call(self.env.render) if rendered else observation

    def draw(self) -> Any:
        """A new picture, of an environment that skips its drawing."""
        assert isinstance(self.env.unwrapped, SkipsDrawing)
        return self._call(self.env.unwrapped.draw)

    def fail(self, why: str, error: BaseException | None = None) -> NoReturn:
        """Closes the environment and raises a BrokenEnvError."""
        self._broken = True
        self.close()
        step = f" in step {self.frame}" if self.frame else ""
        begun = "" if self.seed is None else f" after reset(seed={self.seed})"
        raise BrokenEnvError(f"env.id {self.config.id}{step}{begun}: {why}") from error

    def close(self) -> None:
        """Closes the environment, whatever state it is in."""
        try:
            self.env.close()
        except Exception:
            if not self._broken:
                raise

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        place = -1 if self.seed is None else self.seed, self.frame
        if why := why_lost(*place):
            self.fail(why)
        limit = self.config.step_timeout
        try:
            if type(self.env.unwrapped).__module__.startswith(OWN):
                return function(*arguments)
            return limited(function, *place, limit, *arguments)
        except TimeLimitError as error:
            self.fail(f"it did not return within {limit:g} s (env.step_timeout)", error)
        except Exception as error:  # environments raise anything
            self.fail(_wording(error), error)

    def _checked(self, returned: Any) -> tuple[Any, float, bool, bool]:
        if not (isinstance(returned, tuple) and len(returned) == 5):
            self.fail(f"step() returns {_kind(returned)}, but 5 are needed: {STEP_VALUES}")
        observation, reward, terminated, truncated, _ = returned
        if not _is_number(reward):
            self.fail(f"the reward is {_kind(reward)}: it must be a finite number")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_ | int | np.integer):
                self.fail(f"{name} is {_kind(flag)}: it must be True or False")
        cut = self.limit is None and self.frame >= MOST_FRAMES
        return observation, float(reward), bool(terminated), bool(truncated) or cut


def _limit(env: gymnasium.Env[Any, Any]) -> int | None:
    """Frames after which the environment itself truncates an episode, as registered."""
    return env.spec.max_episode_steps if env.spec else None


def _is_number(value: Any) -> bool:
    if type(value) is float:  # nearly always, and faster
        return math.isfinite(value)
    if isinstance(value, np.ndarray):
        return value.size == 1 and value.dtype.kind in "buif" and bool(np.isfinite(value).all())
    return isinstance(value, Real) and math.isfinite(value)


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} values"
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} {value.shape}"
    return repr(value)[:60] if isinstance(value, Real | str | None) else f"a {type(value).__name__}"


def _wording(error: Exception) -> str:
    """What went wrong on one line, with the fix of the most frequent mistakes."""
    text = str(error)
    if isinstance(error, TypeError) and (missing := re.search(r"argument '(seed|options)'$", text)):
        return f"reset() takes no {missing[1]}: write `def reset(self, *, seed=None, options=None)`"
    if isinstance(error, ValueError) and "values to unpack (expected 5, got" in text:
        count = text.rpartition(" ")[2].rstrip(")")
        return f"step() returns {count} values, but 5 are needed: {STEP_VALUES}"
    if cure := drawing_cure(error):
        return f"{reason(error)}: {cure}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{reason(error)} ({place.filename}, line {place.lineno})"
