"""Invented characters: M over the next offset of a pen and over its three states.

Source: Ha 2015, "Recurrent Net Dreams Up Fake Chinese Characters in Vector Format".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Int64
from scipy.stats import ks_2samp
from torch import Tensor

from worldmodels.figure import new_figure
from worldmodels.gallery.drawings import (
    SPLITS,
    Drawing,
    Drawings,
    batch_of,
    centred,
    read_drawings,
    training_batch,
)
from worldmodels.gallery.kanjivg import kanjivg_files, read_kanjivg
from worldmodels.gallery.pen import Pen, nats_of, paint
from worldmodels.gallery.system import Numbers, System, initialised, train
from worldmodels.models.mixture import Temperature
from worldmodels.ranges import PositiveFloat, PositiveInt, Range, Seed
from worldmodels.run import Metrics
from worldmodels.seeding import numpy_generator, torch_generator
from worldmodels.stages.fit import FitConfig

INVENTED = 60
"""Characters in the figure."""
TEMPERATURES = (0.1, 0.25, 0.5, 0.75, 1.0)
SIDE = 24
"""Pixels of the small pictures that are compared."""
COPY = 0.99
"""A cosine above this counts as a copy."""


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """What is sampled and drawn; may change without a new training."""

    temperature: PositiveFloat = 0.5
    """Of the invented characters in the figure."""
    compared: Annotated[int, Range(2.0)] = 1000
    """Characters, sampled at temperature 1, whose strokes are counted."""


@dataclass(frozen=True, kw_only=True)
class KanjiConfig:
    """Characters of KanjiVG, or of an npz of drawings."""

    seed: Seed = 0
    """Of initial weights, batches and samples."""
    data: str | None = None
    """An npz of drawings, or a folder of KanjiVG's SVG files; none: the package kanjivg."""
    epsilon: PositiveFloat = 1.0
    """KanjiVG's curves are simplified to within this distance; a character is 109 wide."""
    max_points: Annotated[int, Range(2.0)] = 120
    """Longer characters are left out."""
    hidden_size: PositiveInt = 512
    """Units of the LSTM. Differs: the source has two layers of 800."""
    num_mixtures: PositiveInt = 24
    """Normals in the mixture."""
    train: FitConfig = FitConfig(
        steps=2500, batch_size=100, learning_rate=2e-3, final_learning_rate=1e-5, gradient_clip=1.0
    )
    show: ShowConfig = ShowConfig()


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


def trained(metrics: Metrics, config: KanjiConfig, data: Drawings) -> Pen:
    """The trained network."""
    pen = initialised(
        config.seed, "kanji", make=lambda: Pen(config.hidden_size, config.num_mixtures)
    )

    def loss(step: int) -> Tensor:
        batch = training_batch(data.train, config.train.batch_size, config.seed, step)
        return torch.stack(pen.losses(batch)).sum()

    train(metrics, "kanji", pen, config.train, loss)
    return pen


@torch.inference_mode()
def nats(pen: Pen, drawings: Sequence[Drawing]) -> tuple[float, float]:
    """Nats a point of the offsets and of the pen."""
    batches = (batch_of(drawings[start : start + 100]) for start in range(0, len(drawings), 100))
    return nats_of((batch, pen.losses(batch)) for batch in batches)


def counts(drawings: Sequence[Drawing]) -> tuple[np.ndarray, np.ndarray]:
    """The number of strokes of each drawing, and of points of each stroke."""
    lifts = [np.flatnonzero(drawing[:, 2] > 0.5) for drawing in drawings]
    points = [np.diff(places, prepend=-1) for places in lifts]
    return np.array([len(each) for each in points]), np.concatenate(points)


def pictures(drawings: Sequence[Drawing]) -> Float32[np.ndarray, "N P"]:
    """A small blurred picture of each drawing, as a vector of length 1."""
    return np.stack([_picture(drawing) for drawing in drawings])


