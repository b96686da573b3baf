"""Films: frames side by side, as webm that browsers play and as GIF for a README.

The GIF encoder is our own: OpenCV 5.0's is several times larger for the same frames, has one
colour table per frame and dithers; enlarged pixels want one palette and long runs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int, UInt8

TITLE_HEIGHT = 24
GAP = 4
BACKGROUND = (24, 24, 24)
PALETTE_SIZE = 127
TRANSPARENT = 127  # the colour that leaves the last frame's pixel as it was
CODE_BITS = 7
MAX_CODES = 4096


def write_film(
    path: str | Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    fps: float,
    gif: bool = True,
    gif_every: int = 3,
    gif_scale: float = 1.0,
) -> list[Path]:
    """Writes `path`.webm (VP8) and `path`.gif from RGB frames of one size; returns their paths.

    Args:
        path: without suffix; folders are made.
        frames: at least one; read once, so a generator will do.
        fps: frames a second.
        gif: whether to write the GIF too, which holds its frames in memory.
        gif_every: the GIF takes one frame of so many, at the film's speed.
        gif_scale: its size, as a share of the frames'.

    Raises:
        ValueError: no frames, or frames of several sizes.
    """
    webm, moving = Path(f"{path}.webm"), Path(f"{path}.gif")
    webm.parent.mkdir(parents=True, exist_ok=True)
    kept: list[np.ndarray] = []
    with _replacing(webm) as temporary:
        for number, frame in enumerate(_written(temporary, frames, fps)):
            if gif and number % gif_every == 0:
                kept.append(_scaled(frame, gif_scale))
    if not gif:
        return [webm]
    with _replacing(moving) as temporary:
        temporary.write_bytes(encode_gif(kept, seconds=gif_every / fps))
    return [webm, moving]


def beside(
    *panels: UInt8[np.ndarray, "_ _ 3"], titles: Sequence[str] = (), scale: int = 4
) -> UInt8[np.ndarray, "height width 3"]:
    """One picture of panels side by side, each `scale` times the first one's height, titled.

    Enlarged pixels stay squares; the width is made even, as video wants it.
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


