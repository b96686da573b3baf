"""Small data of every kind that the gallery reads, made here or taken from a package."""

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def scribbles():
    """Drawings (N, 3) of a few strokes each."""

    def make(count, seed=0):
        generator = np.random.default_rng(seed)
        drawings = []
        for _ in range(count):
            points = generator.normal(size=(int(generator.integers(6, 14)), 3)).astype(np.float32)
            points[:, 2] = 0
            points[[2, -1], 2] = 1
            drawings.append(points)
        return drawings

    return make


@pytest.fixture
def sketches(scribbles, tmp_path):
    """An npz as sketch-rnn's and Quick, Draw!'s: object arrays of int16 drawings."""
    path, parts = tmp_path / "sketches.npz", {}
    for name, count in (("train", 40), ("valid", 8), ("test", 8)):
        array = np.empty(count, object)
        array[:] = [np.round(10 * d).astype(np.int16).clip(-90, 90) for d in scribbles(count)]
        for drawing in array:
            drawing[:, 2] = drawing[:, 2] > 0
        parts[name] = array
    np.savez(path, **parts)
    return path


@pytest.fixture
def performances(tmp_path):
    """An npz as TinyPerformanceArrays: one object array of x, y, dt."""
    generator = np.random.default_rng(1)
    array = np.empty(30, object)
    array[:] = [
        np.column_stack([generator.uniform(size=(20, 2)), generator.exponential(0.05, 20)])
        for _ in range(30)
    ]
    for performance in array:
        performance[0, 2] = 0.0  # seconds since the touch before
    path = tmp_path / "performances.npz"
    np.savez(path, array)
    return path


@pytest.fixture
def quick_draw(tmp_path):
    """ndjson as Quick, Draw!'s simplified drawings."""
    lines = [
        {
            "word": "cat",
            "recognized": bool(i % 3),
            "drawing": [[[0, 5, 9], [i, 2, 3]], [[4, 8], [0, i]]],
        }
        for i in range(60)
    ]
    path = tmp_path / "cat.ndjson"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def kanji_folder(tmp_path):
    """Forty characters of the package kanjivg."""
    from worldmodels.gallery.kanji import kanjivg_files

    folder = tmp_path / "kanji"
    folder.mkdir()
    for file in kanjivg_files()[:40]:
        (folder / Path(file).name).write_bytes(Path(file).read_bytes())
    return folder
