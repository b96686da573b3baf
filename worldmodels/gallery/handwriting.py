"""Handwriting of any text: a soft window over the letters, a mixture over the next offset.

Source: Graves 2013, "Generating Sequences With Recurrent Neural Networks", section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodels.errors import InputError, check_at_least
from worldmodels.figure import new_figure
from worldmodels.gallery.drawings import batch_of, rows_alike
from worldmodels.gallery.exhibit import Exhibit, Numbers, TrainConfig, drawn, train
from worldmodels.gallery.pen import paint
from worldmodels.gallery.writer import Recogniser, Writer
from worldmodels.gallery.written import (
    FONTS,
    HELD_OUT_FONTS,
    Word,
    Words,
    hershey_words,
    invented_words,
    read_words,
)
from worldmodels.models.mixture import Temperature
from worldmodels.run import Metrics
from worldmodels.seeding import numpy_generator, torch_generator

BIASES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Graves'."""
UNTOLD = 0.2
"""Share of training words of which the writer is not told the font."""


@dataclass(frozen=True, kw_only=True)
class WriterConfig:
    """The network."""

    reading_size: int = 400
    """Of the LSTM that reads the text."""
    hidden_size: int = 400
    """Of M above it. Differs: the source has two such layers."""
    num_mixtures: int = 20
    """Normals."""
    bumps: int = 10
    """Of the window."""

    def __post_init__(self) -> None:
        check_at_least("model", self, 1, "reading_size", "hidden_size", "num_mixtures", "bumps")


@dataclass(frozen=True, kw_only=True)
class HandwritingShowConfig:
    """What is written; may change without training anew."""

    text: str = ""
    """In place of held-out words."""
    bias: float = 1.0
    """Graves': 0 writes as the data are, more is neater."""
    written: int = 200
    """Held-out words that are written to be measured."""

    def __post_init__(self) -> None:
        check_at_least("show", self, 0, "bias")
        check_at_least("show", self, 2, "written")


