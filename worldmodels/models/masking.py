"""Means over the places of a batch that a mask marks as known.

What lies elsewhere may be anything, NaN included, and neither the loss nor its gradient sees it.
For this a target is masked before a loss is computed from it: the gradient of NaN times 0 is NaN.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked(values: Float[Tensor, "..."], mask: Bool[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The values, 0 where the mask is false.

    Args:
        values: of the mask's shape, or with further axes behind it.
        mask: where a value is known.

    Raises:
        ValueError: the mask is not boolean, or its shape is not the first axes of the values'.
    """
    check_mask(mask, values.shape[: mask.ndim])
    return torch.where(mask.reshape(*mask.shape, *[1] * (values.ndim - mask.ndim)), values, 0.0)


def masked_mean(values: Float[Tensor, "*batch"], mask: Bool[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """The mean of the values where the mask is true; 0 if it is true nowhere.

    Raises:
        ValueError: the mask is not boolean, or its shape is not that of the values.
    """
    check_mask(mask, values.shape)
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def check_mask(mask: Tensor, shape: torch.Size) -> None:
    """Checks that a mask is boolean and of a shape.

    Raises:
        ValueError: names what came and what is expected.
    """
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}: it must be torch.bool of shape "
            f"{tuple(shape)}"
        )
