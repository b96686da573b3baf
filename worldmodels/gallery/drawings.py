"""Drawings as points: reading, scaling, and the batches that networks see.

A drawing is float32 (N, 3): dx and dy from the point before, and 1 where the pen is then lifted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_sequence

from worldmodels.errors import InputError
from worldmodels.gallery.public_files import kept, load_npz, reading
from worldmodels.seeding import numpy_generator

Drawing = Float32[np.ndarray, "_ 3"]
Record = TypeVar("Record")

DRAW, LIFT, END = range(3)
"""What the pen does after a point: it continues, is lifted, or ends the drawing."""
SPLITS = ("train", "valid", "test")
HELD_OUT = 20
"""One drawing in so many is for validation, and one for the test, where a file has no splits."""
FEWEST = 2
"""Drawings that each part must have."""
OUTLIER = 100
"""A drawing is skipped if its largest offset is so many times the usual largest one; in public sets
that is below 4."""
LONGEST_LINE = 10_000_000
"""Most bytes of a line of ndjson."""
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
            InputError: a part has too few drawings, or they are all points.
        """
        short = {}
        for name in SPLITS:
            drawings = [np.array(drawing, np.float32) for drawing in parts[name]]
            if epsilon:
                strokes = ([simplified(s, epsilon) for s in strokes_of(d)] for d in drawings)
                drawings = [from_strokes(each) for each in strokes]
            short[name] = [d for d in drawings if 1 < len(d) <= max_points]
            if len(short[name]) < FEWEST:
                raise InputError(
                    f"the data have {len(short[name])} {name} drawings of 2 to {max_points} "
                    f"points, and {FEWEST} are needed: use another file"
                )
        with np.errstate(over="ignore"):
            scale = float(np.concatenate([d[:, :2] for d in short["train"]]).std())
        if not 0 < scale < np.inf:
            raise InputError(
                f"the training drawings' offsets have the deviation {scale}: use another file"
            )
        for drawing in (d for part in short.values() for d in part):
            drawing[:, :2] /= scale
        return cls(**short, scale=scale)

    @cached_property
    def longest(self) -> int:
        """Points of the longest training drawing."""
        return max(map(len, self.train))

    @cached_property
    def still(self) -> bool:
        """Whether every first point is the start itself; its offset is not predicted."""
        return not any(drawing[0, :2].any() for drawing in self.train)


def kept_usual(
    path: Path,
    records: Iterable[tuple[str, Callable[[], Record]]],
    drawing_of: Callable[[Record], Drawing],
) -> list[Record]:
    """`kept`, also without drawings that have an offset `OUTLIER` times larger than is usual.

    Raises:
        InputError: as `kept`.
    """
    tried = [(place, _tried(read)) for place, read in records]
    reaches = {
        place: float(np.abs(drawing_of(found)[:, :2]).max(initial=0))
        for place, found in tried
        if not isinstance(found, Exception)
    }
    largest = OUTLIER * float(np.median([*reaches.values()])) if reaches else 0.0

    def usual(place: str, found: Record | Exception) -> Record:
        if isinstance(found, Exception):
            raise found
        if (reach := reaches[place]) > largest:
            raise ValueError(f"an offset of {reach:g} is {OUTLIER} times larger than is usual here")
        return found

    return kept(path, ((place, partial(usual, place, found)) for place, found in tried))


def _tried(read: Callable[[], Record]) -> Record | Exception:
    """What is read, or what that raises."""
    try:
        return read()
    except Exception as error:  # foreign bytes make readers raise nearly anything
        return error


def _checked(drawing: np.ndarray) -> Drawing:
    """A drawing as float32.

    Raises:
        ValueError: it is none.
    """
    if drawing.ndim != 2 or drawing.shape[1] != 3:
        raise ValueError(f"{drawing.shape} is not (points, 3): dx, dy, whether the pen is lifted")
    if not len(drawing):
        raise ValueError("it is empty")
    with np.errstate(over="ignore"):
        found = np.array(drawing, np.float32)
    if not np.isfinite(found).all():
        raise ValueError("it is not finite")
    if not np.isin(drawing[:, 2], (0, 1)).all():
        raise ValueError("the third column is not 0 or 1, whether the pen is lifted")
    return found


def _kept_drawings(
    path: Path, lists: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, list[Drawing]]:
    """The good drawings of a file, by part."""

    def read(name: str, drawing: np.ndarray) -> tuple[str, Drawing]:
        return name, _checked(drawing)

    named = (
        (f"{name} {number}".strip(), partial(read, name, drawing))
        for name, part in lists.items()
        for number, drawing in enumerate(part, 1)
    )
    found = kept_usual(path, named, lambda record: record[1])
    return {part: [drawing for name, drawing in found if name == part] for part in lists}


