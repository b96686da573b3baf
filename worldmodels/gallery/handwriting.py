"""Handwriting of any text: a soft window over the letters, a mixture over the next offset.

Source: Graves 2013, "Generating Sequences With Recurrent Neural Networks", section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from worldmodels.figure import new_figure
from worldmodels.gallery.drawings import Batch, batch_of, similar_rows
from worldmodels.gallery.pen import nats_of, paint
from worldmodels.gallery.system import Numbers, System, initialised, train
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
from worldmodels.ranges import NonNegativeFloat, PositiveInt, Range, Seed
from worldmodels.run import Metrics
from worldmodels.seeding import numpy_generator, torch_generator
from worldmodels.stages.fit import FitConfig

BIASES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Those of the source's figures."""
NO_FONT = 0.2
"""Share of training words whose font the writer does not see."""
WOBBLE = 0.02
"""Standard deviation of the noise on the fonts' points; a letter is 1 high."""


@dataclass(frozen=True, kw_only=True)
class HandwritingShowConfig:
    """What is written; may change without a new training."""

    text: str = ""
    """Words for the figure; none: held-out words."""
    bias: NonNegativeFloat = 1.0
    """0 samples as the data are, more is neater; Graves 2013, section 5.4."""
    written: Annotated[int, Range(2.0)] = 200
    """Held-out words that are written and measured."""


@dataclass(frozen=True, kw_only=True)
class HandwritingConfig:
    """Words in Hershey's fonts, of the cursive set, or of IAM-OnDB."""

    seed: Seed = 0
    """Of words, initial weights, batches and samples."""
    data: str | None = None
    """The cursive set's npz or a folder of IAM-OnDB; none: Hershey's fonts."""
    words: Annotated[int, Range(2.0)] = 3000
    """Invented training words, each in every font."""
    held_out: Annotated[int, Range(2.0)] = 300
    """Invented words that are held out."""
    epsilon: NonNegativeFloat = 0.02
    """Strokes are simplified to within this distance: a letter is 1 high, or the file's unit."""
    max_points: Annotated[int, Range(2.0)] = 300
    """Longer words are left out."""
    reading_size: PositiveInt = 200
    """Units of the LSTM that reads the text; the source: 400."""
    hidden_size: PositiveInt = 400
    """Units of M above it. Differs: the source has two such layers."""
    num_mixtures: PositiveInt = 20
    """Normals in the mixture."""
    bumps: PositiveInt = 6
    """Of the window; the source: 10."""
    train: FitConfig = FitConfig(
        steps=1700, batch_size=64, learning_rate=2e-3, final_learning_rate=1e-5, gradient_clip=1.0
    )
    recogniser: FitConfig = FitConfig(
        steps=1200, batch_size=48, learning_rate=3e-3, final_learning_rate=1e-5, gradient_clip=1.0
    )
    recogniser_size: PositiveInt = 96
    """Units of its LSTM, in each direction."""
    show: HandwritingShowConfig = HandwritingShowConfig()


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
        hershey_words(some, fonts, config.epsilon, WOBBLE, generator)
        for some, fonts in ((known, FONTS), (unknown, FONTS), (unknown, HELD_OUT_FONTS))
    ]
    kept = [[w for w in part if len(w) <= config.max_points] for part in made]
    kept[2] = [replace(word, font=-1) for word in kept[2]]
    return Words.of(kept[0], kept[1], kept[2])


def trained(metrics: Metrics, config: HandwritingConfig, words: Words) -> Writer:
    """The network that writes."""
    sizes = config.reading_size, config.hidden_size, config.num_mixtures, config.bumps
    writer = initialised(config.seed, "writer", make=lambda: Writer(words.symbol_size, *sizes))

    def loss(step: int) -> Tensor:
        some = _picked(words.train, config.train, config.seed, step)
        hidden = numpy_generator(config.seed, "untold", step).random(len(some)) < NO_FONT
        fonts = np.where(hidden, -1, [word.font for word in some]).tolist()
        return torch.stack(writer.losses(_batch(some), *words.codes(_texts(some), fonts))).sum()

    train(metrics, "writer", writer, config.train, loss)
    return writer


def trained_recogniser(metrics: Metrics, config: HandwritingConfig, words: Words) -> Recogniser:
    """The recogniser, trained on the data's own strokes."""
    letters, size = words.letters, config.recogniser_size
    reader = initialised(config.seed, "recogniser", make=lambda: Recogniser(len(letters), size))

    def loss(step: int) -> Tensor:
        some = _picked(words.train, config.recogniser, config.seed, step)
        return reader.loss(_batch(some), _texts(some), letters)

    train(metrics, "recogniser", reader, config.recogniser, loss)
    return reader


def _picked(words: Sequence[Word], config: FitConfig, seed: int, step: int) -> list[Word]:
    return [words[row] for row in similar_rows(words, config.batch_size, seed, step)]


def _texts(words: Sequence[Word]) -> list[str]:
    return [word.text for word in words]


def _batch(words: Sequence[Word]) -> Batch:
    return batch_of([word.drawing for word in words])


@torch.inference_mode()
def nats(writer: Writer, words: Words, some: Sequence[Word], roll: int = 0) -> dict[str, float]:
    """Nats a point, each word given its own text or that of another word, `roll` words further."""
    parts = []
    for start in range(0, len(some), 100):
        part = some[start : start + 100]
        texts, batch = _texts(part), _batch(part)
        codes = words.codes([*texts[roll:], *texts[:roll]], [word.font for word in part])
        parts.append((batch, writer.losses(batch, *codes)))
    return dict(zip(("xy", "pen"), nats_of(parts), strict=True))


def readable(
    reader: Recogniser, drawings: Sequence[np.ndarray], texts: Sequence[str], letters: str
) -> float:
    """Share of words that the recogniser reads correctly."""
    found = reader.recognise(batch_of(drawings), letters)
    return float(np.mean([a == b for a, b in zip(found, texts, strict=True)]))


def show(metrics: Metrics, config: HandwritingConfig) -> Numbers:
    """Likelihood with right and wrong texts, lengths, window, readability; and the figure."""
    words = words_of(config)
    writer, reader = trained(metrics, config, words), trained_recogniser(metrics, config, words)
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
    """Writes held-out words: whether they end, and whether the recogniser reads them."""
    order = numpy_generator(config.seed, "written").permutation(len(words.valid))
    some = [words.valid[i] for i in order[: config.show.written]]
    texts, lengths = _texts(some), np.array([len(word) for word in some])
    generator, bias = torch_generator(config.seed, "written"), Temperature.graves(config.show.bias)
    most = 2 * int(lengths.max())
    codes = words.codes(texts, [word.font for word in some])
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
            paint(left, drawing, (column, -row * 0.5), box=(0.85, 0.45))
        left.text(-0.8, -row * 0.5, f"bias {bias:g}", fontsize="small", va="center")
        if bias == 1.0:
            window = windows[0][:, : len(texts[0]) + 1]
            right.imshow(window.T, aspect="auto", origin="lower", cmap="magma")
            right.set_yticks(range(window.shape[1]), [*texts[0], "end"])
            right.set(xlabel="point", title="the window over the letters")
    left.set_title(", ".join(texts), fontsize="small")
    figure.savefig(metrics.run.folder / "handwriting.png", dpi=80)


SYSTEM = System("Handwriting of any text.", HandwritingConfig, show)
