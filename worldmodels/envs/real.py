"""Real environments in step: any Gymnasium environment with pictures, as a VectorEnv of frames."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

import worldmodels  # noqa: F401  (registers the environments)
from worldmodels.envs.abilities import HoldsActions, SkipsDrawing
from worldmodels.envs.lanes import check_lanes, lane_mask, lane_seeds, own_actions, reset_mask
from worldmodels.envs.picture import SIZE, choose, is_picture, preprocess, record
from worldmodels.envs.trust import check_trusted
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.versions import package_versions
from worldmodels.world import RECORDED, EnvConfig, RawPicture, World


def make_env(config: EnvConfig, *, official: bool) -> gymnasium.Env[Any, Any]:
    """One environment: the official one, or its faster version.

    Raises:
        InputError: it cannot be made, for whatever reason, or its module is not trusted.
    """
    if not config.live:
        raise InputError(
            f"env.id is {RECORDED}: this needs a live environment, and the run has only imported "
            "episodes"
        )
    name = config.id if official or config.training_id is None else config.training_id
    kwargs = dict(config.kwargs)
    if config.max_episode_steps is not None:
        kwargs["max_episode_steps"] = config.max_episode_steps
    module, _, id_ = name.rpartition(":")
    check_trusted(name)
    try:
        if module:
            import_module(module)
        if id_.startswith("Vizdoom"):
            from worldmodels.envs.take_cover import make_doom

            return make_doom(id_, **kwargs)
        env = gymnasium.make(id_, disable_env_checker=True, **kwargs)
        if not _is_rendered(env, config):
            return env
        env.close()
        return gymnasium.make(
            id_, disable_env_checker=True, **{**kwargs, "render_mode": "rgb_array"}
        )
    except InputError:
        raise
    except Exception as error:  # constructors raise anything
        raise InputError(
            f"env.id {name} cannot be made ({_reason(error)}): check env.id and env.kwargs"
        ) from error


def _is_rendered(env: gymnasium.Env[Any, Any], config: EnvConfig) -> bool:
    return config.screen is None and not is_picture(env.observation_space)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def describe(config: EnvConfig) -> World:
    """Makes an environment, looks at its first picture, and returns what world.json records.

    Raises:
        InputError: the environment cannot be made, or does not fit the config.
    """
    env = make_env(config, official=True)
    try:
        actions = Actions.of_space(env.action_space, config.action, config.action_clip)
        if config.mirrored_actions and actions.counts != (len(config.mirrored_actions),):
            raise InputError(
                f"env.mirrored_actions has {len(config.mirrored_actions)} choices: it needs "
                f"env.action auto and as many actions, but {config.id} has {env.action_space}"
            )
        picture = _first_picture(env, config)
        if config.count_attribute and not hasattr(env.unwrapped, config.count_attribute):
            raise InputError(f"env.count_attribute: {config.id} has no `{config.count_attribute}`")
        fps = float(env.metadata.get("render_fps") or 30)
    finally:
        env.close()
    return World(config, actions.to_dict(), fps, package_versions(), picture)


def _first_picture(env: gymnasium.Env[Any, Any], config: EnvConfig) -> RawPicture:
    rendered = _is_rendered(env, config)
    try:
        observation, _ = env.reset(seed=0)
        if rendered:
            observation = env.render()
    except Exception as error:
        raise InputError(f"env.id {config.id} cannot be reset ({_reason(error)})") from error
    picture = choose(config, observation)
    return record(config, picture, env.observation_space, rendered=rendered)


class RealEnvs(VectorEnv[np.ndarray, np.ndarray, Any]):
    """Environments that step one after the other; observations are frames uint8 (E, 64, 64, 3).

    A step holds the action for `action_repeat` frames. `infos["count"]` is the count of the step.
    Under AutoresetMode.DISABLED a finished lane is frozen until `reset` with a mask.

    Attributes:
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
        self.envs: list[gymnasium.Env[Any, Any]] = []
        try:
            for _ in range(num_envs):
                self.envs.append(make_env(world.config, official=official))
        except BaseException:
            self.close()
            raise
        self.metadata = {"autoreset_mode": autoreset_mode, "render_fps": world.fps}
        self.single_observation_space = gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.frames = np.zeros((num_envs, SIZE, SIZE, 3), np.uint8)
        self.steps = np.zeros(num_envs, np.int64)
        self.terminated, self.truncated = (np.ones(num_envs, bool) for _ in range(2))

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode in all lanes, or in those of `options["reset_mask"]`.

        Raises:
            InputError: the seeds or the mask do not fit the lanes.
        """
        seeds = lane_seeds(seed, self.num_envs)
        mask = reset_mask(options, self.num_envs)
        for lane in np.flatnonzero(mask):
            self._reset_lane(int(lane), seeds[lane])
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
        return self.frames.copy(), rewards, *flags, {"count": counts}

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
        for env in self.envs:
            env.close()

    def _reset_lane(self, lane: int, seed: int | None) -> None:
        env = self.envs[lane]
        if isinstance(env.unwrapped, SkipsDrawing):
            env.unwrapped.drawing = self.drawing
        observation, _ = env.reset(seed=seed)
        self.frames[lane] = self._frame(env, observation)
        self.steps[lane], self.terminated[lane], self.truncated[lane] = 0, False, False

    def _advance(self, lane: int, action: Any) -> tuple[float, float]:
        env, repeat = self.envs[lane], self.world.config.action_repeat
        before = self._count(env)
        if isinstance(env, HoldsActions) and not self.official:
            observation, total, terminated, truncated, _ = env.hold(action, repeat)
        else:
            observation, total, terminated, truncated = self._repeat(env, action)
        self.frames[lane] = self._frame(env, observation)
        self.steps[lane] += 1
        self.truncated[lane] = truncated
        self.terminated[lane] = terminated and not truncated
        return float(total), self._count(env) - before

    def _repeat(self, env: gymnasium.Env[Any, Any], action: Any) -> tuple[Any, float, bool, bool]:
        """Steps action_repeat times with one action, or to the end; only the last step draws."""
        inner, repeat, total = env.unwrapped, self.world.config.action_repeat, 0.0
        skips = inner if isinstance(inner, SkipsDrawing) else None
        for left in range(repeat - 1, -1, -1):
            if skips:
                skips.drawing = self.drawing and not left
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            if terminated or truncated:
                if skips and self.drawing and left:
                    observation = skips.draw()
                break
        return observation, total, terminated, truncated

    def _count(self, env: gymnasium.Env[Any, Any]) -> float:
        name = self.world.config.count_attribute
        return float(getattr(env.unwrapped, name)) if name else 0.0

    def _frame(self, env: gymnasium.Env[Any, Any], observation: Any) -> np.ndarray:
        if not self.drawing:
            return np.zeros_like(self.frames[0])
        if self.world.picture.rendered:
            observation = env.render()
        return preprocess(self.world, observation)
