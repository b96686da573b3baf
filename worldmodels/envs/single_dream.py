"""`gymnasium.make("worldmodels/Dream-v0", bundle=)`: the dream with one lane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from worldmodels.envs.dream import make_dream


class SingleDream(gymnasium.Env[np.ndarray, np.ndarray]):
    """`gymnasium.make("worldmodels/Dream-v0", bundle=)`: the dream with one lane."""

    # gymnasium.make looks for the modes in the class
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30.0}  # noqa: RUF012

    def __init__(self, bundle: str | Path, render_mode: str | None = None, **options: Any) -> None:
        self.dream = make_dream(1, bundle=bundle, autoreset_mode=AutoresetMode.DISABLED, **options)
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self.dream.metadata["render_fps"]}
        self.observation_space = self.dream.single_observation_space
        self.action_space = self.dream.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        observations, infos = self.dream.reset(seed=None if seed is None else [seed])
        return observations[0], infos

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observations, rewards, terminated, truncated, infos = self.dream.step(action[None])
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), infos

    def render(self) -> np.ndarray:
        return self.dream.render()[0]
