"""From an environment's picture to the frame that V sees: choose, check, crop, resize.

`collect` checks the first picture once and records its shape and dtype in world.json. Every later
picture must match that record, so the compiled loop at the end of this file trusts its input.
"""

from __future__ import annotations

import functools
import math
from typing import Any, no_type_check

import cv2
import gymnasium
import numba
import numpy as np
from jaxtyping import Float32, UInt8, UInt32

from worldmodels.errors import InputError
from worldmodels.world import EnvConfig, RawPicture, World

SIZE = 64
"""Side of a frame in pixels: V's layers fit 64."""
SMALLEST_GREY = 32
"""Observations with two axes shorter than this are tables of numbers, not pictures."""

INSET_ROWS = SIZE // 8
"""Rows of a frame that show `env.inset`."""

Frame = UInt8[np.ndarray, "64 64 3"]
Taps = tuple[UInt32[np.ndarray, "taps n"], Float32[np.ndarray, "taps n"]]


def is_picture(space: gymnasium.Space[Any]) -> bool:
    """Whether the observations of a space are pictures, of whatever dtype."""
    if not isinstance(space, gymnasium.spaces.Box):
        return False
    return len(space.shape) == 3 or (len(space.shape) == 2 and min(space.shape) >= SMALLEST_GREY)


def choose(config: EnvConfig, observation: Any) -> Any:
    """The picture of an observation, or those of a batch of observations.

    Raises:
        InputError: the observation has no `env.screen`.
    """
    if config.screen is None:
        return observation
    try:
        return observation[config.screen]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        keys = ", ".join(observation) if isinstance(observation, dict) else "no keys"
        raise InputError(
            f"env.screen is {config.screen!r}, but the observation has {keys}: name the picture's "
            "key, or none"
        ) from error


def record(
    config: EnvConfig, picture: Any, space: gymnasium.Space[Any], *, rendered: bool
) -> RawPicture:
    """What world.json says of an environment's pictures, by its first one.

    Args:
        config: of the environment.
        picture: chosen already, or rendered.
        space: the environment's observation space.
        rendered: whether the picture comes from `render()`.

    Raises:
        InputError: it is not uint8 (height, width, 3) nor grey, or the crop lies outside of it.
    """
    grey_or_color = _is_array(picture) and (picture.ndim == 2 or picture.shape[2:] in ((1,), (3,)))
    if not grey_or_color or picture.dtype != np.uint8 or picture.size == 0:
        source = "render() returns" if rendered else "the picture is"
        raise InputError(
            f"env.id {config.id}: {source} {_named(picture)}, but uint8 (height, width, 3) or grey "
            f"(height, width) is needed: {_cure(picture, rendered)}"
        )
    _check_parts(config, picture)
    if config.screen is not None and isinstance(space, gymnasium.spaces.Dict):
        space = space[config.screen]
    low, high = 0, 255
    if not rendered and isinstance(space, gymnasium.spaces.Box):
        low, high = (int(np.clip(b, 0, 255)) for b in (space.low.min(), space.high.max()))
    if high <= 1:
        raise InputError(
            f"env.id {config.id}: its pictures range from 0 to {high}: multiply them by 255 in a "
            "wrapper"
        )
    return RawPicture(picture.shape, str(picture.dtype), low, high, rendered)


def preprocess(world: World, observation: Any) -> Frame:
    """An observation, or what was rendered, to the frame that V sees.

    Raises:
        InputError: the picture is missing, or has another shape or dtype than world.json records.
    """
    picture = choose(world.config, observation)
    check_matches(world, picture)
    return frame_of(picture, world.config)


def check_matches(world: World, picture: Any, lanes: int | None = None) -> None:
    """Compares a picture, or one for each of some lanes, with the record in world.json.

    Raises:
        InputError: its shape or dtype is another.
    """
    raw = world.picture
    shape = raw.shape if lanes is None else (lanes, *raw.shape)
    if _is_array(picture) and picture.shape == shape and picture.dtype == raw.dtype:
        return
    what = "render() of the environment" if raw.rendered else "the observation"
    several = "" if lanes is None else f"{lanes} of "
    raise InputError(
        f"the picture is {_named(picture)}, but the agent's {world.config.id} has {several}{raw}: "
        f"pass {what}, made with the arguments that world.json names"
    )


def check_frames(frames: Any, lanes: int) -> None:
    """Checks what V is to see: one frame for each of some lanes.

    Raises:
        InputError: shape or dtype differ.
    """
    shape = (lanes, SIZE, SIZE, 3)
    if not (_is_array(frames) and frames.shape == shape and frames.dtype == np.uint8):
        raise InputError(f"the frames are {_named(frames)}, but V sees uint8 {shape}: use RealEnvs")