def nearest(
    some: Float32[np.ndarray, "N P"], train: Float32[np.ndarray, "M P"]
) -> tuple[Int64[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
    """Index of each picture's nearest training picture, and the cosine between them."""
    cosines = some @ train.T
    return cosines.argmax(1), cosines.max(1)


def _picture(drawing: Drawing) -> Float32[np.ndarray, " P"]:
    image = np.zeros((SIDE, SIDE), np.uint8)
    for stroke in centred(drawing, SIDE - 5.0, SIDE - 5.0):
        places = np.round((stroke + SIDE / 2) * 16).astype(np.int32)
        cv2.polylines(image, [places], False, 255, 1, 8, 4)
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.2).ravel()
    return blurred / max(float(np.linalg.norm(blurred)), 1e-6)


def show(metrics: Metrics, config: KanjiConfig) -> Numbers:
    """Likelihoods, counts of strokes and points, nearest neighbours; and the figures."""
    data = characters(config)
    pen = trained(metrics, config, data)
    generator = torch_generator(config.seed, "kanji samples")
    compared = min(config.show.compared, 20 * len(data.valid))
    free = pen.draw(compared, 2 * data.longest, Temperature(), generator, data.still)
    cool = Temperature.world_models(config.show.temperature)
    invented = pen.draw(INVENTED, 2 * data.longest, cool, generator, data.still)
    real, made = counts([*data.valid, *data.test]), counts(free)
    train = pictures(data.train)
    cosines = {
        name: nearest(pictures(drawings), train)[1]
        for name, drawings in (("invented", invented), ("free", free), ("valid", data.valid))
    }
    _draw(metrics, data, invented, nearest(pictures(invented[:8]), train)[0])
    _draw_temperatures(metrics, config, data, pen)
    valid, test = nats(pen, data.valid), nats(pen, data.test)
    return {
        "characters": {name: len(getattr(data, name)) for name in SPLITS},
        "scale": data.scale,
        "epsilon": None if config.data else config.epsilon,
        "valid_xy_nll": valid[0],
        "valid_pen": valid[1],
        "test_xy_nll": test[0],
        "test_pen": test[1],
        "ks_strokes": float(ks_2samp(made[0], real[0]).statistic),
        "ks_points": float(ks_2samp(made[1], real[1]).statistic),
        "nearest_of_invented": float(np.median(cosines["invented"])),
        "nearest_of_valid": float(np.median(cosines["valid"])),
        "copies": float((cosines["free"] > COPY).mean()),
        "copies_of_valid": float((cosines["valid"] > COPY).mean()),
    }


def _draw(
    metrics: Metrics, data: Drawings, invented: list[Drawing], neighbours: np.ndarray
) -> None:
    figure = new_figure(10, 5.4)
    left, right, third = figure.subplots(1, 3, width_ratios=[10, 10, 4])
    for axes, drawings, title in ((left, data.valid, "real"), (right, invented, "invented")):
        axes.set_title(title)
        for place, drawing in enumerate(drawings[:INVENTED]):
            paint(axes, drawing, (place % 8, -(place // 8)))
    for row, (drawing, index) in enumerate(zip(invented, neighbours, strict=False)):
        paint(third, drawing, (0, -row), "tab:purple")
        paint(third, data.train[index], (1.2, -row), "0.5")
    third.set_title("invented, and the\nnearest in training", fontsize="small")
    figure.savefig(metrics.run.folder / "kanji.png", dpi=90)


def _draw_temperatures(metrics: Metrics, config: KanjiConfig, data: Drawings, pen: Pen) -> None:
    figure = new_figure(8, 4)
    axes = figure.subplots()
    for row, tau in enumerate(TEMPERATURES):
        generator = torch_generator(config.seed, "temperatures")
        temperature = Temperature.world_models(tau)
        drawings = pen.draw(12, 2 * data.longest, temperature, generator, data.still)
        for column, drawing in enumerate(drawings):
            paint(axes, drawing, (column, -row))
        axes.text(-1.2, -row, f"{tau:g}", va="center")
    axes.set_title("temperature")
    figure.savefig(metrics.run.folder / "temperatures.png", dpi=80)


SYSTEM = System("Invented characters.", KanjiConfig, show)