@dataclass(frozen=True, kw_only=True)
class HandwritingConfig:
    """Words: from Hershey's fonts, the cursive set, or IAM-OnDB."""

    seed: int = 0
    """Of words, weights, batches and samples."""
    data: str | None = None
    """The cursive set's npz or a folder of IAM-OnDB; none: Hershey's fonts."""
    words: int = 3000
    """Invented words that are learnt, in each font."""
    held_out: int = 300
    """Invented words that aren't."""
    fonts: tuple[str, ...] = FONTS
    held_out_fonts: tuple[str, ...] = HELD_OUT_FONTS
    """Hershey's, by name; see HersheyFonts().default_font_names."""
    wobble: float = 0.02
    """Deviation of the fonts' points, in heights of a letter."""
    epsilon: float = 0.02
    """Strokes are simplified to within so much: of a letter's height, or a data file's unit."""
    max_points: int = 300
    """Longer ones are left out."""
    model: WriterConfig = field(default_factory=WriterConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    recogniser: TrainConfig = field(default_factory=TrainConfig)
    recogniser_size: int = 96
    """Of its LSTM, in each direction."""
    show: HandwritingShowConfig = field(default_factory=HandwritingShowConfig)

    def __post_init__(self) -> None:
        counts = "words", "held_out", "max_points", "recogniser_size"
        check_at_least("handwriting", self, 2, *counts)
        check_at_least("handwriting", self, 0, "wobble", "epsilon")
        if not self.fonts:
            raise InputError("handwriting.fonts is empty: name one of Hershey's, e.g. futural")


def words_of(config: HandwritingConfig) -> Words:
    """The data set.

    Raises:
        InputError: the data are missing or broken.
    """
    if config.data is not None:
        return read_words(Path(config.data), config.epsilon, config.max_points)
    generator = numpy_generator(config.seed, "words")
    texts = invented_words(config.words + config.held_out, generator)
    known, unknown = texts[: config.words], texts[config.words :]
    made = [
        hershey_words(some, fonts, config.epsilon, config.wobble, generator)
        for some, fonts in (
            (known, config.fonts),
            (unknown, config.fonts),
            (unknown, config.held_out_fonts),
        )
    ]
    kept = [[w for w in part if len(w) <= config.max_points] for part in made]
    kept[2] = [replace(word, font=-1) for word in kept[2]]
    return Words.of(kept[0], kept[1], kept[2])


def learnt(metrics: Metrics, config: HandwritingConfig, words: Words) -> Writer:
    """The network that writes."""
    model = config.model
    sizes = model.reading_size, model.hidden_size, model.num_mixtures, model.bumps
    writer = drawn(config.seed, "writer", make=lambda: Writer(words.symbol_size, *sizes))

    def loss(step: int) -> Tensor:
        some = _picked(words.train, config.train, config.seed, step)
        untold = numpy_generator(config.seed, "untold", step).random(len(some)) < UNTOLD
        fonts = np.where(untold, -1, _fonts(some)).tolist()
        batch = batch_of([word.drawing for word in some])
        return torch.stack(writer.losses(batch, *words.codes(_texts(some), fonts))).sum()

    train(metrics, "writer", writer, config.train, loss)
    return writer


def learnt_recogniser(metrics: Metrics, config: HandwritingConfig, words: Words) -> Recogniser:
    """A reader of the data's own strokes."""
    letters, size = words.letters, config.recogniser_size
    reader = drawn(config.seed, "recogniser", make=lambda: Recogniser(len(letters), size))

    def loss(step: int) -> Tensor:
        some = _picked(words.train, config.recogniser, config.seed, step)
        return reader.loss(batch_of([word.drawing for word in some]), _texts(some), letters)

    train(metrics, "recogniser", reader, config.recogniser, loss)
    return reader


def _picked(words: Sequence[Word], config: TrainConfig, seed: int, step: int) -> list[Word]:
    return [words[row] for row in rows_alike(words, config.batch_size, seed, step)]


def _texts(words: Sequence[Word]) -> list[str]:
    return [word.text for word in words]


def _fonts(words: Sequence[Word]) -> list[int]:
    return [word.font for word in words]


@torch.inference_mode()
def nats(writer: Writer, words: Words, some: Sequence[Word], roll: int = 0) -> dict[str, float]:
    """Nats a point, each word beside its own text or beside another's, `roll` words further."""
    totals, points = np.zeros(2), 0
    for start in range(0, len(some), 100):
        part = some[start : start + 100]
        texts, batch = _texts(part), batch_of([word.drawing for word in part])
        codes = words.codes([*texts[roll:], *texts[:roll]], _fonts(part))
        parts = writer.losses(batch, *codes)
        totals += int(batch.known.sum()) * np.array([each.item() for each in parts])
        points += int(batch.known.sum())
    return dict(zip(("xy", "pen"), (totals / points).tolist(), strict=True))


def readable(
    reader: Recogniser, drawings: Sequence[np.ndarray], texts: Sequence[str], letters: str
) -> float:
    """Share of words that the recogniser reads as they are meant."""
    found = reader.recognise(batch_of(drawings), letters)
    return float(np.mean([a == b for a, b in zip(found, texts, strict=True)]))


def show(metrics: Metrics, config: HandwritingConfig) -> Numbers:
    """Likelihood with right and wrong texts, lengths, forward windows, readability; pictures."""
    words = words_of(config)
    writer, reader = learnt(metrics, config, words), learnt_recogniser(metrics, config, words)
    numbers: dict[str, Any] = {
        "words": {"train": len(words.train), "valid": len(words.valid), "other": len(words.other)}
    }
    for name, some in (("valid", words.valid), ("other_fonts", words.other)):
        if some:
            own, wrong = nats(writer, words, some), nats(writer, words, some, 7)
            shuffled = sum(wrong.values()) - sum(own.values())
            numbers[name] = own | {"wrong_text_costs": shuffled}
    numbers |= _written(config, words, writer, reader)
    _draw(metrics, config, words, writer)
    return numbers


def _written(
    config: HandwritingConfig, words: Words, writer: Writer, reader: Recogniser
) -> dict[str, Any]:
    """Held-out words, written: whether they end, and whether they can be read."""
    order = numpy_generator(config.seed, "written").permutation(len(words.valid))
    some = [words.valid[i] for i in order[: config.show.written]]
    texts, lengths = _texts(some), np.array([len(word) for word in some])
    generator, bias = torch_generator(config.seed, "written"), Temperature.graves(config.show.bias)
    most = 2 * int(lengths.max())
    codes = words.codes(texts, _fonts(some))
    drawings, windows, ended = writer.write(*codes, most, bias, generator)
    within = [
        e and len(d) <= 2 * length for e, d, length in zip(ended, drawings, lengths, strict=True)
    ]
    back = np.concatenate([np.diff(w.argmax(1)) < 0 for w in windows])
    found = readable(reader, drawings, texts, words.letters)
    own = readable(reader, [word.drawing for word in some], texts, words.letters)
    return {
        "bias": config.show.bias,
        "ended_within_twice": sum(within) / len(within),
        "window_goes_back": float(back.mean()),
        "read": found,
        "read_of_the_data": own,
        "read_share": found / max(own, 1e-9),
    }


def _draw(metrics: Metrics, config: HandwritingConfig, words: Words, writer: Writer) -> None:
    texts = config.show.text.split() or list(dict.fromkeys(_texts(words.valid)))[:5]
    figure = new_figure(11, 5)
    left, right = figure.subplots(1, 2, width_ratios=[5, 2.4])
    codes = words.codes(texts, [k % words.fonts if words.fonts else -1 for k in range(len(texts))])
    for row, bias in enumerate(BIASES):
        generator = torch_generator(config.seed, "figure", row)
        drawings, windows, _ = writer.write(
            *codes, config.max_points, Temperature.graves(bias), generator
        )
        for column, drawing in enumerate(drawings):
            width, height = np.ptp(np.cumsum(drawing[:, :2], 0), 0).tolist()
            size = max(width, height) * min(0.85 / max(width, 1e-6), 0.45 / max(height, 1e-6))
            paint(left, drawing, (column, -row * 0.5), size, "black")
        left.text(-0.8, -row * 0.5, f"bias {bias:g}", fontsize="small", va="center")
        if bias == 1.0:
            window = windows[0][:, : len(texts[0]) + 1]
            right.imshow(window.T, aspect="auto", origin="lower", cmap="magma")
            right.set_yticks(range(window.shape[1]), [*texts[0], "end"])
            right.set(xlabel="point", title="the window over the letters")
    left.set_aspect("equal")
    left.axis("off")
    left.set_title(", ".join(texts), fontsize="small")
    figure.savefig(metrics.run.folder / "handwriting.png", dpi=80)


EXHIBIT = Exhibit("Handwriting of any text.", HandwritingConfig, show)