def _check_meaning(path: Path, drawings: Sequence[Drawing]) -> None:
    """Checks that drawings are offsets with lifts, as far as numbers can tell.

    Offsets turn round: they differ by more than they are long, or are longer where the pen is
    lifted. Neither holds of absolute points. In four public sets the squares of differences and of
    offsets have the ratio 1.6 to 2.6 (absolute: .04 to .7), and moves without the pen are 2 to 8
    times as long as lines (absolute: .7 to 1.1).

    Raises:
        InputError: they look like absolute points, or like 1 where the pen is down.
    """
    pens = np.concatenate([drawing[:, 2] for drawing in drawings])
    if pens.mean() > 0.5 and np.mean([drawing[-1, 2] for drawing in drawings]) < 0.5:
        raise InputError(
            f"{path}: the third column is mostly 1, and 0 at the ends of drawings. It must be 1 "
            "where the pen is lifted, not where it is down: use another file"
        )
    every = np.concatenate([d[:, :2] for d in drawings]).astype(float)
    turns = np.concatenate([np.diff(d[:, :2].astype(float), axis=0) for d in drawings])
    if np.square(turns).sum() < np.square(every).sum() and not _longer_without_pen(drawings):
        raise InputError(
            f"{path}: the points look absolute, but offsets from the point before are expected: "
            "use another file"
        )


def _longer_without_pen(drawings: Sequence[Drawing]) -> bool:
    """Whether moves with the pen lifted are longer than lines."""
    lines, moves = [], []
    for drawing in drawings:
        lengths, up = np.hypot(*drawing[1:, :2].T), drawing[:-1, 2] > 0.5
        lines.append(lengths[~up])
        moves.append(lengths[up])
    line, move = np.concatenate(lines), np.concatenate(moves)
    if not len(move):  # drawings of one stroke: absolute points of a screen are never negative
        return bool(min(drawing[:, :2].min() for drawing in drawings) < 0)
    return bool(np.median(move) > 1.5 * np.median(line)) if len(line) else True


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
        if lists.keys() >= set(SPLITS):
            lists = {name: lists[name] for name in SPLITS}
        elif len(lists) != 1:
            names = ", ".join(lists) or "none"
            raise InputError(
                f"{path} has these lists of drawings: {names}. One is needed, or train, valid and "
                "test: use another file"
            )
        parts = _kept_drawings(path, lists)
        if path.suffix != ".ndjson":
            _check_meaning(path, [drawing for part in parts.values() for drawing in part])
        if len(parts) == 1:
            (every,) = parts.values()
            train = [drawing for index, drawing in enumerate(every) if index % HELD_OUT > 1]
            parts = {"train": train, "valid": every[::HELD_OUT], "test": every[1::HELD_OUT]}
        return Drawings.of(parts, max_points, epsilon)


def _ndjson(path: Path) -> list[Drawing]:
    """Quick, Draw!'s lines: strokes of [x...], [y...] (raw: and times), recognised ones only."""
    with open(path, "rb") as file:
        lines = iter(partial(file.readline, LONGEST_LINE), b"")
        read = kept(path, ((f"line {n}", partial(_drawn, line)) for n, line in enumerate(lines, 1)))
    return [drawing for drawing in read if drawing is not None]


def _drawn(line: bytes) -> Drawing | None:
    """The drawing of a line; None: it was not recognised."""
    if not line.strip():
        raise ValueError("it is blank")
    about = json.loads(line.decode("utf-8-sig"))
    if about.get("recognized", True) is False:
        return None
    return from_strokes([_points(stroke) for stroke in about["drawing"]])


def _points(stroke: Any) -> np.ndarray:
    """A stroke's points (N, 2) of [x...], [y...]."""
    points = np.array([stroke[0], stroke[1]]).T
    if points.ndim != 2 or (points.size and points.dtype.kind not in "if"):
        raise ValueError("a stroke is not [[x, ...], [y, ...]]")
    return points


def from_strokes(strokes: Sequence[np.ndarray]) -> Drawing:
    """A drawing of strokes of absolute points (N, 2); it begins at its first point.

    Raises:
        ValueError: there are no points, or they are not finite.
    """
    if not any(len(stroke) for stroke in strokes):
        raise ValueError("it has no points")
    with np.errstate(over="ignore"):
        points = np.concatenate(strokes).astype(np.float32)
    if not np.isfinite(points).all():
        raise ValueError("it has points that are not finite")
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
