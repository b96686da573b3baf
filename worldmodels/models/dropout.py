"""Dropout's masks, drawn from a generator at an eighth of the price of as many uniform numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor


def dropout_mask(
    shape: Sequence[int], dropout: float, generator: torch.Generator
) -> tuple[Bool[Tensor, "*shape"], float]:
    """What is kept, a random byte deciding each, and the share that is kept on average.

    Args:
        shape: of the mask.
        dropout: share to leave out, in [0, 1); rounded to a multiple of 1/256 below 1.
        generator: of the bytes.
    """
    bound, count = min(round(256 * dropout), 255), math.prod(shape)
    words = torch.empty(-(-count // 8), dtype=torch.int64)
    drawn = words.random_(-(2**63), None, generator=generator).view(torch.uint8)[:count]
    return drawn.view(*shape) >= bound, 1 - bound / 256
