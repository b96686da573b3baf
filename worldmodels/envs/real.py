"""Real environments: any Gymnasium environment with pictures, as a VectorEnv of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodels.envs.abilities import HoldsActions, SkipsDrawing
from worldmodels.envs.guard import BrokenEnvError, Guard
from worldmodels.envs.lanes import (
    RESET_MASK,
    check_lanes,
    lane_mask,
    lane_seeds,
    own_actions,
    reset_mask,
)
from worldmodels.envs.make import make_env
from worldmodels.envs.picture import preprocess
from worldmodels.envs.preflight import describe
from worldmodels.errors import InputError
from worldmodels.run import say
from worldmodels.world import World

__all__ = ["RealEnvs", "describe", "make_env"]


class RealEnvs(VectorEnv[np.ndarray, np.ndarray, Any]):
    """Environments that step one after the other; observations are frames uint8 (E, S, S, 3).

    A step holds the action for `action_repeat` frames. `infos["count"]` is the count of the step.
    Under AutoresetMode.DISABLED a finished lane is frozen until `reset` with a mask.

    A lane whose environment fails, or returns what it may not, says so in one line and is
    truncated; `infos["broken"]` holds the line, empty for the others, which go on.

    Attributes:
        observations: of each lane, as its environment returned it last.
        drawing: False for an open-loop policy: frames are then black, and environments that can
            skip their drawing do so.
    """

    def __init__(
        self,
        world: World,
        num_envs: int,
        *,
        official: bool = False,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    ) -> None:
        if autoreset_mode == AutoresetMode.SAME_STEP:
            raise InputError("autoreset_mode SAME_STEP is not offered: use NEXT_STEP or DISABLED")
        check_lanes(num_envs)
        self.world, self.num_envs, self.autoreset_mode = world, num_envs, autoreset_mode
        self.drawing, self.official = True, official
        self.guards: list[Guard] = []
        try:
            for _ in range(num_envs):
                self.guards.append(Guard(world.config, official=official))
        except BaseException:
            self.close()
            raise
        self.metadata = {"autoreset_mode": autoreset_mode, "render_fps": world.fps}
        frame = (world.config.size, world.config.size, 3)
        self.single_observation_space = gymnasium.spaces.Box(0, 255, frame, np.uint8)
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.frames = np.zeros((num_envs, *frame), np.uint8)
        self.observations: list[Any] = [None] * num_envs
        self.steps = np.zeros(num_envs, np.int64)
        self.terminated, self.truncated = (np.ones(num_envs, bool) for _ in range(2))
        self.broken = np.full(num_envs, "", object)

    @property
    def envs(self) -> list[gymnasium.Env[Any, Any]]:
        """The environments of the lanes."""
        return [guard.env for guard in self.guards]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode in all lanes, or in those of `options["reset_mask"]`.

        Other options are passed on to the environments.

        Raises:
            InputError: the seeds or the mask do not fit the lanes.
        """
        seeds = lane_seeds(seed, self.num_envs)
        mask = reset_mask(options, self.num_envs)
        others = {name: value for name, value in (options or {}).items() if name != RESET_MASK}
        for lane in np.flatnonzero(mask):
            self._reset_lane(int(lane), seeds[lane], others)
        return self.frames.copy(), {}

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps the lanes that have not ended with the environment's own actions.

        Raises:
            InputError: the actions do not fit the action space; no lane has been stepped.
        """
        actions = own_actions(actions, self.action_space)
        rewards, counts = np.zeros(self.num_envs), np.zeros(self.num_envs, np.float32)
        for lane in range(self.num_envs):
            if not (self.terminated[lane] or self.truncated[lane]):
                rewards[lane], counts[lane] = self._advance(lane, actions[lane])
            elif self.autoreset_mode == AutoresetMode.NEXT_STEP:
                self._reset_lane(lane, None)
        flags = self.terminated.copy(), self.truncated.copy()
        return self.frames.copy(), rewards, *flags, {"count": counts, "broken": self.broken.copy()}

    def retire(self, lanes: np.ndarray) -> np.ndarray:
        """Freezes the lanes of a mask until they are reset, as if truncated.

        Returns:
            What the steps that each of them had left cost (E,), as in a dream.
        """
        lanes, spec = lane_mask(lanes, self.num_envs, "lanes"), self.envs[0].spec
        self.truncated |= lanes
        frames = (spec.max_episode_steps if spec else None) or 0
        left = np.maximum(frames / self.world.config.action_repeat - self.steps, 0)
        return lanes * left * min(self.world.config.reward_per_step, 0.0)

    def close_extras(self, **kwargs: Any) -> None:
        for guard in self.guards:
            guard.close()

    def _reset_lane(
        self, lane: int, seed: int | None, options: dict[str, Any] | None = None
    ) -> None:
        guard = self.guards[lane]
        if isinstance(guard.env.unwrapped, SkipsDrawing):
            guard.env.unwrapped.drawing = self.drawing
        self.steps[lane], self.broken[lane] = 0, ""
        self.terminated[lane], self.truncated[lane] = False, False
        try:
            self.observations[lane] = guard.reset(seed, options)
            self.frames[lane] = self._frame(guard, self.observations[lane])
        except BrokenEnvError as error:
            self._break(lane, error)

    def _advance(self, lane: int, action: Any) -> tuple[float, float]:
        guard, repeat = self.guards[lane], self.world.config.action_repeat
        self.steps[lane] += 1
        try:
            before = self._count(guard.env)
            if isinstance(guard.env, HoldsActions) and not self.official:
                observation, total, terminated, truncated = guard.hold(action, repeat)
            else:
                observation, total, terminated, truncated = self._repeat(guard, action)
            over, self.observations[lane] = terminated or truncated, observation
            self.frames[lane] = self._frame(guard, observation, later=True, over=over)
        except BrokenEnvError as error:
            self._break(lane, error)
            return 0.0, 0.0
        self.truncated[lane] = truncated
        self.terminated[lane] = terminated and not truncated
        return total, self._count(guard.env) - before

    def _break(self, lane: int, error: BrokenEnvError) -> None:
        self.broken[lane], self.truncated[lane] = str(error), True
        say(f"an episode is lost: {error}")

    def _repeat(self, guard: Guard, action: Any) -> tuple[Any, float, bool, bool]:
        """Steps action_repeat times with one action, or to the end; only the last step draws."""
        inner, repeat, total = guard.env.unwrapped, self.world.config.action_repeat, 0.0
        skips = inner if isinstance(inner, SkipsDrawing) else None
        for left in range(repeat - 1, -1, -1):
            if skips:
                skips.drawing = self.drawing and not left
            observation, reward, terminated, truncated = guard.step(action)
            total += reward
            if terminated or truncated:
                if skips and self.drawing and left:
                    observation = guard.draw()
                break
        return observation, total, terminated, truncated

    def _count(self, env: gymnasium.Env[Any, Any]) -> float:
        """The count of the episode so far."""
        name = self.world.config.count_attribute
        return float(env.get_wrapper_attr(name)) if name else 0.0

    def _frame(
        self, guard: Guard, observation: Any, *, later: bool = False, over: bool = False
    ) -> np.ndarray:
        """What V sees; black where nothing is drawn, or where an episode ends without a picture."""
        picture = None
        if self.drawing:
            picture = guard.picture(observation, rendered=self.world.picture.rendered)
        if not self.drawing or (over and picture is None):
            return np.zeros_like(self.frames[0])
        try:
            return preprocess(self.world, picture)
        except InputError as error:
            if later:  # another picture than the episode's first: the episode is broken
                guard.fail(str(error), error)
            raise
