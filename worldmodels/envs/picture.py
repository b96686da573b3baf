"""From an environment's picture to the frame that V sees: choose, check, convert, crop, resize.

The preflight looks at the first pictures and records their layout, dtype and range in world.json.
Every later picture must match that record, so the compiled loop at the end of this file trusts its
input.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, no_type_check

import cv2
import gymnasium
import numba
import numpy as np
from jaxtyping import Float32, UInt8, UInt32

from worldmodels.errors import InputError
from worldmodels.world import EnvConfig, Layout, RawPicture, World

SMALLEST_GREY = 32
"""Observations with two axes shorter than this are tables of numbers, not pictures."""
SMALLEST = 16
"""Observations of shorter sides are taken for codes of a grid where the environment renders."""
MOST_CHANNELS = 32
"""A longer axis does not hold channels or the pictures of a stack."""
INSET_ROWS = 1 / 8
"""Share of a frame's rows that show `env.inset`."""

Frame = UInt8[np.ndarray, "S S 3"]
Taps = tuple[UInt32[np.ndarray, "taps n"], Float32[np.ndarray, "taps n"]]

LAYOUTS: dict[Layout, Callable[[np.ndarray], np.ndarray]] = {
    "HW": lambda picture: picture[..., None],
    "HWC": lambda picture: picture[..., :3],
    "CHW": lambda picture: np.moveaxis(picture[:3], 0, -1),
    "HWK": lambda picture: picture[..., -1:],
    "KHW": lambda picture: picture[-1][..., None],
    "HW(KC)": lambda picture: picture[..., -3:],
    "(KC)HW": lambda picture: np.moveaxis(picture[-3:], 0, -1),
    "KHWC": lambda picture: picture[-1][..., :3],
    "KCHW": lambda picture: np.moveaxis(picture[-1][:3], 0, -1),
}
"""Axes of a picture, and what makes (height, width, 1 or 3) of it. H height, W width, C channels
(grey, colour, or colour and alpha, which is dropped), K pictures of a stack, the newest last."""


def is_picture(space: gymnasium.Space[Any], *, smallest: int = 1) -> bool:
    """Whether the observations of a space are pictures, of whatever dtype.

    Args:
        space: of the observations, or of one of their keys.
        smallest: sides of a coloured picture may not be shorter.
    """
    if not isinstance(space, gymnasium.spaces.Box):
        return False
    if len(space.shape) == 2:
        return min(space.shape) >= SMALLEST_GREY
    sides = sorted(space.shape)[-2:]
    return len(space.shape) in (3, 4) and min(sides) >= smallest


def picture_key(config: EnvConfig, space: gymnasium.Space[Any]) -> str | None:
    """Key of the picture in dictionary observations: env.screen, or that of the only picture."""
    if config.screen is not None or not isinstance(space, gymnasium.spaces.Dict):
        return config.screen
    pictures = {key: part for key, part in space.items() if is_picture(part, smallest=SMALLEST)}
    coloured = [key for key, part in pictures.items() if part.shape and part.shape[-1] == 3]
    found = coloured or list(pictures)
    return found[0] if len(found) == 1 else None


def choose(key: str | None, observation: Any) -> Any:
    """The picture of an observation, or those of a batch of observations.

    Raises:
        InputError: the observation has no such key.
    """
    if key is None:
        return observation
    part = observation
    for name in [key] if isinstance(part, dict) and key in part else key.split("."):
        try:
            part = part[int(name)] if isinstance(part, tuple | list) else part[name]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(
                f"env.screen is {key!r}, but the observation has {_keys(observation)}: name the "
                "picture's key, or none"
            ) from error
    return part


def record(
    config: EnvConfig,
    pictures: Sequence[Any],
    space: gymnasium.Space[Any],
    *,
    rendered: bool,
    key: str | None = None,
) -> RawPicture:
    """What world.json says of an environment's pictures, by the first ones of an episode.

    Args:
        config: of the environment.
        pictures: chosen already, or rendered; of successive steps.
        space: of the pictures, where they are observations.
        rendered: whether they come from `render()`.
        key: of the pictures in dictionary observations.

    Raises:
        InputError: they are no pictures, or not plainly ones that can be converted; or the crop
            lies outside of them.
    """
    said = f"env.id {config.id}: {'render() returns' if rendered else 'the picture is'} "
    arrays = [_array(picture) for picture in pictures]
    first = arrays[0]
    if first is None or first.size == 0 or first.dtype.kind not in "buif":
        raise InputError(
            f"{said}{_named(pictures[0])}, but a picture (height, width, 3) or grey (height, "
            f"width) is needed: {_cure(pictures[0], rendered)}"
        )
    for other in arrays:
        if other is None or (other.shape, other.dtype) != (first.shape, first.dtype):
            raise InputError(
                f"{said}{_named(first)} first and {_named(other)} later: make all pictures alike "
                "in a wrapper (env.wrappers)"
            )
    stacked = np.stack([array for array in arrays if array is not None])
    layout = _layout(stacked)
    if layout is None:
        raise InputError(
            f"{said}{_named(first)}, which is neither grey, colour, colour with alpha nor a stack "
            "of such pictures: make a picture (height, width, 3) in a wrapper (env.wrappers)"
        )
    low, high = _range(said, stacked, None if rendered else space)
    raw = RawPicture(first.shape, str(first.dtype), low, high, rendered, layout, key)
    _check_parts(config, plain(raw, first))
    return raw


