"""A dream for ablations: the controller sees it through another M, or sees no z."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodels.data.starts import Starts
from worldmodels.envs.dream import DreamEnv, warm
from worldmodels.models.controller import features
from worldmodels.models.mdnrnn import MDNRNN


class SensedDream(DreamEnv):
    """A dream whose observation holds the state of another M, `senses`.

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
