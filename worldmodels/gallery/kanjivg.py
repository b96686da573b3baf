"""KanjiVG's characters as drawings: from the package `kanjivg`, or a folder of its SVG files.

KanjiVG is (c) 2009-2015 Ulrich Apel, CC BY-SA 3.0.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from worldmodels.errors import InputError
from worldmodels.gallery.drawings import Drawing, from_strokes, simplified
from worldmodels.gallery.public_files import reading
from worldmodels.run import progress

KANJI = range(0x4E00, 0xA000)
"""CJK Unified Ideographs; KanjiVG has kana, letters and signs as well."""
PIECES = 12
"""Points on each Bézier curve, before the strokes are simplified."""
PATH = "{http://www.w3.org/2000/svg}path"


def kanjivg_files(folder: Path | None = None) -> list[Path]:
    """SVG files of kanji in the order of their codes, without variants of a character.

    Raises:
        InputError: the package is missing, or the folder has none.
    """
    if folder is None:
        try:
            paths = [Path(str(file.locate())) for file in files("kanjivg") or ()]
        except PackageNotFoundError as error:
            raise InputError(
                "kanji need KanjiVG (`pip install worldmodels-dream[gallery]`), or --data: a "
                "folder of its SVG files, or an npz of drawings"
            ) from error
    else:
        paths = list(folder.rglob("*.svg"))
    named = {path.stem: path for path in paths if re.fullmatch(r"[0-9a-f]{5}\.svg", path.name)}
    found = [named[code] for code in sorted(named) if int(code, 16) in KANJI]
    if not found:
        raise InputError(f"{folder} has no KanjiVG file such as 0611b.svg: name another --data")
    return found


def read_kanjivg(paths: list[Path], epsilon: float) -> list[Drawing]:
    """Characters as drawings, simplified to within epsilon; a character is 109 wide.

    Raises:
        InputError: a file is not an SVG of KanjiVG, or svg.path is missing.
    """
    return [_character(path, epsilon) for path in progress(paths, "KanjiVG")]


def _character(path: Path, epsilon: float) -> Drawing:
    try:
        from svg.path import parse_path
    except ModuleNotFoundError as error:
        raise InputError(
            "KanjiVG's curves need svg.path (`pip install worldmodels-dream[gallery]`)"
        ) from error
    with reading(path, "an SVG of KanjiVG"):
        curves = [parse_path(node.attrib["d"]) for node in ElementTree.parse(path).iter(PATH)]
        strokes = [simplified(_flat(curve), epsilon) for curve in curves]
        return from_strokes([stroke for stroke in strokes if len(stroke) > 1])


def _flat(curve: object) -> np.ndarray:
    """Points (N, 2) along a path of one stroke."""
    segments = [s for s in curve if type(s).__name__ != "Move"]  # type: ignore[attr-defined]
    places = np.linspace(0, 1, PIECES)
    points = [segments[0].start, *(s.point(t) for s in segments for t in places[1:])]
    return np.array([(p.real, p.imag) for p in points], np.float32)
