"""The dream of one M, seen through another: for ablations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from worldmodels.data.starts import Starts
from worldmodels.envs.dream import DreamEnv, warm
from worldmodels.models.controller import features
from worldmodels.models.mdnrnn import MDNRNN


class SensedDream(DreamEnv):
    """A dream whose observation holds the h and c of `senses`, fed with the dream's z and actions.

    Where `blind`, z is 0 in the observation and in what `senses` is fed.
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
        self._sensed_starts = warm(senses, seen)[1:3]
        self._h, self._c = senses.initial_state(self.num_envs)

    def _start(self, lanes: np.ndarray, windows: list[int]) -> None:
        super()._start(lanes, windows)
        index = torch.from_numpy(lanes)
        for mine, start in zip((self._h, self._c), self._sensed_starts, strict=True):
            mine[index] = start[windows]

    def _advance(self, lanes: np.ndarray, actions: np.ndarray) -> np.ndarray:
        index = torch.from_numpy(lanes)
        taken = self.actions.canonical(torch.from_numpy(np.asarray(actions, np.float32)[lanes]))
        seen, first, state = self._z()[index], self.state.first[index], (self._h, self._c)
        before = state[0][index], state[1][index]
        self._h[index], self._c[index] = self.senses.step(seen, taken, first, before)
        return super()._advance(lanes, actions)

    def _z(self) -> torch.Tensor:
        return torch.zeros_like(self.state.z) if self.blind else self.state.z

    @torch.inference_mode()
    def _observation(self) -> np.ndarray:
        return features(self.senses, self._z(), self._h, self._c, self.inputs).numpy()
