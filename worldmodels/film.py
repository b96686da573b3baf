"""Films: panels side by side, as webm that browsers play and as an animated WebP for a README."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from worldmodels.files import replacing

TITLE_HEIGHT = 24
GAP = 4
BACKGROUND = (24, 24, 24)
WEBP_QUALITY, WEBP_METHOD = 80, 4
"""Method 6 saves another 5% and takes 20 times as long."""

Frame = UInt8[np.ndarray, "height width 3"]


def write_webm(path: Path, frames: Iterable[Frame], fps: float) -> None:
    """Writes RGB frames of one size as VP8 video; odd sizes are padded to even ones.

    Args:
        path: ends in .webm; folders are made.
        frames: at least one; read once, so a generator will do.
        fps: frames a second.

    Raises:
        ValueError: no frames, or frames of several sizes.
    """
    with replacing(path) as temporary:
        film = temporary.with_suffix(".webm")  # OpenCV reads the format from the name
        try:
            _encode_webm(film, frames, fps)
            os.replace(film, temporary)
        finally:
            film.unlink(missing_ok=True)


def write_webp(path: Path, frames: Iterable[Frame], fps: float) -> None:
    """Writes RGB frames of one size as an animated WebP that repeats endlessly.

    It has a third of a GIF's bytes, and all colours.

    Raises:
        ValueError: no frames.
    """
    pictures = [Image.fromarray(frame) for frame in frames]
    if not pictures:
        raise ValueError(f"{path.name}: there are no frames to write")
    with replacing(path) as temporary:
        pictures[0].save(
            temporary,
            "WEBP",
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 / fps),
            loop=0,
            quality=WEBP_QUALITY,
            method=WEBP_METHOD,
        )


def beside(
    *panels: UInt8[np.ndarray, "_ _ 3"], titles: Sequence[str] = (), scale: int = 4
) -> Frame:
    """One picture of titled panels side by side, each `scale` times the first one's height.

    Enlarged pixels stay squares. The width is made even, as video needs it.
    """
    if titles and len(titles) != len(panels):
        raise ValueError(f"{len(panels)} panels have {len(titles)} titles")
    height = scale * panels[0].shape[0]
    pictures = [_scaled(panel, height / panel.shape[0]) for panel in panels]
    if titles:
        pairs = zip(pictures, titles, strict=True)
        pictures = [np.vstack([_title(text, p.shape[1]), p]) for p, text in pairs]
    gap = np.full((pictures[0].shape[0], GAP, 3), BACKGROUND, np.uint8)
    row = np.hstack([part for picture in pictures for part in (picture, gap)][:-1])
    return _even(row)


def _encode_webm(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    writer, shape = None, (0, 0, 0)
    for frame in frames:
        if writer is None:
            shape, writer = frame.shape, _writer(path, _even(frame), fps)
        if frame.shape != shape:
            raise ValueError(f"{path.name}: a frame of shape {frame.shape} among {shape}")
        writer.write(cv2.cvtColor(_even(frame), cv2.COLOR_RGB2BGR))
    if writer is None:
        raise ValueError(f"{path.name}: there are no frames to write")
    writer.release()


def _writer(path: Path, frame: np.ndarray, fps: float) -> cv2.VideoWriter:
    size = (frame.shape[1], frame.shape[0])
    with _silenced():
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), fps, size)
    if not writer.isOpened():
        raise OSError(f"{path.name}: this build of OpenCV cannot write VP8 video")
    return writer


@contextmanager
def _silenced() -> Iterator[None]:
    """Hides OpenCV's stderr: it warns of the tag of every webm that it then writes correctly."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _scaled(frame: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1:
        return frame
    size = (round(frame.shape[1] * factor), round(frame.shape[0] * factor))
    return cv2.resize(
        frame, size, interpolation=cv2.INTER_NEAREST if factor > 1 else cv2.INTER_AREA
    )


def _even(frame: np.ndarray) -> np.ndarray:
    """Repeats the last row and column of odd sizes: VP8 stores one colour for 2x2 pixels."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _title(text: str, width: int) -> np.ndarray:
    bar = np.full((TITLE_HEIGHT, width, 3), BACKGROUND, np.uint8)
    place, white = (6, TITLE_HEIGHT - 7), (235, 235, 235)
    cv2.putText(bar, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1, cv2.LINE_AA)
    return bar
