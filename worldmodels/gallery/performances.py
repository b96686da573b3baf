"""Touch performances: reading, the split, and the batches that M sees."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from worldmodels.errors import InputError
from worldmodels.gallery.drawings import cut
from worldmodels.gallery.public_files import load_npz, reading
from worldmodels.seeding import numpy_generator

Performance = Float32[np.ndarray, "_ 3"]
"""x and y from 0 to 1, and the seconds since the touch before, 0 to 5."""

LONGEST = 5.0


def read_performances(path: Path) -> list[Performance]:
    """Performances of a file or folder, clipped to their ranges, without those of a single touch.

    Raises:
        InputError: there are none, or a file is broken or of another kind.
    """
    with reading(path, "a file of performances"):
        raw = _logs(path) if path.is_dir() or path.suffix == ".log" else _arrays(path)
        kept = [np.asarray(p, np.float32)[:, :3] for p in raw if p.ndim == 2 and p.shape[1] >= 3]
        kept = [np.clip(p, 0, [1, 1, LONGEST]).astype(np.float32) for p in kept if len(p) > 1]
    if len(kept) < 10:
        raise InputError(f"{path} has {len(kept)} performances of x, y, dt: 10 are needed")
    if not all(np.isfinite(p).all() for p in kept):
        raise InputError(f"{path} has performances that are not finite: use another file")
    return kept


def _arrays(path: Path) -> list[np.ndarray]:
    found = load_npz(path)
    if "offsets" in found and "points" in found:
        return cut(found["points"], found["offsets"])
    lists = [value for value in found.values() if isinstance(value, list)]
    return lists[0] if lists else []


def _logs(path: Path) -> list[np.ndarray]:
    """IMPSY logs, one performance each: lines of time, source, x, y..."""
    files = sorted(path.glob("*.log")) if path.is_dir() else [path]
    return [_log(file) for file in files]


def _log(path: Path) -> np.ndarray:
    with reading(path, "an IMPSY log"), open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if len(row) >= 4 and row[1] == "interface"]
        times = np.array([datetime.fromisoformat(row[0]).timestamp() for row in rows])
        places = np.array([[float(value) for value in row[2:4]] for row in rows]).reshape(-1, 2)
    return np.column_stack([places, np.diff(times, prepend=times[:1])])


@dataclass(frozen=True)
class Split:
    """Performances, normalised by the training set's mean and standard deviation."""

    train: list[Performance]
    test: list[Performance]
    mean: Float32[np.ndarray, " 3"]
    std: Float32[np.ndarray, " 3"]

    @classmethod
    def of(cls, performances: Sequence[Performance], seed: int) -> Split:
        """Nine in ten performances are for training: windows of one performance are too similar."""
        order = numpy_generator(seed, "touch split").permutation(len(performances))
        first, rest = np.split(order, [len(order) * 9 // 10])
        together = np.concatenate([performances[i] for i in first])
        mean, std = together.mean(0), together.std(0).clip(1e-6)
        parts = [[(performances[i] - mean) / std for i in part] for part in (first, rest)]
        return cls(parts[0], parts[1], mean, std)

    def restored(self, values: Tensor) -> Performance:
        """Values in shares of a screen and in seconds, within their ranges."""
        found = values.numpy() * self.std + self.mean
        return np.clip(found, 0, [1, 1, LONGEST]).astype(np.float32)


def windows(
    performances: Sequence[Performance],
    rows: Sequence[int],
    length: int,
    generator: np.random.Generator,
) -> tuple[Float[Tensor, "B T 3"], Bool[Tensor, "B T-1"]]:
    """A stretch of each performance, and which of its next touches are known."""
    values = torch.zeros(len(rows), length, 3)
    known = torch.zeros(len(rows), length - 1, dtype=torch.bool)
    for place, row in enumerate(rows):
        performance = performances[row]
        start = int(generator.integers(max(1, len(performance) - length + 1)))
        stretch = torch.from_numpy(performance[start : start + length])
        values[place, : len(stretch)] = stretch
        known[place, : len(stretch) - 1] = True
    return values, known
