"""The agent as a user calls it: raw observations in, the environment's own actions out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels.artifacts import Bundle
from worldmodels.envs.features import Memory
from worldmodels.envs.lanes import check_lanes, lane_mask, lane_seeds
from worldmodels.envs.picture import check_matches, choose, frame_of, plain
from worldmodels.envs.senses import senses_of


class Agent:
    """V, M and C of a bundle that act in one or several environments.

        agent = worldmodels.load("runs/quick")
        agent.reset(num_envs=8, seed=0)
        actions = agent.act(observations, episode_start)

    An agent with action_repeat n looks at every n-th frame and repeats its action in between.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.reset()

    def reset(self, num_envs: int = 1, seed: int | Sequence[int] = 0) -> None:
        """Clears the memory of all environments.

        Args:
            num_envs: the number of environments that `act` is given at once.
            seed: an int (lane i gets seed + i), or one per lane. Nothing of an agent is sampled
                today, so it changes no action.

        Raises:
            InputError: `num_envs` or `seed` is no such number.
        """
        check_lanes(num_envs)
        lane_seeds(seed, num_envs)
        self.num_envs = num_envs
        bundle = self.bundle
        senses = senses_of(bundle.controller.config, bundle.vae, bundle.mdnrnn)
        self.memory = Memory(*senses, bundle.controller.config.inputs, num_envs)
        self._held = np.zeros((num_envs, bundle.actions.size), np.float32)
        self._age = np.full(num_envs, -1)  # frames since the episode opened; -1: not yet

    def act(self, observations: Any, episode_start: Any = None) -> Any:
        """Returns the environment's own actions for raw observations.

        Args:
            observations: an array (E, height, width, 3), or a dictionary with such an array at
                `env.screen`; what `render()` returns where the observation is no picture. A single
                environment may pass a single observation, and gets a single action.
            episode_start: (E,) booleans: this observation opens an episode. Needed from the
                second episode on: `terminated | truncated` of this step under SAME_STEP, of the
                step before under NEXT_STEP, the reset mask under DISABLED.

        Raises:
            InputError: the pictures or `episode_start` have another shape or dtype.
        """
        pictures = choose(self.bundle.world.key, observations)
        shape = self.bundle.world.picture.shape
        single = self.num_envs == 1 and getattr(pictures, "shape", None) == shape
        pictures = pictures[None] if single else pictures
        check_matches(self.bundle.world, pictures, self.num_envs)
        begins = (self._age < 0) | self._starts(episode_start)
        self._age = np.where(begins, 0, self._age + 1)
        due = self._age % self.bundle.world.config.action_repeat == 0
        opening, going_on = np.flatnonzero(begins), np.flatnonzero(due & ~begins)
        if len(opening):
            self.memory.begin(opening, self._frames(pictures[opening]))
        if len(going_on):
            frames = self._frames(pictures[going_on])
            self.memory.advance(going_on, self._held[going_on], frames)
        if due.any():
            self._held[due] = self._decide()[due]
        actions = self.bundle.actions.to_environment(self._held)
        return actions[0] if single else actions

    def _starts(self, episode_start: Any) -> np.ndarray:
        if episode_start is None:
            return np.zeros(self.num_envs, bool)
        if isinstance(episode_start, (bool, np.bool_)):
            episode_start = [episode_start]
        return lane_mask(episode_start, self.num_envs, "episode_start")

    def _frames(self, pictures: np.ndarray) -> np.ndarray:
        world = self.bundle.world
        plainly = (plain(world.picture, picture) for picture in pictures)
        return np.stack([frame_of(picture, world.config) for picture in plainly])

    @torch.inference_mode()
    def _decide(self) -> np.ndarray:
        raw = self.bundle.controller.act(self.bundle.parameters[None], self.memory.features()[None])
        return self.bundle.actions.bound(raw[0]).numpy()


def load(name: str | Path) -> Agent:
    """Loads the agent of a shipped bundle (by its name), of a bundle's folder or of a run folder.

    Raises:
        InputError: there is no such bundle, or it is truncated or of another kind.
    """
    return Agent(Bundle.load(name))