def frame_of(picture: UInt8[np.ndarray, "h w *channels"], config: EnvConfig) -> Frame:
    """Crops a picture that was checked, repeats grey to three channels, and shrinks it."""
    if picture.ndim == 2 or picture.shape[2] == 1:
        picture = np.repeat(picture.reshape(*picture.shape[:2], 1), 3, axis=2)
    if config.inset is None:
        return resize(_part(picture, config.crop), SIZE, SIZE)
    above = resize(_part(picture, config.crop), SIZE - INSET_ROWS, SIZE)
    return np.concatenate([above, resize(_part(picture, config.inset), INSET_ROWS, SIZE)])


def _part(picture: np.ndarray, part: tuple[int, int, int, int] | None) -> np.ndarray:
    if part is None:
        return picture
    top, bottom, left, right = part
    return picture[top:bottom, left:right]


def _is_array(picture: Any) -> bool:
    return isinstance(picture, np.ndarray)


def _named(picture: Any) -> str:
    if _is_array(picture):
        return f"{picture.dtype} {picture.shape}"
    return "None" if picture is None else f"a {type(picture).__name__}"


def _cure(picture: Any, rendered: bool) -> str:
    if rendered and not _is_array(picture):
        return "name the key of a picture in env.screen, or use an environment that renders one"
    if not _is_array(picture):
        return "return an array, or name the key of a picture in env.screen"
    if picture.dtype != np.uint8:
        return "scale it to 0 to 255 and convert it to uint8 in a wrapper"
    if picture.ndim == 3 and picture.shape[0] in (1, 3):
        return "move the channels to the last axis in a wrapper"
    return "choose or make such a picture in a wrapper"


def _check_parts(config: EnvConfig, picture: np.ndarray) -> None:
    height, width = picture.shape[:2]
    for name, part in (("crop", config.crop), ("inset", config.inset)):
        if part is not None and (part[1] > height or part[3] > width):
            raise InputError(
                f"env.{name} {list(part)} (top, bottom, left, right) lies outside of the picture, "
                f"which has {height} rows and {width} columns"
            )


def resize(
    picture: UInt8[np.ndarray, "h w 3"], rows: int, columns: int
) -> UInt8[np.ndarray, "{rows} {columns} 3"]:
    """A picture of other sizes, averaged by area as by OpenCV's INTER_AREA.

    OpenCV is fast where the sizes divide each other. For others (CarRacing's 84x96 to 64x64) the
    compiled loop takes half of its time or less.
    """
    picture = np.ascontiguousarray(picture)
    height, width = picture.shape[:2]
    if height % rows == width % columns == 0 or height < rows or width < columns:
        return cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    small = np.empty((rows, columns, 3), np.uint8)
    _average(picture, *_taps(height, rows, 1), *_taps(width, columns, 3), small)
    return small


@functools.lru_cache(maxsize=16)
def _taps(source: int, size: int, channels: int) -> Taps:
    """For each of `size` pixels the source pixels that it covers, and their weights."""
    scale = source / size
    starts = np.arange(size) * scale
    indices = np.arange(math.ceil(scale) + 1)[:, None] + np.floor(starts + 1e-3)
    shares = np.minimum(indices + 1, starts + scale) - np.maximum(indices, starts)
    shares = np.where(shares > 1e-3, shares, 0.0) / scale
    used = shares.any(axis=1)
    indices = np.minimum(indices, source - 1)[used, :, None] * channels + np.arange(channels)
    count = used.sum()
    shares = np.repeat(shares[used], channels, axis=1).astype(np.float32)
    return indices.reshape(count, -1).astype(np.uint32), shares


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _average(picture, rows, row_shares, columns, column_shares, small):
    """Fills `small`: first over rows, which are contiguous, then over columns, in float32.

    Trap: shapes are not checked here.

    Args:
        picture: uint8 (height, width, 3), contiguous.
        rows: the rows that each row of `small` averages (taps, size).
        row_shares: their weights.
        columns: the same for the numbers of a row, 3 a pixel (taps, 3 size).
        column_shares: their weights.
        small: uint8 (size, size, 3).
    """
    wide, numbers = 3 * picture.shape[1], 3 * small.shape[1]
    source, target = picture.reshape(-1), small.reshape(-1)
    line, sums = np.empty(wide, np.float32), np.empty(numbers, np.float32)
    for y in range(len(small)):
        line[:] = 0
        for tap in range(len(rows)):
            share, start = row_shares[tap, y], np.uint64(rows[tap, y] * wide)
            for i in range(wide):
                line[i] += share * np.float32(source[start + np.uint64(i)])
        sums[:] = 0.5
        for tap in range(len(columns)):
            for i in range(numbers):
                sums[i] += line[columns[tap, i]] * column_shares[tap, i]
        for i in range(numbers):
            target[np.uint64(y * numbers + i)] = np.uint8(np.int32(sums[i]))
