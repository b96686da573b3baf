"""The dream's noise: a function of seed, episode and step, independent of the other lanes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32, Int64

from worldmodels.seeding import numpy_generator

NOISE_BLOCK = 64
"""Steps of noise that are sampled at once."""

Key = tuple[int, int]
"""Seed and episode number."""


class Noise:
    """Noise of all lanes, sampled block by block, once for each distinct key.

    Lanes of one key in the same block share a slot of the tape.

    Attributes:
        tape: (rows, uniforms + normals); `rows` gives the rows of lanes.
        ends: (rows,) samples of the logistic distribution, or empty. A sample lies below M's logit
            of the end with exactly the probability that M gives the end.
    """

    def __init__(self, num_envs: int, uniforms: int, normals: int, *, ends: bool = False) -> None:
        self.uniforms = uniforms
        self.ends: Float32[np.ndarray, " rows"] = np.empty(
            num_envs * NOISE_BLOCK * ends, np.float32
        )
        self.tape: Float32[np.ndarray, "rows size"] = np.empty(
            (num_envs * NOISE_BLOCK, uniforms + normals), np.float32
        )
        self.keys: list[Key] = [(0, 0)] * num_envs
        self._blocks = np.full(num_envs, -1)  # the block a lane holds; -1: none
        self._slots = np.zeros(num_envs, np.int64)
        self._free = list(range(num_envs))
        self._held: dict[tuple[int, int, int], int] = {}  # seed, episode, block: slot
        self._holders: dict[int, set[int]] = {}  # slot: lanes

    def begin(self, lanes: Iterable[int], keys: Iterable[Key]) -> None:
        """Gives lanes the noise of these keys."""
        for lane, key in zip(lanes, keys, strict=True):
            self._leave(lane)
            self.keys[lane], self._blocks[lane] = key, -1

    def rows(
        self, lanes: Int64[np.ndarray, " n"], steps: Int64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, " n"]:
        """The rows of the tape for lanes at these steps."""
        blocks = steps // NOISE_BLOCK
        moved = np.flatnonzero(self._blocks[lanes] != blocks)
        for lane, block in zip(lanes[moved].tolist(), blocks[moved].tolist(), strict=True):
            self._move(lane, block)
        return self._slots[lanes] * NOISE_BLOCK + steps % NOISE_BLOCK

    def thresholds(self, rows: Int64[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
        """Log-odds above which M's end ends a dream, at rows of the tape: `ends`, or 0."""
        return self.ends[rows] if len(self.ends) else np.zeros(rows.shape, np.float32)

    def _move(self, lane: int, block: int) -> None:
        self._leave(lane)
        place = (*self.keys[lane], block)
        slot = self._held.get(place)
        if slot is None:
            slot = self._held[place] = self._free.pop()
            self._sample(place, slot)
        self._holders.setdefault(slot, set()).add(lane)
        self._blocks[lane], self._slots[lane] = block, slot

    def _leave(self, lane: int) -> None:
        """Frees the lane's slot if no other lane holds it."""
        if self._blocks[lane] < 0:
            return
        slot = int(self._slots[lane])
        self._holders[slot].remove(lane)
        if not self._holders[slot]:
            del self._held[(*self.keys[lane], int(self._blocks[lane]))]
            self._free.append(slot)

    def _sample(self, place: tuple[int, int, int], slot: int) -> None:
        seed, episode, block = place
        generator = numpy_generator(seed, "dream noise", episode, block)
        rows = self.tape[slot * NOISE_BLOCK : (slot + 1) * NOISE_BLOCK]
        normals = rows.shape[1] - self.uniforms
        rows[:, : self.uniforms] = generator.random((NOISE_BLOCK, self.uniforms), np.float32)
        rows[:, self.uniforms :] = generator.standard_normal((NOISE_BLOCK, normals), np.float32)
        if len(self.ends):
            chance = numpy_generator(seed, "dream ends", episode, block)
            self.ends[slot * NOISE_BLOCK :][:NOISE_BLOCK] = chance.logistic(size=NOISE_BLOCK)
