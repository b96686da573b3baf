"""Invented characters: M over the next offset of a pen and over its three states.

Source: Ha 2015, "Recurrent Net Dreams Up Fake Chinese Characters in Vector Format". The default
data are KanjiVG, (c) 2009-2015 Ulrich Apel, CC BY-SA 3.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Int64
from scipy.stats import ks_2samp
from torch import Tensor

from worldmodels.errors import InputError, install
from worldmodels.figure import new_figure, save_figure
from worldmodels.files import read_bytes
from worldmodels.gallery.drawings import (
    SPLITS,
    Drawing,
    Drawings,
    batch_of,
    centred,
    from_strokes,
    kept_usual,
    read_drawings,
    simplified,
    training_batch,
)
from worldmodels.gallery.pen import Pen, nats_of, paint
from worldmodels.gallery.public_files import reading
from worldmodels.gallery.system import Numbers, System, falling
from worldmodels.models.mixture import Temperature
from worldmodels.ranges import PositiveFloat, PositiveInt, Range
from worldmodels.run import Metrics, progress
from worldmodels.seeding import numpy_generator, torch_generator
from worldmodels.stages.fit import FitConfig

INVENTED = 60
"""Characters in the figure."""
TEMPERATURES = (0.1, 0.25, 0.5, 0.75, 1.0)
SIDE = 24
"""Pixels of the small pictures that are compared."""
COPY = 0.99
"""A cosine above this counts as a copy."""
CODES = range(0x4E00, 0xA000)
"""CJK Unified Ideographs; KanjiVG has kana, letters and signs as well."""
PIECES = 12
"""Points on each Bézier curve, before the strokes are simplified."""
PATH = "{http://www.w3.org/2000/svg}path"


@dataclass(frozen=True, kw_only=True)
class Kanji(System):
    """Invented characters."""

    free = frozenset({"temperature", "compared"})

    data: str | None = None
    """An npz of drawings, or a folder of KanjiVG's SVG files; null: the package kanjivg."""
    epsilon: PositiveFloat = 1.0
    """KanjiVG's curves are simplified to within this distance; a character is 109 wide."""
    max_points: Annotated[int, Range(2.0)] = 120
    """Longer characters are left out."""
    hidden_size: PositiveInt = 512
    """Units of the LSTM. Differs: the source has two layers of 800."""
    num_mixtures: PositiveInt = 24
    """Normals in the mixture."""
    train: FitConfig = falling(steps=2500, batch_size=100, learning_rate=2e-3, gradient_clip=1.0)
    temperature: PositiveFloat = 0.5
    """Of the invented characters in the figure."""
    compared: Annotated[int, Range(2.0)] = 1000
    """Characters, sampled at temperature 1, whose strokes are counted."""

    def show(self, metrics: Metrics) -> Numbers:
        """Likelihoods, counts of strokes and points, nearest neighbours; and the figures."""
        data = self.characters()
        pen = self.network(metrics, data)
        generator = torch_generator(self.seed, "kanji samples")
        compared = min(self.compared, 20 * len(data.valid))
        free, invented = (
            pen.draw(count, 2 * data.longest, Temperature.of(tau), generator, data.still)
            for count, tau in ((compared, 1.0), (INVENTED, self.temperature))
        )
        real, made = counts([*data.valid, *data.test]), counts(free)
        train = pictures(data.train)
        (of_invented, neighbours), (of_free, _), (of_valid, _) = (
            nearest(pictures(drawings), train) for drawings in (invented, free, data.valid)
        )
        _draw(metrics, data, invented, [data.train[index] for index in neighbours[:8]])
        _draw_temperatures(metrics, self, data, pen)
        return {
            "characters": {name: len(getattr(data, name)) for name in SPLITS},
            "scale": data.scale,
            "epsilon": None if self.data else self.epsilon,
            **nats(pen, "valid", data.valid),
            **nats(pen, "test", data.test),
            "ks_strokes": float(ks_2samp(made[0], real[0]).statistic),
            "ks_points": float(ks_2samp(made[1], real[1]).statistic),
            "nearest_of_invented": float(np.median(of_invented)),
            "nearest_of_valid": float(np.median(of_valid)),
            "copies": float((of_free > COPY).mean()),
            "copies_of_valid": float((of_valid > COPY).mean()),
        }

    def characters(self) -> Drawings:
        """The data set.

        Raises:
            InputError: the data are missing or broken.
        """
        path = None if self.data is None else Path(self.data)
        if path is not None and not path.is_dir():
            return read_drawings(path, self.max_points)
        found = read_kanjivg(kanjivg_files(path), self.epsilon)
        order = numpy_generator(0, "kanjivg").permutation(len(found))
        cuts = np.split(order, [len(order) * 9 // 10, len(order) * 19 // 20])
        parts = {name: [found[i] for i in part] for name, part in zip(SPLITS, cuts, strict=True)}
        return Drawings.of(parts, self.max_points)

    def network(self, metrics: Metrics, data: Drawings) -> Pen:
        """The trained network."""

        def loss(pen: Pen, step: int) -> Tensor:
            batch = training_batch(data.train, self.train.batch_size, self.seed, step)
            return torch.stack(pen.losses(batch)).sum()

        make = partial(Pen, self.hidden_size, self.num_mixtures)
        return self.trained(metrics, make, loss, "kanji")


def kanjivg_files(folder: Path | None = None) -> list[Path]:
    """SVG files of kanji in the order of their codes, without variants of a character.

    Raises:
        InputError: the package is missing, or the folder has none.
    """
    try:
        listed = files("kanjivg") or () if folder is None else ()
    except PackageNotFoundError as error:
        raise InputError(
            f"kanji need KanjiVG ({install('gallery')}), or --data: a folder of its SVG files, or "
            "an npz of drawings"
        ) from error
    paths = folder.rglob("*.svg") if folder else (Path(str(file.locate())) for file in listed)
    named = {path.stem: path for path in paths if re.fullmatch(r"[0-9a-f]{5}\.svg", path.name)}
    found = [named[code] for code in sorted(named) if int(code, 16) in CODES]
    if not found:
        raise InputError(f"{folder} has no KanjiVG file such as 0611b.svg: name another --data")
    return found


def read_kanjivg(paths: list[Path], epsilon: float) -> list[Drawing]:
    """Characters as drawings, simplified to within epsilon; a character is 109 wide.

    Raises:
        InputError: a file is not an SVG of KanjiVG, or svg.path is missing.
    """
    try:
        from svg.path import parse_path
    except ModuleNotFoundError as error:
        raise InputError(f"KanjiVG's curves need svg.path: {install('gallery')}") from error

    def read(path: Path) -> Drawing:
        with reading(path, "an SVG of KanjiVG"):
            nodes = ElementTree.fromstring(read_bytes(path)).iter(PATH)
            strokes = [simplified(_flat(parse_path(n.attrib["d"])), epsilon) for n in nodes]
            return from_strokes([stroke for stroke in strokes if len(stroke) > 1])

    listed = progress(paths, "KanjiVG")
    named = ((path.name, partial(read, path)) for path in listed)
    return kept_usual(paths[0].parent, named, lambda drawing: drawing)


def _flat(curve: Any) -> Float32[np.ndarray, "_ 2"]:
    """Points along a path of one stroke."""
    segments = [s for s in curve if type(s).__name__ != "Move"]
    places = np.linspace(0, 1, PIECES)
    points = [segments[0].start, *(s.point(t) for s in segments for t in places[1:])]
    return np.array([(p.real, p.imag) for p in points], np.float32)


@torch.inference_mode()
def nats(pen: Pen, name: str, drawings: Sequence[Drawing]) -> dict[str, float]:
    """Nats a point of the offsets and of the pen; the name begins the keys."""
    batches = (batch_of(drawings[start : start + 100]) for start in range(0, len(drawings), 100))
    offsets, pens = nats_of((batch, pen.losses(batch)) for batch in batches)
    return {f"{name}_xy_nll": offsets, f"{name}_pen": pens}


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
) -> tuple[Float32[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """The cosine between each picture and its nearest training picture, and the latter's index."""
    cosines = some @ train.T
    return cosines.max(1), cosines.argmax(1)


def _picture(drawing: Drawing) -> Float32[np.ndarray, " P"]:
    image = np.zeros((SIDE, SIDE), np.uint8)
    for stroke in centred(drawing, SIDE - 5.0, SIDE - 5.0):
        places = np.round((stroke + SIDE / 2) * 16).astype(np.int32)
        cv2.polylines(image, [places], False, 255, 1, 8, 4)
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.2).ravel()
    return blurred / max(float(np.linalg.norm(blurred)), 1e-6)


def _draw(
    metrics: Metrics, data: Drawings, invented: list[Drawing], neighbours: list[Drawing]
) -> None:
    figure = new_figure(10, 5.4)
    left, right, third = figure.subplots(1, 3, width_ratios=[10, 10, 4])
    for axes, drawings, title in ((left, data.valid, "real"), (right, invented, "invented")):
        axes.set_title(title)
        paint(axes, drawings[:INVENTED], 8)
    paint(third, invented[:8], 1, (0, 0), "tab:purple")
    paint(third, neighbours, 1, (1.2, 0), "0.5")
    third.set_title("invented, and the\nnearest in training", fontsize="small")
    save_figure(figure, metrics.run.folder / "kanji.png", dpi=90)


def _draw_temperatures(metrics: Metrics, config: Kanji, data: Drawings, pen: Pen) -> None:
    figure = new_figure(8, 4)
    axes = figure.subplots()
    for row, tau in enumerate(TEMPERATURES):
        generator = torch_generator(config.seed, "temperatures")
        drawings = pen.draw(12, 2 * data.longest, Temperature.of(tau), generator, data.still)
        paint(axes, drawings, 12, (0, -row))
        axes.text(-1.2, -row, f"{tau:g}", va="center")
    axes.set_title("temperature")
    save_figure(figure, metrics.run.folder / "temperatures.png", dpi=80)
