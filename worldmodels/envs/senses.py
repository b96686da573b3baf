"""The controller's inputs in ablations: z, h and c that are not of the trained V and M."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodels.data.starts import Starts
from worldmodels.envs.dream import DreamEnv, warm
from worldmodels.models.controller import ControllerConfig, features
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE


def senses_of(config: ControllerConfig, vae: VAE, mdnrnn: MDNRNN) -> tuple[VAE, MDNRNN]:
    """The V and M whose z, h and c the controller sees, as `config.senses` chooses."""
    if config.senses == "untrained":
        return vae, _untrained(mdnrnn)
    return (_blind(vae) if config.senses == "blind" else vae), mdnrnn


def _untrained(mdnrnn: MDNRNN) -> MDNRNN:
    """An M of the same sizes with random weights, the same ones at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = MDNRNN(mdnrnn.config, mdnrnn.latent_size, mdnrnn.action_size, mdnrnn.heads)
    return fresh.eval().requires_grad_(False)


def _blind(vae: VAE) -> VAE:
    """A V whose z is 0, the prior's mean, for every picture."""
    blind = copy.deepcopy(vae)
    with torch.no_grad():
        blind.posterior.weight.zero_()
        blind.posterior.bias.zero_()
    return blind


class SensedDream(DreamEnv):
    """A dream for ablations, whose observation holds the state of another M, `senses`.

    The dream itself is the same. `senses` is fed with its z and actions; if `blind`, z is 0 for
    `senses` and in the observation.
    """

    def __init__(
        self,
        mdnrnn: MDNRNN,
        starts: Starts,
        *args: Any,
        senses: MDNRNN,
        blind: bool,
        **options: Any,
    ) -> None:
        super().__init__(mdnrnn, starts, *args, **options)
        self.senses, self.blind = senses, blind
        seen = replace(starts, mu=torch.zeros_like(starts.mu)) if blind else starts
        _, *self._first_states, _ = warm(senses, seen)
        self._h, self._c = senses.initial_state(self.num_envs)

    def _start(self, lanes: np.ndarray, windows: list[int]) -> None:
        super()._start(lanes, windows)
        index = torch.from_numpy(lanes)
        self._h[index], self._c[index] = (part[windows] for part in self._first_states)

    def _advance(self, lanes: np.ndarray, actions: np.ndarray) -> np.ndarray:
        index = torch.from_numpy(lanes)
        taken = self.actions.canonical(torch.from_numpy(actions[lanes]))
        self._h[index], self._c[index] = self.senses.step(
            self._z()[index], taken, self.state.first[index], (self._h[index], self._c[index])
        )
        return super()._advance(lanes, actions)

    def _z(self) -> Tensor:
        return torch.zeros_like(self.state.z) if self.blind else self.state.z

    @torch.inference_mode()
    def _observation(self) -> np.ndarray:
        return features(self.senses, self._z(), self._h, self._c, self.inputs).numpy()
