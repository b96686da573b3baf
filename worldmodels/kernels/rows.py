"""The rows and steps of a padded batch that exist: nothing is computed for padding."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.autograd.function import once_differentiable


def present(values: Tensor, mask: Bool[Tensor, "*batch"]) -> Tensor:
    """`values[mask]`: rows (N, D) of values (*batch, D), with a faster gradient.

    It trusts that the mask has the shape `*batch`.
    """
    return _Present.apply(values, mask)  # type: ignore[no-untyped-call]


class _Present(torch.autograd.Function):
    """No row is taken twice, so the gradient is copied instead of summed."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return values[mask]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        whole = slope.new_zeros(*mask.shape, slope.shape[-1])
        whole[mask] = slope
        return whole, None


def active_rows(valid: Bool[Tensor, "B T"]) -> list[int]:
    """For each step the number of first rows that hold all its valid ones.

    They are fewest where the longest rows come first.
    """
    if len(valid) == 0:
        return [0] * valid.shape[1]
    places = torch.arange(1, len(valid) + 1, device=valid.device)
    return (valid * places[:, None]).amax(0).tolist()
