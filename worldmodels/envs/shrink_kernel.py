"""The loop behind `shrink`, compiled by Numba."""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def average(picture, rows, row_shares, columns, column_shares, small):
    """Fills `small`: rows first, which are contiguous, then columns, in float32 as in OpenCV.

    Args:
        picture: uint8 (height, width, 3), contiguous.
        rows: which rows each row of `small` averages (taps, size).
        row_shares: their weights.
        columns: the same for the numbers of a line, 3 a pixel (taps, 3 size).
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
