"""Written words and their texts: Hershey's fonts with jitter, the cursive set, or IAM-OnDB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from operator import attrgetter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from worldmodels.errors import InputError, install
from worldmodels.files import read_bytes
from worldmodels.gallery.drawings import Drawing, from_strokes, kept_usual, simplified
from worldmodels.gallery.public_files import load_npz, reading

FONTS = ("futural", "cursive", "timesr")
"""Hershey's Latin fonts in training; several other names have the same glyphs."""
HELD_OUT_FONTS = ("scriptc", "timesi")
ONSETS = "b c d f g h j k l m n p r s t v w z bl br ch cl dr fl gr pl qu sh sl st th tr wh"
NUCLEI = "a e i o u y ai ea ee io oa ou"
CODAS = "- - - b ck d f g l ll m n nd ng nt p r rd rt s ss st t x"
FEWEST = 2
"""Words to train on, and words that are held out."""
STRETCH = 6.0
"""The cursive set stores x divided by this."""
FLIP = np.array([1, -1], np.float32)
"""The fonts' y points up, that of drawings down."""

Stroke = Float32[np.ndarray, "_ 2"]


@dataclass(frozen=True)
class Word:
    """A text and how it was written."""

    text: str
    drawing: Drawing
    font: int = -1
    """Index of the training font; -1: none of them, or unknown."""

    def __len__(self) -> int:
        """Points."""
        return len(self.drawing)


@dataclass(frozen=True)
class Words:
    """A data set."""

    train: Sequence[Word]
    valid: Sequence[Word]
    """Words whose texts are not in training."""
    other: Sequence[Word]
    """The same texts in fonts that are not in training; empty where fonts are unknown."""
    scale: float

    @classmethod
    def of(cls, train: Sequence[Word], valid: Sequence[Word], other: Sequence[Word]) -> Words:
        """Scales by the training deviation; leaves out words with letters unknown in training."""
        letters = {letter for word in train for letter in word.text}
        scale = float(np.concatenate([w.drawing[:, :2] for w in train]).std())
        unit = np.array([scale, scale, 1], np.float32)
        train, valid, other = (
            [replace(w, drawing=w.drawing / unit) for w in part if set(w.text) <= letters]
            for part in (train, valid, other)
        )
        return cls(train, valid, other, scale)

    @cached_property
    def letters(self) -> str:
        """Letters of the training words, sorted."""
        return "".join(sorted({letter for word in self.train for letter in word.text}))

    @cached_property
    def fonts(self) -> int:
        """Number of training fonts; 0 where they are unknown."""
        return max(word.font for word in self.train) + 1

    @property
    def symbol_size(self) -> int:
        """Length of a symbol's code: L below."""
        return len(self.letters) + 1 + self.fonts

    def codes(
        self, texts: Sequence[str], fonts: Sequence[int]
    ) -> tuple[Float[Tensor, "B U L"], Float[Tensor, "B U"]]:
        """One-hot symbols of texts, and which are known: letters and an end, each with its font.

        Raises:
            InputError: a letter was never in training.
        """
        if unknown := [letter for letter in "".join(texts) if letter not in self.letters]:
            raise InputError(f"{unknown[0]!r} was never written in training: use {self.letters!r}")
        eye, size = torch.eye(self.symbol_size), len(self.letters)
        rows = []
        for text, font in zip(texts, fonts, strict=True):
            symbols = eye[[*map(self.letters.index, text), size]]
            rows.append(symbols if font < 0 else symbols + eye[size + 1 + font])
        codes = pad_sequence(rows, batch_first=True)
        return codes, codes[..., : size + 1].sum(-1)


def invented_words(count: int, generator: np.random.Generator) -> list[str]:
    """Different words of 3 to 7 letters, of one or two syllables, that could be English."""
    found: dict[str, None] = {}
    while len(found) < count:
        word = ""
        for _ in range(generator.integers(1, 3)):
            word += str(generator.choice(ONSETS.split())) + str(generator.choice(NUCLEI.split()))
        word += str(generator.choice(CODAS.split())).strip("-")
        if 3 <= len(word) <= 7:
            found[word] = None
    return list(found)


@cache
def _font(name: str) -> Any:
    try:
        from HersheyFonts import HersheyFonts
    except ModuleNotFoundError as error:
        raise InputError(
            f"handwriting needs Hershey's fonts ({install('gallery')}), or --data: the cursive "
            "set's npz or a folder of IAM-OnDB"
        ) from error
    font = HersheyFonts()
    font.load_default_font(name)
    font.normalize_rendering(1.0)
    return font


def printed(text: str, font: str, epsilon: float) -> list[Stroke]:
    """A word's strokes in a font of height 1, simplified to within epsilon; y points down.

    Raises:
        InputError: the package of fonts is missing.
    """
    strokes = map(list, _font(font).strokes_for_text(text))
    every = [np.array(s, np.float32) * FLIP for s in strokes if len(s) > 1]
    return [simplified(stroke, epsilon) for stroke in every]


