"""Dream and reality as a VecEnv of stable-baselines3, whose lanes stay one batch.

Needs `pip install -e ".[sb3]"`; no other module imports this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn

import worldmodels  # noqa: F401  (registers the environments)


class Lanes(VecEnv):
    """A vector environment of ours: a lane that ends begins its next episode in the same step.

        env = Lanes("worldmodels/Dream-v0", 64, bundle="take_cover")
        PPO("MlpPolicy", VecMonitor(env)).learn(1_000_000)

    `infos` has the last observation of an episode and whether it was truncated, as
    stable-baselines3 expects them.
    """

    def __init__(self, name: str, num_envs: int, *, actions: str = "world", **options: Any) -> None:
        """Makes the environment.

        Args:
            name: worldmodels/Dream-v0 or worldmodels/Real-v0.
            num_envs: lanes.
            actions: `world`, the environment's own actions, or `controller`, vectors.
            options: bundle, inputs and others of the environment.

        Raises:
            InputError: an option is unknown or wrong.
        """
        options |= {"actions": actions, "autoreset_mode": AutoresetMode.DISABLED}
        self.env = gymnasium.make_vec(name, num_envs, **options)
        spaces = self.env.single_observation_space, self.env.single_action_space
        super().__init__(num_envs, *spaces)

    def reset(self) -> np.ndarray:
        observations, _ = self.env.reset(seed=self._seeds)  # type: ignore[arg-type]
        self._reset_seeds()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, terminated, truncated, _ = self.env.step(self._actions)
        over, infos = terminated | truncated, [dict[str, Any]() for _ in range(self.num_envs)]
        for lane in np.flatnonzero(over):
            infos[lane]["terminal_observation"] = observations[lane].copy()
            infos[lane]["TimeLimit.truncated"] = bool(truncated[lane] and not terminated[lane])
        if over.any():
            observations, _ = self.env.reset(options={"reset_mask": over})
        return observations, rewards.astype(np.float32), over, infos

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        pictures: Any = self.env.render()
        return pictures

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the lanes are one environment: set it on `env`")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError("the lanes are one environment: call methods of `env`")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))
