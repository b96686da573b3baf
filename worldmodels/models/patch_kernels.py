"""The overlapping sum of patches, compiled by Numba: it reads each number once.

Arrays of 16-bit integers hold bfloat16. Sizes are constants of the compiled code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
import torch
from numba import prange
from torch import Tensor

from worldmodels.fastmath import narrowed, parallel_kernel, widened


def bits(tensor: Tensor) -> np.ndarray:
    """An array of the same memory, bfloat16 as 16-bit integers."""
    same = tensor.detach()
    return (same.view(torch.uint16) if same.dtype == torch.bfloat16 else same).numpy()


@functools.lru_cache
def folding(size: int, channels: int, kernel: int) -> Callable[..., Any]:
    """The sum for size x size patches of kernel x kernel pixels, two pixels apart."""
    out_size, run = 2 * size + kernel - 2, kernel * channels
    line = out_size * channels

    @parallel_kernel
    @no_type_check
    def fold(patches, bias, lowest, images):
        """images = max(sum of the patches + bias, lowest); an image is a row."""
        for image in prange(images.shape[0]):
            total = np.empty(out_size * line, np.float32)
            for pixel in range(out_size * out_size):
                for channel in range(channels):
                    total[pixel * channels + channel] = bias[channel]
            for place in range(size * size):
                corner = place // size * 2 * line + place % size * 2 * channels
                for row in range(kernel):
                    target, source = corner + row * line, (place * kernel + row) * run
                    for i in range(run):
                        total[target + i] += widened(patches[image, source + i])
            for i in range(out_size * line):
                images[image, i] = narrowed(np.float32(max(total[i], lowest)), images)

    return fold
