"""The dream's noise: a function of seed, episode and step, whatever else is dreamt beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.seeding import torch_generator

NOISE_BLOCK = 32
"""Steps of noise drawn at once."""


class Noise:
    """Noise as a function of (seed, episode, step), drawn in blocks once per distinct key."""

    def __init__(self, uniforms: int, normals: int) -> None:
        self._sizes = uniforms, normals
        self._tapes: dict[tuple[int, int, int], Tensor] = {}

    def __call__(
        self, keys: Sequence[tuple[int, int]], steps: np.ndarray
    ) -> tuple[Float[Tensor, "E U"], Float[Tensor, "E N"]]:
        """Uniforms and normals of lanes, each with its key and step."""
        places = [(*key, int(step)) for key, step in zip(keys, steps, strict=True)]
        distinct = {place: row for row, place in enumerate(dict.fromkeys(places))}
        blocks = [(seed, episode, step // NOISE_BLOCK) for seed, episode, step in distinct]
        self._tapes = {block: self._tape(block) for block in dict.fromkeys(blocks)}
        drawn = torch.stack(
            [
                self._tapes[block][step % NOISE_BLOCK]
                for block, (*_, step) in zip(blocks, distinct, strict=True)
            ]
        )
        rows = torch.tensor([distinct[place] for place in places])
        uniforms, normals = drawn[rows].split_with_sizes(self._sizes, dim=1)
        return uniforms, normals

    def _tape(self, block: tuple[int, int, int]) -> Tensor:
        if block in self._tapes:
            return self._tapes[block]
        seed, episode, number = block
        generator = torch_generator(seed, "dream noise", episode, number)
        uniforms, normals = self._sizes
        return torch.cat(
            [
                torch.rand(NOISE_BLOCK, uniforms, generator=generator),
                torch.randn(NOISE_BLOCK, normals, generator=generator),
            ],
            dim=1,
        )
