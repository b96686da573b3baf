"""Films: panels side by side, as webm that browsers play and as an animated WebP for a README."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from worldmodels.errors import InputError
from worldmodels.files import replacing

TITLE_HEIGHT = 24
GAP = 4
BACKGROUND = (24, 24, 24)
WEBP_QUALITY, WEBP_METHOD = 80, 4
"""Method 6 saves another 5% and takes 20 times as long."""
SHEET_COLUMNS = 16
"""Pictures in a row of a sheet."""

Frame = UInt8[np.ndarray, "height width 3"]


def write_webm(path: Path, frames: Iterable[Frame], fps: float) -> None:
    """Writes RGB frames of one even size as VP8 video.

    Args:
        path: ends in .webm; folders are made.
        frames: at least one; read once, so a generator will do.
        fps: frames a second.
    """
    unread = iter(frames)
    first = next(unread)
    with filming(path, first.shape[1::-1], fps) as add:
        for frame in chain([first], unread):
            add(frame)


@contextmanager
def filming(path: Path, size: tuple[int, int], fps: float) -> Iterator[Callable[[Frame], None]]:
    """Yields a function that adds an RGB frame to a VP8 video.

    The file is there when the block succeeds.

    Args:
        path: ends in .webm; folders are made.
        size: width and height of the frames, even numbers.
        fps: frames a second.
    """
    with replacing(path) as temporary:
        film = Path(f"{temporary}.webm")  # OpenCV reads the format from the name
        try:
            with _silenced():
                code = cv2.VideoWriter.fourcc(*"VP80")
                writer = cv2.VideoWriter(str(film), code, fps, size)
            if not writer.isOpened():
                raise OSError(f"{path.name}: this build of OpenCV cannot write VP8 video")

            added = 0

            def add(frame: Frame) -> None:
                nonlocal added
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
                added += 1

            yield add
            writer.release()
            if _pictures_in(film) != added:  # OpenCV says nothing of a write that failed
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            os.replace(film, temporary)
        finally:
            film.unlink(missing_ok=True)


def _pictures_in(path: Path) -> int:
    """How many pictures of a film can be read."""
    film, count = cv2.VideoCapture(str(path)), 0
    try:
        while film.grab():
            count += 1
    finally:
        film.release()
    return count


def middle_of(path: Path) -> Frame:
    """The picture in the middle of a film.

    Raises:
        InputError: the file is not a film.
    """
    film = cv2.VideoCapture(str(path))
    try:
        pictures = int(film.get(cv2.CAP_PROP_FRAME_COUNT))
        film.set(cv2.CAP_PROP_POS_FRAMES, max(0, pictures // 2))
        read, picture = film.read()
    finally:
        film.release()
    if not read:
        raise InputError(f"{path} is not a film: delete it and run `worldmodels watch` again")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def write_webp(path: Path, frames: Sequence[Frame], fps: float) -> None:
    """Writes RGB frames of one size as an animated WebP that repeats endlessly.

    It has a third of a GIF's bytes, and all colours.
    """
    first, *others = [Image.fromarray(frame) for frame in frames]
    with replacing(path) as temporary:
        first.save(
            temporary,
            "WEBP",
            save_all=True,
            append_images=others,
            duration=round(1000 / fps),
            loop=0,
            quality=WEBP_QUALITY,
            method=WEBP_METHOD,
        )


def sheet(frames: UInt8[np.ndarray, "T side side 3"]) -> bytes:
    """One WebP picture of all frames, SHEET_COLUMNS in a row, from the top left."""
    count, side = frames.shape[:2]
    rows = -(-count // SHEET_COLUMNS)
    grid = np.zeros((rows * SHEET_COLUMNS, side, side, 3), np.uint8)
    grid[:count] = frames
    grid = grid.reshape(rows, SHEET_COLUMNS, side, side, 3).transpose(0, 2, 1, 3, 4)
    file = io.BytesIO()
    picture = Image.fromarray(grid.reshape(rows * side, SHEET_COLUMNS * side, 3))
    picture.save(file, "WEBP", quality=WEBP_QUALITY, method=WEBP_METHOD)
    return file.getvalue()


def pictures_of(
    film: bytes, count: int, sides: Collection[int]
) -> UInt8[np.ndarray, "T side side 3"]:
    """The first `count` frames of a sheet, whose side is one of `sides`.

    Raises:
        InputError: it is not a picture, or of another size.
    """
    rows = -(-count // SHEET_COLUMNS)
    try:
        with Image.open(io.BytesIO(film), formats=["WEBP"]) as picture:
            side = picture.width // SHEET_COLUMNS
            if side not in sides or picture.size != (SHEET_COLUMNS * side, rows * side):
                raise ValueError(f"{picture.size} pixels for {count} frames")
            grid = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError) as error:  # PIL's errors are these
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"a film is broken ({reason}): make the bundle again") from error
    grid = grid.reshape(-1, side, SHEET_COLUMNS, side, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid.reshape(-1, side, side, 3)[:count])


def beside(
    panels: Sequence[UInt8[np.ndarray, "h w 3"]], titles: Sequence[str], scale: int
) -> Frame:
    """One picture of titled panels of one size side by side, enlarged `scale` times."""
    large = [panel.repeat(scale, 0).repeat(scale, 1) for panel in panels]
    titled = [
        np.vstack([_title(title, panel.shape[1]), panel])
        for title, panel in zip(titles, large, strict=True)
    ]
    gap = np.full((titled[0].shape[0], GAP, 3), BACKGROUND, np.uint8)
    return np.hstack([part for panel in titled for part in (panel, gap)][:-1])


def shrunk(picture: Frame, size: float) -> UInt8[np.ndarray, "h w 3"]:
    """The picture at a size of at most 1; its sides stay even."""
    sides = [int(side * size) // 2 * 2 for side in picture.shape[1::-1]]
    return picture if size == 1 else cv2.resize(picture, sides, interpolation=cv2.INTER_AREA)


def captioned(picture: UInt8[np.ndarray, "h width 3"], text: str) -> Frame:
    """The picture below a line of text: players cover the bottom of a film."""
    return np.vstack([_title(text, picture.shape[1]), picture])


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


def _title(text: str, width: int) -> np.ndarray:
    bar = np.full((TITLE_HEIGHT, width, 3), BACKGROUND, np.uint8)
    place, white = (6, TITLE_HEIGHT - 7), (235, 235, 235)
    cv2.putText(bar, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1, cv2.LINE_AA)
    return bar
