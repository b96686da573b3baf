"""Real environments in step: any Gymnasium world with pictures, as one VectorEnv of frames."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

import worldmodels  # noqa: F401  (registers the environments)
from worldmodels.envs.lanes import lane_seeds, reset_mask
from worldmodels.envs.picture import shrink
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.precision import name_of, product_dtype
from worldmodels.world import EnvConfig, World


def make_env(config: EnvConfig, *, official: bool) -> gymnasium.Env[Any, Any]:
    """One environment: the official one, or its faster twin.

    Raises:
        InputError: the id is unknown, its packages are missing, or its arguments are wrong.
    """
    id_ = config.id if official or config.training_id is None else config.training_id
    kwargs = dict(config.kwargs)
    if config.max_episode_steps is not None:
        kwargs["max_episode_steps"] = config.max_episode_steps
    try:
        module, _, id_ = id_.rpartition(":")  # Gymnasium's way to name what has to be imported
        if module:
            import_module(module)
        if id_.startswith("Vizdoom"):
            from worldmodels.envs.take_cover import make_doom

            return make_doom(id_, **kwargs)
        if not _has_picture(gymnasium.spec(id_), config):
            kwargs["render_mode"] = "rgb_array"
        return gymnasium.make(id_, disable_env_checker=True, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise InputError(f"env.id {id_} needs a package: {error}") from error
    except (gymnasium.error.Error, ModuleNotFoundError, TypeError) as error:
        reason = _one_line(error).rstrip(".")
        raise InputError(f"env.id {id_} can't be made ({reason}): see env.id, kwargs") from error


def _has_picture(spec: gymnasium.envs.registration.EnvSpec, config: EnvConfig) -> bool:
    """Whether observations are pictures; asks a throw-away instance."""
    if config.screen is not None:
        return True
    probe = gymnasium.make(spec, **config.kwargs)
    space = probe.observation_space
    probe.close()
    return _is_picture(space)


def _is_picture(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 3


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def describe(config: EnvConfig) -> World:
    """world.json of an environment: made once, by `collect`."""
    env = make_env(config, official=True)
    actions = Actions.of_space(env.action_space, config.action, config.action_clip)
    if config.mirrored_actions and actions.counts != (len(config.mirrored_actions),):
        raise InputError(
            f"env.mirrored_actions has {len(config.mirrored_actions)} choices: it needs env.action "
            f"auto and a world of so many, but {config.id}'s is {env.action_space}"
        )
    fps = float(env.metadata.get("render_fps") or 30)
    if config.count_attribute and not hasattr(env.unwrapped, config.count_attribute):
        env.reset(seed=0)
        if not hasattr(env.unwrapped, config.count_attribute):
            raise InputError(f"env.count_attribute: {config.id} has no `{config.count_attribute}`")
    env.close()
    return World(config, actions.to_dict(), fps, package_versions())


def package_versions() -> dict[str, str]:
    """Versions of what scores depend on, and the number type of products on this machine."""
    versions = {"precision": name_of(product_dtype())}
    for name in ("worldmodels-dream", "torch", "numpy", "gymnasium", "box2d", "vizdoom", "cma"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


class RealEnvs(VectorEnv[np.ndarray, np.ndarray, Any]):
    """Environments stepped one after the other; observations are frames uint8 (E, 64, 64, 3).

    A step holds the action for `action_repeat` frames. `infos["count"]` is the world's count of
    the step. Under AutoresetMode.DISABLED finished lanes are frozen until `reset` with a mask.
    Set `drawing` to False for a policy without eyes: worlds that can skip their drawing then do.
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
        self.world, self.num_envs, self.autoreset_mode = world, num_envs, autoreset_mode
        self.drawing, self.official = True, official
        self.envs = [make_env(world.config, official=official) for _ in range(num_envs)]
        self.metadata = {"autoreset_mode": autoreset_mode, "render_fps": world.fps}
        size = world.config.size
        self.single_observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.frames = np.zeros((num_envs, size, size, 3), np.uint8)
        self.terminated, self.truncated = (np.ones(num_envs, bool) for _ in range(2))

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode in all lanes, or in those of `options["reset_mask"]`."""
        seeds = lane_seeds(seed, self.num_envs)
        mask = reset_mask(options, self.num_envs)
        for lane in np.flatnonzero(mask):
            self._reset_lane(int(lane), seeds[lane])
        return self.frames.copy(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        rewards, counts = np.zeros(self.num_envs), np.zeros(self.num_envs, np.float32)
        for lane in range(self.num_envs):
            if not (self.terminated[lane] or self.truncated[lane]):
                rewards[lane], counts[lane] = self._advance(lane, actions[lane])
            elif self.autoreset_mode == AutoresetMode.NEXT_STEP:
                self._reset_lane(lane, None)
        flags = self.terminated.copy(), self.truncated.copy()
        return self.frames.copy(), rewards, *flags, {"count": counts}

    def retire(self, lanes: np.ndarray) -> None:
        """These lanes (a mask) are over: frozen until reset, as if truncated."""
        self.truncated |= lanes

    def close_extras(self, **kwargs: Any) -> None:
        for env in self.envs:
            env.close()

    def _reset_lane(self, lane: int, seed: int | None) -> None:
        env = self.envs[lane]
        self._set_drawing(env, self.drawing)
        observation, _ = env.reset(seed=seed)
        self.frames[lane] = self._frame(env, observation)
        self.terminated[lane] = self.truncated[lane] = False

    def _advance(self, lane: int, action: Any) -> tuple[float, float]:
        env, repeat = self.envs[lane], self.world.config.action_repeat
        before = self._count(env)
        if hasattr(env, "hold") and not self.official:
            observation, total, terminated, truncated, _ = env.hold(action, repeat)
        else:
            observation, total, terminated, truncated = self._repeat(env, action)
        self.frames[lane] = self._frame(env, observation)
        self.truncated[lane] = truncated
        self.terminated[lane] = terminated and not truncated
        return float(total), self._count(env) - before

    def _repeat(self, env: gymnasium.Env[Any, Any], action: Any) -> tuple[Any, float, bool, bool]:
        """The action for action_repeat frames, of which only the last has to be drawn."""
        repeat, total = self.world.config.action_repeat, 0.0
        for frame in range(repeat):
            last = frame == repeat - 1
            skips = self._set_drawing(env, self.drawing and last)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            if terminated or truncated:
                if skips and self.drawing and not last:
                    observation = env.unwrapped.draw()  # type: ignore[attr-defined]
                break
        return observation, total, terminated, truncated

    def _count(self, env: gymnasium.Env[Any, Any]) -> float:
        name = self.world.config.count_attribute
        return float(getattr(env.unwrapped, name)) if name else 0.0

    @staticmethod
    def _set_drawing(env: gymnasium.Env[Any, Any], drawing: bool) -> bool:
        """Whether the environment can skip its drawing."""
        if not hasattr(env.unwrapped, "drawing"):
            return False
        env.unwrapped.drawing = drawing
        return True

    def _frame(self, env: gymnasium.Env[Any, Any], observation: Any) -> np.ndarray:
        if not self.drawing:
            return np.zeros_like(self.frames[0])
        if self.world.config.screen is None and not _is_picture(env.observation_space):
            observation = env.render()
        return preprocess(self.world.config, observation)


def preprocess(config: EnvConfig, observation: Any) -> np.ndarray:
    """A raw observation to the frame that V sees: chosen, cropped, resized by area."""
    picture = observation if config.screen is None else observation[config.screen]
    if config.crop is not None:
        top, bottom, left, right = config.crop
        picture = picture[top:bottom, left:right]
    if picture.ndim == 2 or picture.shape[2] == 1:
        picture = np.repeat(picture.reshape(*picture.shape[:2], 1), 3, axis=2)
    return shrink(np.ascontiguousarray(picture), config.size)
