"""An agent to use: raw observations in, the environment's own actions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels.artifacts import Bundle
from worldmodels.envs.features import Memory
from worldmodels.envs.lanes import lane_seeds
from worldmodels.envs.real import preprocess
from worldmodels.models.senses import senses_of


class Agent:
    """V, M and C of a bundle, acting on one or many environments.

        agent = worldmodels.load("runs/quick")
        agent.reset(num_envs=8, seed=0)
        actions = agent.act(observations, episode_start)

    An agent made with action_repeat n looks at every n-th frame and holds its action between.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.reset()

    def reset(self, num_envs: int = 1, seed: int | Sequence[int] = 0) -> None:
        """Forgets everything.

        Args:
            num_envs: environments that `act` will see at once.
            seed: an int (lane i gets seed + i) or one per lane; used only by policies that draw.
        """
        self.seeds = lane_seeds(seed, num_envs)
        self.num_envs = num_envs
        bundle = self.bundle
        senses = senses_of(bundle.controller.config, bundle.vae, bundle.mdnrnn)
        self.memory = Memory(*senses, bundle.controller.config.inputs, num_envs)
        self._held = np.zeros((num_envs, bundle.actions.size), np.float32)
        self._age = np.full(num_envs, -1)  # frames since the episode opened; -1: not yet

    def act(self, observations: Any, episode_start: np.ndarray | None = None) -> Any:
        """The environment's own actions for raw observations.

        Args:
            observations: batched array (E, height, width, 3) or dictionary of arrays. With one
                environment a single observation will do, and a single action comes back.
            episode_start: (E,) booleans: this observation opens an episode. Needed from the
                second episode on: `terminated | truncated` of this step under SAME_STEP, of the
                step before under NEXT_STEP, the reset mask under DISABLED.
        """
        single = self._is_single(observations)
        frames = self._frames(observations, single)
        begins = (self._age < 0) | (False if episode_start is None else np.asarray(episode_start))
        begins = np.broadcast_to(begins, self.num_envs)
        self._age = np.where(begins, 0, self._age + 1)
        due = self._age % self.bundle.world.config.action_repeat == 0
        goes_on = np.flatnonzero(due & ~begins)
        if begins.any():
            lanes = np.flatnonzero(begins)
            self.memory.begin(lanes, frames[lanes])
        if len(goes_on):
            self.memory.advance(goes_on, self._held[goes_on], frames[goes_on])
        if due.any():
            self._held[due] = self._decide()[due]
        actions = self.bundle.actions.to_environment(self._held)
        return actions[0] if single else actions

    @torch.inference_mode()
    def _decide(self) -> np.ndarray:
        raw = self.bundle.controller.act(self.bundle.parameters[None], self.memory.features()[None])
        return self.bundle.actions.bound(raw[0]).numpy()

    def _is_single(self, observations: Any) -> bool:
        screen = self.bundle.world.config.screen
        picture = observations if screen is None else observations[screen]
        return self.num_envs == 1 and np.ndim(picture) == 3

    def _frames(self, observations: Any, single: bool) -> np.ndarray:
        config = self.bundle.world.config
        if single:
            return preprocess(config, observations)[None]
        rows = [_row(observations, i) for i in range(self.num_envs)]
        return np.stack([preprocess(config, row) for row in rows])


def _row(observations: Any, index: int) -> Any:
    if isinstance(observations, Mapping):
        return {name: value[index] for name, value in observations.items()}
    return observations[index]


def load(name: str | Path) -> Agent:
    """A shipped bundle by its name, a bundle's folder, or a run folder.

    Raises:
        InputError: there is no such bundle, or it is truncated or foreign.
    """
    return Agent(Bundle.load(name))