def _layout(pictures: np.ndarray) -> Layout | None:
    """The layout of successive pictures (T, *shape); None: not a plain one.

    Whether an axis holds colours or a stack is seen from the pictures: in a stack each step moves
    all pictures on by one place.
    """
    shape = pictures.shape[1:]
    if len(shape) == 2:
        return "HW"
    if len(shape) == 4:
        last = shape[3] in (1, 3, 4)
        return "KHWC" if last else "KCHW" if shape[1] in (1, 3, 4) else None
    if len(shape) != 3:
        return None
    last = _is_channels(shape[2], shape[:2])
    if not last and not _is_channels(shape[0], shape[1:]):
        return None
    if last:
        return _kind_of_channels(pictures, "HWC", "HWK", "HW(KC)")
    return _kind_of_channels(np.moveaxis(pictures, 1, -1), "CHW", "KHW", "(KC)HW")


def _is_channels(length: int, sides: tuple[int, ...]) -> bool:
    return length in (1, 3) or (length <= MOST_CHANNELS and length < min(sides))


def _kind_of_channels(
    pictures: np.ndarray, color: Layout, stack: Layout, colors: Layout
) -> Layout | None:
    """Which of the names fits pictures (T, height, width, channels)."""
    channels = pictures.shape[-1]
    grey = bool((pictures == pictures[..., -1:]).all())
    if channels == 1 or (channels == 3 and (grey or not _moves_on(pictures, 1))):
        return color
    if channels % 3 == 0 and channels > 3 and _moves_on(pictures, 3):
        return colors
    if _moves_on(pictures, 1) or (channels == 4 and _is_padded(pictures[0])):
        return stack
    alpha = pictures[..., -1]
    return color if channels == 4 and np.isin(alpha, (alpha.min(), alpha.max())).all() else None


def _moves_on(pictures: np.ndarray, channels: int) -> bool:
    """Whether each step moves the channels on by some, as a stack does; False for one picture."""
    return len(pictures) > 1 and bool(
        (pictures[1:, ..., :-channels] == pictures[:-1, ..., channels:]).all()
    )


def _is_padded(picture: np.ndarray) -> bool:
    """Whether all channels are the last one, or empty: a stack of an episode's first picture."""
    last = picture[..., -1:]
    return bool(last.any() and ((picture == last) | (picture == 0)).all())


def _range(said: str, pictures: np.ndarray, space: gymnasium.Space[Any] | None) -> tuple[int, int]:
    """The numbers that are black and white: by the pictures, and by their space.

    Pictures of zeros and ones are from 0 to 255 only where their space says so. Without a space
    they are from 0 to 1, for later pictures that are brighter are refused; black ones of whole
    numbers are from 0 to 255.
    """
    if pictures.dtype == bool:
        return 0, 1
    low, high = float(pictures.min()), float(pictures.max())
    least, most = low, np.inf
    if isinstance(space, gymnasium.spaces.Box):
        least, most = float(space.low.min()), float(space.high.max())
    if not (low >= -1 and high <= 255) or (low < 0 and high > 1):
        raise InputError(
            f"{said}{pictures.dtype} from {low:g} to {high:g}: scale it to 0 to 255 in a wrapper "
            "(env.wrappers)"
        )
    if high > 1:
        return 0, 255
    whole = not (pictures % 1).any()
    if low >= 0 and whole and most > 1:
        black = high == 0 and pictures.dtype.kind != "f"
        if most <= 255 or black:
            return 0, 255
    return -1 if low < 0 or -1 <= least < 0 else 0, 1


def preprocess(world: World, observation: Any) -> Frame:
    """An observation, or what was rendered, to the frame that V sees.

    Raises:
        InputError: the picture is missing, or differs from what world.json records.
    """
    picture = choose(world.key, observation)
    if (array := _array(picture)) is not None:
        picture = array
    check_matches(world, picture)
    return frame_of(plain(world.picture, picture), world.config)


def check_matches(world: World, picture: Any, lanes: int | None = None) -> None:
    """Compares a picture, or one for each of some lanes, with the record in world.json.

    Raises:
        InputError: its shape, its dtype or its range is another.
    """
    raw = world.picture
    shape = raw.shape if lanes is None else (lanes, *raw.shape)
    if _is_array(picture) and picture.shape == shape and picture.dtype == raw.dtype:
        if picture.dtype != np.uint8 or raw.high <= 1:
            _check_range(raw, picture)
        return
    what = "render() of the environment" if raw.rendered else "the observation"
    several = "" if lanes is None else f"{lanes} of "
    raise InputError(
        f"the picture is {_named(picture)}, but the agent's {world.config.id} has {several}{raw}: "
        f"pass {what}, made with the arguments that world.json names"
    )