def encode_gif(frames: Sequence[UInt8[np.ndarray, "height width 3"]], seconds: float) -> bytes:
    """An endless GIF with `seconds` per frame: one palette, unchanged pixels transparent.

    Source: GIF89a specification, W3C.
    """
    palette = _palette(frames)
    nearest = _nearest(palette)
    height, width = frames[0].shape[:2]
    table = np.zeros((1 << CODE_BITS, 3), np.uint8)
    table[: len(palette)] = palette
    parts = [struct.pack("<6sHHBBB", b"GIF89a", width, height, 0xF0 | (CODE_BITS - 1), 0, 0)]
    parts += [table.tobytes(), b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"]
    delay = max(2, round(100 * seconds))  # browsers slow anything faster than 2/100 s down
    before = np.full((height, width), TRANSPARENT, np.uint8)
    for frame in frames:
        colours = nearest[_cell(frame)]
        pixels = np.where(colours == before, TRANSPARENT, colours).astype(np.uint8)
        parts.append(struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 0x05, delay, TRANSPARENT, 0))
        parts.append(struct.pack("<BHHHHBB", 0x2C, 0, 0, width, height, 0, CODE_BITS))
        parts.append(_blocks(_packed(_lzw(pixels.tobytes()))))
        before = colours
    return b"".join([*parts, b"\x3b"])


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name with the same suffix, which OpenCV reads the format from."""
    temporary = path.with_name(f"{path.stem}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _written(path: Path, frames: Iterable[np.ndarray], fps: float) -> Iterator[np.ndarray]:
    """Writes the frames and passes them on."""
    writer, shape = None, (0, 0, 0)
    for frame in frames:
        if writer is None:
            shape, writer = frame.shape, _writer(path, _even(frame), fps)
        if frame.shape != shape:
            raise ValueError(f"{path.name}: a frame of shape {frame.shape} among {shape}")
        writer.write(cv2.cvtColor(_even(frame), cv2.COLOR_RGB2BGR))
        yield frame
    if writer is None:
        raise ValueError(f"{path.name}: there are no frames to write")
    writer.release()


def _writer(path: Path, frame: np.ndarray, fps: float) -> cv2.VideoWriter:
    size = (frame.shape[1], frame.shape[0])
    with _silenced():
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), fps, size)
    if not writer.isOpened():
        raise OSError(f"{path.name}: this build of OpenCV can't write VP8 video")
    return writer


@contextmanager
def _silenced() -> Iterator[None]:
    """Closes stderr to OpenCV, which complains of every webm's tag and then writes it well."""
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
    """Repeats the last row and column of odd sizes: VP8 has one colour for 2x2 pixels."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _title(text: str, width: int) -> np.ndarray:
    bar = np.full((TITLE_HEIGHT, width, 3), BACKGROUND, np.uint8)
    place, white = (6, TITLE_HEIGHT - 7), (235, 235, 235)
    cv2.putText(bar, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1, cv2.LINE_AA)
    return bar


def _palette(frames: Sequence[np.ndarray]) -> UInt8[np.ndarray, "colours 3"]:
    """The colours of some 20,000 pixels' k-means; all colours, where there are no more."""
    pixels = np.concatenate([frame.reshape(-1, 3) for frame in frames[:: len(frames) // 24 + 1]])
    pixels = pixels[:: len(pixels) // 20_000 + 1]
    distinct = np.unique(pixels, axis=0)
    if len(distinct) <= PALETTE_SIZE:
        return distinct
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    initial = np.empty((len(pixels), 1), np.int32)
    _, _, centres = cv2.kmeans(
        pixels.astype(np.float32), PALETTE_SIZE, initial, stop, 1, cv2.KMEANS_PP_CENTERS
    )
    palette: np.ndarray = centres.round().astype(np.uint8)
    return palette


def _nearest(palette: np.ndarray) -> UInt8[np.ndarray, "32768"]:
    """For each of 32³ cells of the colour cube, the palette's colour nearest to its middle."""
    axis = np.arange(32) * 8 + 4
    cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 1, 3)
    distances = ((cells - palette[None].astype(np.int64)) ** 2).sum(-1)
    nearest: np.ndarray = distances.argmin(1).astype(np.uint8)
    return nearest


def _cell(frame: np.ndarray) -> Int[np.ndarray, "height width"]:
    cells: np.ndarray = (frame.astype(np.int64) >> 3) @ np.array([1 << 10, 1 << 5, 1])
    return cells


def _lzw(pixels: bytes) -> Iterator[tuple[int, int]]:
    """LZW codes and their widths, 8 to 12 bits. Source: GIF89a, appendix F."""
    clear = 1 << CODE_BITS
    table: dict[int, int] = {}
    following, width = clear + 2, CODE_BITS + 1
    yield clear, width
    prefix = pixels[0]
    for pixel in pixels[1:]:
        code = table.get(key := prefix << 8 | pixel)
        if code is not None:
            prefix = code
            continue
        yield prefix, width
        prefix = pixel
        if following < MAX_CODES:
            table[key] = following
            width += following == 1 << width
            following += 1
        else:
            yield clear, width
            table, following, width = {}, clear + 2, CODE_BITS + 1
    yield prefix, width
    yield clear + 1, width + (following == 1 << width and following < MAX_CODES)


def _packed(codes: Iterable[tuple[int, int]]) -> bytes:
    """Codes end to end, lowest bit first."""
    written, number, bits = bytearray(), 0, 0
    for code, width in codes:
        number |= code << bits
        bits += width
        while bits >= 8:
            written.append(number & 255)
            number >>= 8
            bits -= 8
    return bytes(written) + number.to_bytes(bits > 0, "little")


def _blocks(data: bytes) -> bytes:
    """Chunks of up to 255 bytes, each after its length; an empty one ends them."""
    chunks = [data[start : start + 255] for start in range(0, len(data), 255)]
    return b"".join(bytes([len(chunk)]) + chunk for chunk in chunks) + b"\x00"
