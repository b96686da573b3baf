"""The real environment seen through V and M: frames become the controller's input [z h]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodels.envs.lanes import lane_actions, lane_mask, lane_seeds, reset_mask
from worldmodels.envs.picture import check_frames
from worldmodels.models.action import Actions
from worldmodels.models.controller import LATENT_BOUND, feature_space, features
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE


class Memory:
    """z, h and c of some lanes: the state that V and M compute from the frames so far."""

    def __init__(self, vae: VAE, mdnrnn: MDNRNN, inputs: str, num_envs: int) -> None:
        self.vae, self.mdnrnn, self.inputs = vae, mdnrnn, inputs
        self.z = torch.zeros(num_envs, vae.config.latent_size)
        self.h, self.c = mdnrnn.initial_state(num_envs)
        self.first = torch.zeros(num_envs)

    @torch.inference_mode()
    def begin(self, lanes: np.ndarray, frames: np.ndarray) -> None:
        """Begins an episode in some lanes (indices) with these frames."""
        index = torch.from_numpy(lanes)
        self.h[index], self.c[index], self.first[index] = 0.0, 0.0, 1.0
        self._see(index, frames)

    @torch.inference_mode()
    def advance(self, lanes: np.ndarray, actions: np.ndarray, frames: np.ndarray) -> None:
        """Moves some lanes (indices) on by the actions a they took and the frames that followed."""
        index = torch.from_numpy(lanes)
        state = self.h[index], self.c[index]
        taken = torch.from_numpy(np.ascontiguousarray(actions, np.float32))
        self.h[index], self.c[index] = self.mdnrnn.step(
            self.z[index], taken, self.first[index], state
        )
        self.first[index] = 0.0
        self._see(index, frames)

    @torch.inference_mode()
    def features(self) -> torch.Tensor:
        """[z h] (or as `inputs` says) of all lanes."""
        return features(self.mdnrnn, self.z, self.h, self.c, self.inputs)

    def _see(self, index: torch.Tensor, frames: np.ndarray) -> None:
        mu, _ = self.vae.encode(torch.from_numpy(frames))
        self.z[index] = mu.clamp(-LATENT_BOUND, LATENT_BOUND)


class FeatureEnv(VectorEnv[np.ndarray, np.ndarray, Any]):
    """A vector environment of frames whose observation is the controller's input."""

    def __init__(
        self,
        env: VectorEnv[np.ndarray, np.ndarray, Any],
        vae: VAE,
        mdnrnn: MDNRNN,
        actions: Actions,
        inputs: str,
    ) -> None:
        self.env, self.actions = env, actions
        self.num_envs = env.num_envs
        self.metadata = dict(env.metadata)
        self.autoreset_mode = self.metadata["autoreset_mode"]
        self.memory = Memory(vae, mdnrnn, inputs, env.num_envs)
        self.single_observation_space = feature_space(mdnrnn, inputs)
        self.single_action_space = actions.space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._ended = np.ones(self.num_envs, bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode in all lanes, or in those of `options["reset_mask"]`.

        Raises:
            InputError: seeds or mask do not fit the lanes, or the environment returns no frames.
        """
        lanes = np.flatnonzero(reset_mask(options, self.num_envs))
        seeds = lane_seeds(seed, self.num_envs)
        frames, infos = self.env.reset(seed=seeds, options=options)  # type: ignore[arg-type]
        check_frames(frames, self.num_envs, self.memory.vae.size)
        self.memory.begin(lanes, frames[lanes])
        self._ended[lanes] = False
        return self._observation(), infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps the lanes that have not ended with actions a.

        Raises:
            InputError: the actions are not finite numbers (E, A); no lane has been stepped.
        """
        given = lane_actions(actions, self.num_envs, self.actions.size)
        taken = self.actions.canonical(torch.from_numpy(given)).numpy()
        frames, rewards, terminated, truncated, infos = self.env.step(
            self.actions.to_environment(taken)
        )
        check_frames(frames, self.num_envs, self.memory.vae.size)
        running, restarted = np.flatnonzero(~self._ended), np.flatnonzero(self._ended)
        self.memory.advance(running, taken[running], frames[running])
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and len(restarted):
            self.memory.begin(restarted, frames[restarted])
        self._ended = terminated | truncated
        return self._observation(), rewards, terminated, truncated, infos

    def retire(self, lanes: np.ndarray) -> np.ndarray:
        """Freezes the lanes of a mask until they are reset; returns what that costs each."""
        self._ended |= lane_mask(lanes, self.num_envs, "lanes")
        cost: np.ndarray = self.env.retire(lanes)  # type: ignore[attr-defined]
        return cost

    def close_extras(self, **kwargs: Any) -> None:
        self.env.close()

    def _observation(self) -> np.ndarray:
        return self.memory.features().numpy()