def jittered_strokes(
    strokes: Sequence[Stroke], generator: np.random.Generator, wobble: float
) -> list[Stroke]:
    """Strokes with a random slant, stretch and rotation, and noise on their points."""
    slant, turn = generator.uniform(-0.3, 0.3), generator.uniform(-0.05, 0.05)
    across, up = generator.uniform(0.8, 1.25, 2)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    matrix = np.array([[across, 0], [-slant * up, up]]) @ rotation
    noise = (generator.normal(0, wobble, s.shape) for s in strokes)
    return [((s + n) @ matrix).astype(np.float32) for s, n in zip(strokes, noise, strict=True)]


def hershey_words(
    texts: Sequence[str],
    fonts: Sequence[str],
    epsilon: float,
    wobble: float,
    generator: np.random.Generator,
) -> list[Word]:
    """Each text once in each font, with its own jitter."""
    return [
        Word(text, from_strokes(jittered_strokes(strokes, generator, wobble)), number)
        for text in texts
        for number, strokes in enumerate(printed(text, font, epsilon) for font in fonts)
    ]


def read_words(path: Path, epsilon: float, max_points: int) -> Words:
    """Words of the cursive set (npz of points, offsets, text) or lines of IAM-OnDB (a folder).

    One text in ten is held out. Longer ones than `max_points` are left out.

    Raises:
        InputError: there are none, or a file is broken or of another kind.
    """
    with reading(path, "a file of words"):
        found = _iam(path, epsilon) if path.is_dir() else _cursive(path, epsilon)
    short = [word for word in found if 1 < len(word) <= max_points and word.text]
    held_out = set(sorted({word.text for word in short})[::10])
    train, valid = ([w for w in short if (w.text in held_out) == flag] for flag in (False, True))
    words = Words.of(train, valid, []) if train else None
    if words is None or min(len(words.train), len(words.valid)) < FEWEST:
        raise InputError(
            f"{path} has {len(short)} words of 2 to {max_points} points, too few to train on some "
            "and hold out others of the same letters: use another file"
        )
    return words


def _cursive(path: Path, epsilon: float) -> list[Word]:
    members = load_npz(path)
    words, texts = members.get("points", []), [str(text) for text in members.get("text", [])]
    if len(words) != len(texts) or not len(words) or words[0].shape[-1] != 3:
        raise InputError(
            f"{path} has {len(words)} words of x, y, pen and {len(texts)} texts: points, offsets "
            "and text are needed"
        )
    down = np.concatenate([word[:, 2] for word in words if word.ndim == 2 and word.shape[1] == 3])
    if len(down) and down.mean() < 0.5:
        raise InputError(
            f"{path}: the third column is mostly 0. It must be 1 where the pen is down, beside "
            "absolute x and y: use another file"
        )

    def read(text: str, word: np.ndarray) -> Word:
        return Word(text, from_strokes(_pen_strokes(word, epsilon)))

    pairs = enumerate(zip(texts, words, strict=True), 1)
    named = ((f"word {number}", partial(read, *pair)) for number, pair in pairs)
    return kept_usual(path, named, attrgetter("drawing"))


def _pen_strokes(points: np.ndarray, epsilon: float) -> list[Stroke]:
    """Strokes of x, y, pen_down: a point with the pen up ends one."""
    if points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(f"it is {points.shape}, or is not finite")
    places = points[:, :2] * np.array([STRETCH, 1], np.float32)
    ends = np.flatnonzero(points[:, 2] < 0.5) + 1
    strokes = [part for part in np.split(places, ends) if len(part) > 1]
    return [simplified(stroke, epsilon) for stroke in strokes] or [places]


def _iam(folder: Path, epsilon: float) -> list[Word]:
    """IAM-OnDB as it is distributed: lineStrokes/**/NAME-01.xml and ascii/**/NAME.txt."""
    texts = {path.stem: _transcription(path) for path in folder.rglob("*.txt")}

    def read(path: Path, text: str) -> Word:
        with reading(path, "an IAM-OnDB line"):
            return Word(text, from_strokes([simplified(s, 100 * epsilon) for s in _ink(path)]))

    lines = []
    for path in sorted(folder.rglob("*.xml")):
        name, _, line = path.stem.rpartition("-")
        if name in texts and line.isdecimal() and 1 <= int(line[:9]) <= len(texts[name]):
            lines.append((path.name, partial(read, path, texts[name][int(line) - 1])))
    if not lines:
        raise InputError(
            f"{folder} has no lineStrokes/**/*.xml with an ascii/**/*.txt: not IAM-OnDB"
        )
    return kept_usual(folder, lines, attrgetter("drawing"))


def _transcription(path: Path) -> list[str]:
    """The lines below `CSR:`."""
    text = read_bytes(path).decode("latin1").partition("CSR:")[2]
    return [line.strip() for line in text.split("\n") if line.strip()]


def _ink(path: Path) -> list[Stroke]:
    strokes = ElementTree.fromstring(read_bytes(path)).iter("Stroke")
    points = [[(float(p.attrib["x"]), float(p.attrib["y"])) for p in s] for s in strokes]
    with np.errstate(over="ignore"):
        return [np.array(stroke, np.float32) for stroke in points if stroke]
