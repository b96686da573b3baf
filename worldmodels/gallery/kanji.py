"""Invented characters: an LSTM, a mixture over the next offset, and a pen of three states.

Source: Ha 2015, "Recurrent Net Dreams Up Fake Chinese Characters in Vector Format".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodels.errors import check_above_zero, check_at_least, check_share
from worldmodels.figure import new_figure
from worldmodels.gallery.drawings import (
    SPLITS,
    Drawing,
    Drawings,
    batch_of,
    read_drawings,
    training_batch,
)
from worldmodels.gallery.exhibit import Exhibit, Numbers, TrainConfig, drawn, train
from worldmodels.gallery.kanjivg import kanjivg_files, read_kanjivg
from worldmodels.gallery.likeness import Likeness
from worldmodels.gallery.pen import Pen, Statistics, ks_distance, paint
from worldmodels.models.mixture import Temperature
from worldmodels.run import Metrics
from worldmodels.seeding import numpy_generator, torch_generator

INVENTED = 60
TEMPERATURES = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class PenConfig:
    """The network."""

    hidden_size: int = 800
    """Of the LSTM. Differs: the source has two layers of 800."""
    num_mixtures: int = 24
    """Normals."""
    dropout: float = 0.1
    """Of h, in training."""

    def __post_init__(self) -> None:
        check_at_least("model", self, 1, "hidden_size", "num_mixtures")
        check_share("model", self, "dropout")


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """What is drawn; may change without training anew."""

    temperature: float = 0.5
    """Of the invented characters in the picture."""
    compared: int = 1000
    """Characters, drawn at temperature 1, whose strokes are counted."""

    def __post_init__(self) -> None:
        check_above_zero("show", self, "temperature")
        check_at_least("show", self, 2, "compared")


@dataclass(frozen=True, kw_only=True)
class KanjiConfig:
    """Characters: from KanjiVG, or an npz of drawings."""

    seed: int = 0
    """Of weights, batches and samples."""
    data: str | None = None
    """An npz of drawings, or a folder of KanjiVG's SVG files; none: the package kanjivg."""
    epsilon: float = 1.0
    """KanjiVG's curves are simplified to within so much of a square of 109."""
    max_points: int = 120
    """Longer characters are left out."""
    jitter: float = 0.1
    """Characters are stretched by up to this share in training."""
    model: PenConfig = field(default_factory=PenConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    show: ShowConfig = field(default_factory=ShowConfig)

    def __post_init__(self) -> None:
        check_above_zero("kanji", self, "epsilon")
        check_at_least("kanji", self, 2, "max_points")
        check_share("kanji", self, "jitter")


def characters(config: KanjiConfig) -> Drawings:
    """The data set.

    Raises:
        InputError: the data are missing or broken.
    """
    path = None if config.data is None else Path(config.data)
    if path is not None and not path.is_dir():
        return read_drawings(path, config.max_points)
    found = read_kanjivg(kanjivg_files(path), config.epsilon)
    order = numpy_generator(0, "kanjivg").permutation(len(found))
    cuts = np.split(order, [len(order) * 9 // 10, len(order) * 19 // 20])
    parts = {name: [found[i] for i in part] for name, part in zip(SPLITS, cuts, strict=True)}
    return Drawings.of(parts, config.max_points)


def learnt(metrics: Metrics, config: KanjiConfig, data: Drawings) -> Pen:
    """The trained network."""
    model = config.model
    sizes = model.hidden_size, model.num_mixtures, 0, model.dropout
    pen = drawn(config.seed, "kanji", make=lambda: Pen(*sizes))

    def loss(step: int) -> Tensor:
        size = config.train.batch_size
        batch = training_batch(data.train, size, config.jitter, config.seed, step)
        return torch.stack(pen.losses(batch)).sum()

    train(metrics, "kanji", pen, config.train, loss)
    return pen


@torch.inference_mode()
def nats(pen: Pen, drawings: Sequence[Drawing]) -> tuple[float, float]:
    """Nats a point of the offsets and of the pen."""
    totals, weights = np.zeros(2), np.zeros(2)
    for start in range(0, len(drawings), 100):
        batch = batch_of(drawings[start : start + 100])
        counts = np.array([batch.moved.sum().item(), batch.known.sum().item()])
        totals += counts * [part.item() for part in pen.losses(batch)]
        weights += counts
    xy, lift = totals / weights
    return float(xy), float(lift)


def show(metrics: Metrics, config: KanjiConfig) -> Numbers:
    """Likelihoods, counts of strokes and points, nearest neighbours; and the pictures."""
    data = characters(config)
    pen = learnt(metrics, config, data)
    generator = torch_generator(config.seed, "kanji samples")
    compared = min(config.show.compared, 20 * len(data.valid))
    free = pen.draw(compared, 2 * data.longest, Temperature(), generator, data.still)
    cool = Temperature.world_models(config.show.temperature)
    invented = pen.draw(INVENTED, 2 * data.longest, cool, generator, data.still)
    real = Statistics.of([*data.valid, *data.test])
    made, likeness = Statistics.of(free), Likeness(data.train)
    numbers: dict[str, Any] = {"characters": {n: len(getattr(data, n)) for n in SPLITS}}
    numbers |= {"scale": data.scale, "epsilon": None if config.data else config.epsilon}
    for name in ("valid", "test"):
        xy, lift = nats(pen, getattr(data, name))
        numbers |= {f"{name}_xy_nll": xy, f"{name}_pen": lift}
    numbers |= {
        "ks_strokes": ks_distance(made.strokes, real.strokes),
        "ks_points": ks_distance(made.points, real.points),
        "nearest_of_invented": float(np.median(likeness.nearest(invented)[1])),
        "nearest_of_valid": float(np.median(likeness.nearest(data.valid)[1])),
        "copies": float((likeness.nearest(free)[1] > 0.99).mean()),
        "copies_of_valid": float((likeness.nearest(data.valid)[1] > 0.99).mean()),
    }
    _draw(metrics, data, invented, likeness)
    _draw_temperatures(metrics, config, data, pen)
    return numbers


def _draw(metrics: Metrics, data: Drawings, invented: list[Drawing], likeness: Likeness) -> None:
    figure = new_figure(10, 5.4)
    left, right, third = figure.subplots(1, 3, width_ratios=[10, 10, 4])
    columns = 8
    for axes, drawings, title in (
        (left, data.valid[:INVENTED], "real"),
        (right, invented, "invented"),
    ):
        for place, drawing in enumerate(drawings):
            paint(axes, drawing, (place % columns, -(place // columns)), 0.8, "black")
        axes.set_title(title)
    nearest, _ = likeness.nearest(invented[:8])
    for row, (drawing, index) in enumerate(zip(invented, nearest, strict=False)):
        paint(third, drawing, (0, -row), 0.8, "tab:purple")
        paint(third, data.train[index], (1.2, -row), 0.8, "0.5")
    third.set_title("invented, and the\nnearest in training", fontsize="small")
    for axes in (left, right, third):
        axes.set_aspect("equal")
        axes.axis("off")
    figure.savefig(metrics.run.folder / "kanji.png", dpi=90)


def _draw_temperatures(metrics: Metrics, config: KanjiConfig, data: Drawings, pen: Pen) -> None:
    figure = new_figure(8, 4)
    axes = figure.subplots()
    for row, tau in enumerate(TEMPERATURES):
        generator = torch_generator(config.seed, "temperatures")
        temperature = Temperature.world_models(tau)
        drawings = pen.draw(12, 2 * data.longest, temperature, generator, data.still)
        for column, drawing in enumerate(drawings):
            paint(axes, drawing, (column, -row), 0.8, "black")
        axes.text(-1.2, -row, f"{tau:g}", va="center")
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title("temperature")
    figure.savefig(metrics.run.folder / "temperatures.png", dpi=80)


EXHIBIT = Exhibit("Characters that nobody has written.", KanjiConfig, show)
