"""Handwriting of any text: a soft window over the letters, a mixture over the next offset.

Source: Graves 2013, "Generating Sequences With Recurrent Neural Networks", section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_packed_sequence

from worldmodels.figure import new_figure, save_figure
from worldmodels.gallery.drawings import DRAW, Batch, batch_of, similar_rows
from worldmodels.gallery.pen import Writer, nats_of, paint
from worldmodels.gallery.system import Numbers, System, falling
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
from worldmodels.ranges import NonNegativeFloat, PositiveInt, Range
from worldmodels.run import Metrics, say
from worldmodels.seeding import numpy_generator, torch_generator
from worldmodels.stages.fit import FitConfig

BIASES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Those of the source's figures."""
NO_FONT = 0.2
"""Share of training words whose font the writer does not see."""
WOBBLE = 0.02
"""Standard deviation of the noise on the fonts' points; a letter is 1 high."""


@dataclass(frozen=True, kw_only=True)
class Handwriting(System):
    """Handwriting of any text."""

    free = frozenset({"text", "bias", "written"})

    data: str | None = None
    """The cursive set's npz or a folder of IAM-OnDB; null: Hershey's fonts."""
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
    train: FitConfig = falling(steps=1700, batch_size=64, learning_rate=2e-3, gradient_clip=1.0)
    recogniser: FitConfig = falling(
        steps=1200, batch_size=48, learning_rate=3e-3, gradient_clip=1.0
    )
    recogniser_size: PositiveInt = 96
    """Units of its LSTM, in each direction."""
    text: str = ""
    """Words for the figure; null: held-out words."""
    bias: NonNegativeFloat = 1.0
    """0 samples as the data are, more is neater; Graves 2013, section 5.4."""
    written: Annotated[int, Range(2.0)] = 200
    """Held-out words that are written and measured."""

    def show(self, metrics: Metrics) -> Numbers:
        """Likelihood with right and wrong texts, lengths, window, readability; and the figure."""
        words = self.data_set()
        words.codes(texts := self.texts(words), [-1] * len(texts))  # before hours of training
        writer, reader = self.writer(metrics, words), self.reader(metrics, words)
        sizes = {name: len(getattr(words, name)) for name in ("train", "valid", "other")}
        numbers: dict[str, Any] = {"words": sizes}
        for name, some in (("valid", words.valid), ("other_fonts", words.other)):
            if some:
                own, wrong = nats(writer, words, some), nats(writer, words, some, 7)
                shuffled = sum(wrong.values()) - sum(own.values())
                numbers[name] = own | {"wrong_text_costs": shuffled}
        numbers |= _written(self, words, writer, reader)
        _draw(metrics, self, words, writer)
        return numbers

    def texts(self, words: Words) -> list[str]:
        """What the figure shows: the words of `text`, or held-out ones."""
        return self.text.split() or list(dict.fromkeys(_texts(words.valid)))[:5]

    def data_set(self) -> Words:
        """The words.

        Raises:
            InputError: the data are missing or broken.
        """
        if self.data is not None:
            return read_words(Path(self.data), self.epsilon, self.max_points)
        generator = numpy_generator(self.seed, "words")
        texts = invented_words(self.words + self.held_out, generator)
        known, unknown = texts[: self.words], texts[self.words :]
        train, valid, other = (
            hershey_words(some, fonts, self.epsilon, WOBBLE, generator)
            for some, fonts in ((known, FONTS), (unknown, FONTS), (unknown, HELD_OUT_FONTS))
        )
        other = [replace(word, font=-1) for word in other]
        parts = ([w for w in part if len(w) <= self.max_points] for part in (train, valid, other))
        return Words.of(*parts)

    def writer(self, metrics: Metrics, words: Words) -> Writer:
        """The network that writes."""
        sizes = self.reading_size, self.hidden_size, self.num_mixtures, self.bumps

        def loss(writer: Writer, step: int) -> Tensor:
            rows = similar_rows(words.train, self.train.batch_size, self.seed, step)
            some = [words.train[row] for row in rows]
            hidden = numpy_generator(self.seed, "untold", step).random(len(some)) < NO_FONT
            fonts = np.where(hidden, -1, [word.font for word in some]).tolist()
            return torch.stack(writer.losses(_batch(some), *words.codes(_texts(some), fonts))).sum()

        make = partial(Writer, words.symbol_size, *sizes)
        return self.trained(metrics, make, loss, "writer")

    def reader(self, metrics: Metrics, words: Words) -> Recogniser:
        """The recogniser, trained on the data's own strokes."""

        def loss(reader: Recogniser, step: int) -> Tensor:
            rows = similar_rows(words.train, self.recogniser.batch_size, self.seed, step)
            some = [words.train[row] for row in rows]
            return reader.loss(_batch(some), _texts(some))

        make = partial(Recogniser, words.letters, self.recogniser_size)
        return self.trained(metrics, make, loss, "recogniser", config=self.recogniser)


