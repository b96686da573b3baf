"""Pictures made smaller by area, as OpenCV's INTER_AREA does it, in half of the time or less.

OpenCV is quick where the sizes divide each other; CarRacing's 84x96 to 64x64 isn't such a case.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from jaxtyping import Float32, Shaped, UInt32

try:
    from worldmodels.envs.shrink_kernel import average
except ImportError:  # no Numba for this platform: OpenCV does it
    average = None

Taps = tuple[UInt32[np.ndarray, "taps n"], Float32[np.ndarray, "taps n"]]


def shrink(
    picture: Shaped[np.ndarray, "h w 3"], size: int
) -> Shaped[np.ndarray, "{size} {size} 3"]:
    """A square picture of `size` pixels a side."""
    height, width = picture.shape[:2]
    whole = height % size == width % size == 0
    if average is None or whole or min(height, width) < size or picture.dtype != np.uint8:
        return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    small = np.empty((size, size, 3), np.uint8)
    rows, columns = _taps(height, size, 1), _taps(width, size, 3)
    average(np.ascontiguousarray(picture), *rows, *columns, small)
    return small


@functools.lru_cache(maxsize=16)
def _taps(source: int, size: int, channels: int) -> Taps:
    """For each of `size` pixels the source pixels that it covers, and their shares of it."""
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