def _check_range(raw: RawPicture, picture: np.ndarray) -> None:
    low, high = picture.min(), picture.max()
    if not (raw.low <= low and high <= raw.high):  # NaN too
        raise InputError(
            f"the picture ranges from {low:g} to {high:g}, but the first ones lay between "
            f"{raw.low} and {raw.high}: scale it in a wrapper (env.wrappers), or let the first "
            "ones show the whole range"
        )


def check_frames(frames: Any, lanes: int, size: int) -> None:
    """Checks what V is to see: one frame of size x size pixels for each of some lanes.

    Raises:
        InputError: shape or dtype differ.
    """
    shape = (lanes, size, size, 3)
    if not (_is_array(frames) and frames.shape == shape and frames.dtype == np.uint8):
        raise InputError(f"the frames are {_named(frames)}, but V sees uint8 {shape}: use RealEnvs")


def plain(raw: RawPicture, picture: np.ndarray) -> UInt8[np.ndarray, "h w channels"]:
    """A picture that was checked as uint8 (height, width, 1 or 3); of a stack the newest."""
    picture = LAYOUTS[raw.layout if picture.ndim > 2 else "HW"](picture)
    if picture.dtype == np.uint8 and raw.high > 1:
        return picture
    numbers = picture.astype(np.float32)
    if raw.high <= 1:
        numbers = (numbers - raw.low) * (255 / (raw.high - raw.low))
    return np.rint(numbers).astype(np.uint8)


def frame_of(picture: UInt8[np.ndarray, "h w *channels"], config: EnvConfig) -> Frame:
    """Crops a plain picture, repeats grey to three channels, and shrinks it."""
    if picture.ndim == 2 or picture.shape[2] == 1:
        picture = np.repeat(picture.reshape(*picture.shape[:2], 1), 3, axis=2)
    size, cropped = config.size, _part(picture, config.crop)
    if config.inset is None:
        return _fitted(cropped, size, size, config.fit)
    rows = round(size * INSET_ROWS)
    above = _fitted(cropped, size - rows, size, config.fit)
    return np.concatenate([above, resize(_part(picture, config.inset), rows, size)])


def _fitted(
    picture: UInt8[np.ndarray, "h w 3"], rows: int, columns: int, fit: str
) -> UInt8[np.ndarray, "{rows} {columns} 3"]:
    """The picture in other sizes, as `env.fit` says."""
    height, width = picture.shape[:2]
    scales = height / rows, width / columns
    if fit == "crop":
        high, wide = (max(1, round(side * min(scales))) for side in (rows, columns))
        top, left = (height - high) // 2, (width - wide) // 2
        picture = picture[top : top + high, left : left + wide]
    if fit != "letterbox":
        return resize(picture, rows, columns)
    high, wide = (max(1, round(side / max(scales))) for side in (height, width))
    top, left = (rows - high) // 2, (columns - wide) // 2
    framed = np.zeros((rows, columns, 3), np.uint8)
    framed[top : top + high, left : left + wide] = resize(picture, high, wide)
    return framed


def _part(picture: np.ndarray, part: tuple[int, int, int, int] | None) -> np.ndarray:
    if part is None:
        return picture
    top, bottom, left, right = part
    return picture[top:bottom, left:right]


def _array(picture: Any) -> np.ndarray | None:
    """A picture, or what converts itself to one, as an array; None: it is none."""
    if _is_array(picture):
        return picture
    return np.asarray(picture) if hasattr(picture, "__array__") else None


def _is_array(picture: Any) -> bool:
    return isinstance(picture, np.ndarray)


def _named(picture: Any) -> str:
    if _is_array(picture):
        return f"{picture.dtype} {picture.shape}"
    return "None" if picture is None else f"a {type(picture).__name__}"


def _keys(observation: Any, home: str = "") -> str:
    """The keys of an observation, those of inner dictionaries too."""
    if not isinstance(observation, dict):
        return "no keys"
    inner = (
        _keys(part, f"{home}{key}.") if isinstance(part, dict) else f"{home}{key}"
        for key, part in observation.items()
    )
    return ", ".join(inner)


def _cure(picture: Any, rendered: bool) -> str:
    if isinstance(picture, dict):
        return f"name its key in env.screen ({_keys(picture)})"
    if rendered and not _is_array(picture):
        return (
            "make render() return an array with render_mode rgb_array, or name the key of a "
            "picture in env.screen"
        )
    if not _is_array(picture):
        return "return an array, or name the key of a picture in env.screen"
    return "make such a picture in a wrapper (env.wrappers)"


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
