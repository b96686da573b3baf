"""Drawings as points: reading, scaling, and the batches that networks see.

A drawing is float32 (N, 3): dx and dy from the point before, and 1 where the pen is then lifted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_sequence

from worldmodels.errors import InputError
from worldmodels.gallery.public_files import load_npz, reading
from worldmodels.seeding import numpy_generator

Drawing = Float32[np.ndarray, "_ 3"]

DRAW, LIFT, END = range(3)
"""What the pen does after a point: it goes on, is lifted, or ends the drawing."""
SPLITS = ("train", "valid", "test")
HELD_OUT = 20
"""One drawing in so many is for validation, and one for the test, where a file has no splits."""
JITTER = 0.1
"""Drawings are stretched by up to this share in training. Source: Ha & Eck 2017, section 3.4."""
SHARED = 16
"""Batches whose sequences are sampled together."""


@dataclass(frozen=True)
class Drawings:
    """A data set in three parts, in units of the training offsets' standard deviation."""

    train: list[Drawing]
    valid: list[Drawing]
    test: list[Drawing]
    scale: float
    """One unit, in the file's units."""

    @classmethod
    def of(
        cls, parts: Mapping[str, Sequence[np.ndarray]], max_points: int, epsilon: float = 0.0
    ) -> Drawings:
        """Simplifies drawings to within epsilon, drops those above `max_points`, scales the rest.

        Raises:
            InputError: a part is empty, or not of the shape of drawings.
        """
        kept = {}
        for name in SPLITS:
            drawings = [_checked(drawing, name) for drawing in parts[name]]
            if epsilon:
                strokes = ([simplified(s, epsilon) for s in strokes_of(d)] for d in drawings)
                drawings = [from_strokes(each) for each in strokes]
            kept[name] = [d for d in drawings if 1 < len(d) <= max_points]
            if not kept[name]:
                raise InputError(
                    f"the data have no {name} drawing of 2 to {max_points} points: use another file"
                )
        scale = float(np.concatenate([d[:, :2] for d in kept["train"]]).std())
        for drawing in (d for part in kept.values() for d in part):
            drawing[:, :2] /= scale
        return cls(**kept, scale=scale)

    @cached_property
    def longest(self) -> int:
        """Points of the longest training drawing."""
        return max(map(len, self.train))

    @cached_property
    def still(self) -> bool:
        """Whether every first point is the start itself; its offset is not predicted."""
        return not any(drawing[0, :2].any() for drawing in self.train)


def _checked(drawing: np.ndarray, name: str) -> Drawing:
    if drawing.ndim != 2 or drawing.shape[1] != 3 or not np.isfinite(drawing).all():
        raise InputError(
            f"a {name} drawing is {drawing.shape} of {drawing.dtype}: finite (points, 3) are "
            "expected, dx, dy and whether the pen is lifted"
        )
    return np.array(drawing, np.float32)


def read_drawings(path: Path, max_points: int, epsilon: float = 0.0) -> Drawings:
    """Drawings of a public file, simplified to within epsilon, in the file's units.

    It may be an npz of sketch-rnn or Quick, Draw! (`train`, `valid`, `test`), an npz of one list of
    drawings (see `load_npz`), or Quick, Draw!'s ndjson.

    Raises:
        InputError: the file is missing, broken, or of another kind.
    """
    with reading(path, "a file of drawings"):
        found = {"": _ndjson(path)} if path.suffix == ".ndjson" else load_npz(path)
        lists = {name: value for name, value in found.items() if isinstance(value, list)}
        if not lists.keys() >= set(SPLITS):
            if not lists:
                raise InputError(f"{path} has no list of drawings: use another file")
            every = next(iter(lists.values()))
            train = [drawing for index, drawing in enumerate(every) if index % HELD_OUT > 1]
            lists = {"train": train, "valid": every[::HELD_OUT], "test": every[1::HELD_OUT]}
        return Drawings.of(lists, max_points, epsilon)