class Recogniser(nn.Module):
    """Reads a word from its points: a bidirectional LSTM, trained with CTC (Graves et al. 2006)."""

    def __init__(self, letters: str, hidden_size: int) -> None:
        super().__init__()
        self.letters = letters
        self.lstm = nn.LSTM(3, hidden_size, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden_size, len(letters) + 1)

    def forward(self, batch: Batch) -> Float[Tensor, "T B symbols"]:
        """Log probabilities; the last of each is the blank's."""
        packed = batch.packed((batch.pens != DRAW).float()[..., None])
        h, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(h).log_softmax(-1).transpose(0, 1)

    def loss(self, batch: Batch, texts: Sequence[str]) -> Tensor:
        """Nats a letter."""
        targets = torch.tensor([self.letters.index(letter) for letter in "".join(texts)])
        lengths, blank = torch.tensor([*map(len, texts)]), len(self.letters)
        return functional.ctc_loss(
            self(batch), targets, batch.known.sum(1), lengths, blank, zero_infinity=True
        )

    @torch.inference_mode()
    def recognise(self, batch: Batch) -> list[str]:
        """The best path, without repeated letters and blanks."""
        best, lengths = self(batch).argmax(-1).T, batch.known.sum(1)
        symbols, found = [*self.letters, ""], []
        for row, length in zip(best, lengths, strict=True):
            found.append("".join(symbols[k] for k in torch.unique_consecutive(row[:length])))
        return found

    def read_share(self, drawings: Sequence[np.ndarray], texts: Sequence[str]) -> float:
        """Share of words that it reads correctly."""
        pairs = zip(self.recognise(batch_of(drawings)), texts, strict=True)
        return float(np.mean([found == text for found, text in pairs]))


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


def _written(
    config: Handwriting, words: Words, writer: Writer, reader: Recogniser
) -> dict[str, float]:
    """Writes held-out words: whether they end, and whether the recogniser reads them."""
    order = numpy_generator(config.seed, "written").permutation(len(words.valid))
    some = [words.valid[i] for i in order[: config.written]]
    texts, lengths = _texts(some), np.array([len(word) for word in some])
    drawings, windows, ended = writer.write(
        *words.codes(texts, [word.font for word in some]),
        2 * int(lengths.max()),
        Temperature.graves(config.bias),
        torch_generator(config.seed, "written"),
    )
    within = np.array(ended) & ([*map(len, drawings)] <= 2 * lengths)
    back = np.concatenate([np.diff(w.argmax(1)) < 0 for w in windows])
    found = reader.read_share(drawings, texts)
    own = reader.read_share([word.drawing for word in some], texts)
    return {
        "bias": config.bias,
        "ended_within_twice": float(within.mean()),
        "window_goes_back": float(back.mean()),
        "read": found,
        "read_of_the_data": own,
        "read_share": found / max(own, 1e-9),
    }


def _draw(metrics: Metrics, config: Handwriting, words: Words, writer: Writer) -> None:
    texts, unfinished = config.texts(words), set(config.texts(words))
    figure = new_figure(11, 5)
    left, right = figure.subplots(1, 2, width_ratios=[5, 2.4])
    codes = words.codes(texts, [k % words.fonts if words.fonts else -1 for k in range(len(texts))])
    for row, bias in enumerate(BIASES):
        generator = torch_generator(config.seed, "figure", row)
        drawings, windows, ended = writer.write(
            *codes, config.max_points, Temperature.graves(bias), generator
        )
        unfinished -= {text for text, end in zip(texts, ended, strict=True) if end}
        paint(left, drawings, len(drawings), (0, -row * 0.5), box=(0.85, 0.45))
        left.text(-0.8, -row * 0.5, f"bias {bias:g}", fontsize="small", va="center")
        if bias == 1.0:
            window = windows[0][:, : len(texts[0]) + 1]
            right.imshow(window.T, aspect="auto", origin="lower", cmap="magma")
            right.set_yticks(range(window.shape[1]), [*texts[0], "end"])
            right.set(xlabel="point", title="the window over the letters")
    for text in sorted(unfinished):
        say(
            f"{text!r} is not written to its end within {config.max_points} points: give shorter "
            "words in --text"
        )
    left.set_title(", ".join(texts), fontsize="small")
    save_figure(figure, metrics.run.folder / "handwriting.png", dpi=80)
