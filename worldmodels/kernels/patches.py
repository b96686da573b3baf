"""Convolutions of stride two as products of patches, with their gradients.

For bfloat16 operands: oneDNN's gradients of bfloat16 convolutions take up to a second per batch on
some CPUs. Images are channels-last, so a row of a patch is contiguous in memory. Sizes are trusted:
an image must be at least as large as the kernel, and a weight must have the shape that its
docstring names.

    unfold: images -> patches, a copy      fold: patches -> images, the overlapping sum
    convolution: W unfold(x)               its transpose: fold(W x); each is the other's gradient
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from worldmodels.kernels.fastmath import kernel as compiled
from worldmodels.kernels.fastmath import narrowed, on_threads, widened

STRIDE = 2
PATCH_NUMBERS = 2**23
"""Numbers of the patches that are in memory at once: those of a few images stay in the caches."""


def unfold(images: Float[Tensor, "B S S C"], kernel: int) -> Float[Tensor, "rows patch"]:
    """The patches of all places as rows: (B places places, kernel kernel C)."""
    batch, size, _, channels = images.shape
    places, line = (size - kernel) // STRIDE + 1, size * channels
    view = images.as_strided(
        (batch, places, places, kernel, kernel * channels),
        (size * line, STRIDE * line, STRIDE * channels, line, 1),
        images.storage_offset(),
    )
    return view.reshape(-1, kernel * kernel * channels)


def fold(
    patches: Float[Tensor, "rows patch"],
    bias: Float[Tensor, " C"],
    images: Float[Tensor, "B S S C"],
    relu: bool = False,
) -> None:
    """Writes bias + the sum of the overlapping patches, or its relu, into `images`."""
    batch, size, _, channels = images.shape
    kernel = round((patches.shape[1] / channels) ** 0.5)
    places = (size - kernel) // STRIDE + 1
    covered = STRIDE * (places - 1) + kernel
    if covered < size:  # no patch reaches the last line
        inner = images.new_empty(batch, covered, covered, channels)
        fold(patches, bias, inner, relu)
        rest = size - covered
        images.copy_(functional.pad(inner, (0, 0, 0, rest, 0, rest)))
        return
    lowest = 0.0 if relu else float("-inf")
    add, start, side = folding(channels, kernel), bias.numpy(), np.uint64(places)
    rows, sums = bits(patches.view(batch, -1)), bits(images.view(batch, -1))
    on_threads(batch, lambda part: add(rows[part], start, lowest, side, sums[part]))


class Convolution(torch.autograd.Function):
    """relu(W unfold(x) + b); x and the weight, (outputs, kernel kernel C), of one type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        kernel = round((weight.shape[1] / x.shape[3]) ** 0.5)
        places = (x.shape[1] - kernel) // STRIDE + 1
        y = x.new_empty(len(x), places, places, len(weight))
        for here in _parts(len(x), places * places * weight.shape[1]):
            rows = unfold(x[here], kernel)
            torch.addmm(bias.to(x.dtype), rows, weight.T, out=y[here].view(-1, len(weight)))
        ctx.save_for_backward(x, weight, y.relu_())
        ctx.kernel = kernel
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:  # type: ignore[override]
        x, weight, y = ctx.saved_tensors
        slope = torch.ops.aten.threshold_backward(slope.contiguous(), y, 0)
        to_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros(weight.shape)
        for here in _parts(len(x), slope[0, :, :, 0].numel() * weight.shape[1]):
            rows = slope[here].view(-1, len(weight))
            to_weight += rows.T @ unfold(x[here], ctx.kernel)
            if to_x is not None:
                fold(rows @ weight, torch.zeros(x.shape[3]), to_x[here])
        return to_x, to_weight.to(weight.dtype), _over_places(slope)


class TransposedConvolution(torch.autograd.Function):
    """fold(W x) + b, or its relu; x and the weight, (inputs, kernel kernel C), of one type."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, relu: bool, dtype: torch.dtype
    ) -> Tensor:
        batch, places, _, inputs = x.shape
        ctx.kernel = round((weight.shape[1] / len(bias)) ** 0.5)
        size = STRIDE * (places - 1) + ctx.kernel
        y = torch.empty(batch, size, size, len(bias), dtype=dtype)
        for here in _parts(batch, places * places * weight.shape[1]):
            fold(x[here].reshape(-1, inputs) @ weight, bias.detach(), y[here], relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        x, weight, y = ctx.saved_tensors
        slope = slope.contiguous()
        if y is not None:
            slope = torch.ops.aten.threshold_backward(slope, y, 0)
        slope = slope.to(x.dtype)
        to_x, to_weight = torch.empty_like(x), torch.zeros(weight.shape)
        for here in _parts(len(x), x[0, :, :, 0].numel() * weight.shape[1]):
            rows, inputs = unfold(slope[here], ctx.kernel), x[here].reshape(-1, len(weight))
            to_weight += inputs.T @ rows
            torch.mm(rows, weight.T, out=to_x[here].view(-1, len(weight)))
        return to_x, to_weight.to(weight.dtype), _over_places(slope), None, None


def _over_places(slope: Float[Tensor, "B S S C"]) -> Float[Tensor, " C"]:
    """The gradient of a bias: the sum over all places."""
    return slope.sum(dim=(0, 1, 2), dtype=torch.float32)


def _parts(batch: int, numbers: int) -> list[slice]:
    """Slices of a batch, for images with so many numbers in their patches."""
    step = max(1, PATCH_NUMBERS // numbers)
    return [slice(first, first + step) for first in range(0, batch, step)]


def bits(tensor: Tensor) -> np.ndarray:
    """A NumPy view of a tensor; bfloat16 as 16-bit integers."""
    same = tensor.detach()
    return (same.view(torch.uint16) if same.dtype == torch.bfloat16 else same).numpy()


@functools.lru_cache
def folding(channels: int, kernel: int) -> Callable[..., Any]:
    """The kernel of `fold` for patches of kernel x kernel pixels.

    Sizes are unsigned, for of a signed index Numba asks whether it counts from the end.
    """
    C, K, S, ROW = (np.uint64(n) for n in (channels, kernel, STRIDE, kernel * channels))

    @compiled
    @no_type_check
    def fold(patches, bias, lowest, places, images):
        """images = max(sum of places x places patches + bias, lowest); an image is a row."""
        size = np.uint64(images.shape[1])
        line = (S * places + K - S) * C
        total = np.empty(size, np.float32)
        for image in range(images.shape[0]):
            for pixel in range(size // C):
                for channel in range(C):
                    total[pixel * C + channel] = bias[channel]
            source = np.uint64(0)
            for y in range(places):
                for x in range(places):
                    target = S * (y * line + x * C)
                    for _ in range(K):
                        for i in range(ROW):
                            total[target + i] += widened(patches[image, source + i])
                        source += ROW
                        target += line
            for i in range(size):
                images[image, i] = narrowed(np.float32(max(total[i], lowest)), images)

    return fold