def _ndjson(path: Path) -> list[Drawing]:
    """Quick, Draw!'s lines: strokes of [x...], [y...] (raw: and times), recognised ones only."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    kept = [line["drawing"] for line in lines if line.get("recognized", True)]
    return [from_strokes([np.stack(s[:2], 1) for s in drawing]) for drawing in kept]


def from_strokes(strokes: Sequence[np.ndarray]) -> Drawing:
    """A drawing of strokes of absolute points (N, 2); it begins at its first point."""
    points = np.concatenate(strokes).astype(np.float32)
    lifts = np.concatenate([np.arange(len(s)) == len(s) - 1 for s in strokes])
    offsets = np.diff(points, axis=0, prepend=points[:1])
    return np.column_stack([offsets, lifts]).astype(np.float32)


def strokes_of(drawing: Drawing) -> list[Float32[np.ndarray, "_ 2"]]:
    """Absolute points, stroke by stroke."""
    points, lifts = drawing[:, :2].cumsum(0), np.flatnonzero(drawing[:, 2] > 0.5)
    return [stroke for stroke in np.split(points, lifts + 1) if len(stroke)]


def centred(drawing: Drawing, width: float, height: float) -> list[Float32[np.ndarray, "_ 2"]]:
    """The strokes around the origin, as large as fits into a box."""
    strokes = strokes_of(drawing)
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = (np.array([width, height]) / (high - low).clip(1e-6)).min()
    return [(stroke - (low + high) / 2) * np.float32(scale) for stroke in strokes]


def simplified(stroke: np.ndarray, epsilon: float) -> np.ndarray:
    """A stroke (N, 2) with the fewest points that stay within epsilon: Ramer-Douglas-Peucker."""
    return cv2.approxPolyDP(stroke.astype(np.float32)[:, None], epsilon, False)[:, 0]


@dataclass(frozen=True)
class Batch:
    """Padded drawings; step t sees point t - 1 and predicts point t."""

    offsets: Float[Tensor, "B points 2"]
    """The first is zero: the start, where the pen is put down."""
    pens: Int64[Tensor, "B points"]
    """DRAW, LIFT or END after each point."""
    known: Bool[Tensor, "B T"]
    """Whether there is a point to predict."""
    moved: Bool[Tensor, "B T"]
    """The same without first points that are the start itself: they have no offset to predict."""

    def packed(self, pens: Float[Tensor, "B points P"]) -> PackedSequence:
        """All points but the start, (dx, dy, pens), for an LSTM that reads whole drawings."""
        points = torch.cat([self.offsets, pens], -1)[:, 1:]
        return pack_padded_sequence(points, self.known.sum(1), True, enforce_sorted=False)


def batch_of(drawings: Sequence[Drawing]) -> Batch:
    """Pads drawings to the longest."""
    lengths = torch.tensor([*map(len, drawings)])
    points = pad_sequence([torch.from_numpy(drawing) for drawing in drawings], batch_first=True)
    offsets = functional.pad(points[..., :2], (0, 0, 1, 0))
    pens = functional.pad((points[..., 2] > 0.5).long(), (1, 0))
    pens[range(len(drawings)), lengths] = END
    known = torch.arange(points.shape[1]) < lengths[:, None]
    moved = known.clone()
    moved[:, 0] &= (offsets[:, 1] != 0).any(-1)
    return Batch(offsets, pens, known, moved)


def training_batch(drawings: Sequence[Drawing], size: int, seed: int, step: int) -> Batch:
    """A step's drawings, each stretched at random; also seeds the dropout of the step."""
    generator, rows = numpy_generator(seed, "batch", step), similar_rows(drawings, size, seed, step)
    batch = batch_of([jittered(drawings[row], generator) for row in rows])
    torch.manual_seed(int(generator.integers(2**31)))
    return batch


def dequantised(batch: Batch, width: float, generator: torch.Generator) -> Batch:
    """Adds uniform noise to the offsets that are predicted: over a cell of a grid of that width.

    Numbers on a grid have no density: a mixture would only learn the grid's lines. Source: Uria et
    al. 2013, "RNADE", section 3.
    """
    offsets = batch.offsets.clone()
    noise = width * (torch.rand(offsets[:, 1:].shape, generator=generator) - 0.5)
    offsets[:, 1:] += noise * batch.moved[..., None]
    return replace(batch, offsets=offsets)


def similar_rows(
    sequences: Sequence[Sized], size: int, seed: int, step: int
) -> Int64[np.ndarray, " size"]:
    """Indices of a step's batch: sequences of similar lengths, so that little is padded.

    The rows of `SHARED` steps are sampled together, sorted by length, cut into batches, and the
    batches are used in random order.
    """
    generator = numpy_generator(seed, "batches", step // SHARED)
    rows = generator.integers(len(sequences), size=SHARED * size)
    order = np.argsort([len(sequences[row]) for row in rows], kind="stable")
    place = generator.permutation(SHARED)[step % SHARED]
    return rows[order].reshape(SHARED, size)[place]


def jittered(drawing: Drawing, generator: np.random.Generator) -> Drawing:
    """Stretches each axis by up to `JITTER`."""
    factors = 1 + JITTER * generator.uniform(-1, 1, 2)
    return np.column_stack([drawing[:, :2] * factors, drawing[:, 2]]).astype(np.float32)
