"""V on a CPU: one pass for training with bfloat16 operands, one for encoding frames.

Operands of products are of `precision.product_dtype`; weights, z, the sigmoid and all sums are
float32. The functions trust the shapes of what they get; `VAE` checks them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from worldmodels.kernels.patches import Convolution, TransposedConvolution
from worldmodels.precision import product_dtype

Layer = Callable[[Tensor], Tensor]
Reconstruction = tuple[
    Float[Tensor, "B 3 S S"],
    Float[Tensor, "B 3 S S"],
    Float[Tensor, "B Z"],
    Float[Tensor, "B Z"],
]
"""Images, their reconstruction, mu and logvar."""


def reconstruct(
    vae: Any, frames: UInt8[Tensor, "B S S 3"], noise: Float[Tensor, "B Z"]
) -> Reconstruction:
    """`vae(frames, noise)`, differentiable in V's weights.

    Images and reconstruction are channels-last in memory, as the convolutions here want them.
    """
    images = frames.permute(0, 3, 1, 2).float().div_(255)
    dtype = product_dtype()
    mu, logvar = vae.posterior(_convolved(vae.encoder, images.to(dtype))).chunk(2, dim=-1)
    z = mu + torch.exp(0.5 * logvar) * noise
    return images, _decoded(vae.decoder, vae.decoder_input(z).to(dtype)), mu, logvar


def _convolved(encoder: nn.Sequential, images: Tensor) -> Tensor:
    x = images.permute(0, 2, 3, 1).contiguous()
    for part in encoder:
        if isinstance(part, nn.Conv2d):
            x = Convolution.apply(x, _matrix(part.weight, x.dtype), part.bias)  # type: ignore[no-untyped-call]
    return x.permute(0, 3, 1, 2).flatten(1).float()


def _decoded(decoder: nn.Sequential, features: Tensor) -> Tensor:
    first, *middle, last = (part for part in decoder if isinstance(part, nn.ConvTranspose2d))
    x = decoder[0](features)
    if x.shape[2:] == (1, 1):
        x = torch.relu(first(x))
    else:
        middle = [first, *middle]
    x = x.permute(0, 2, 3, 1).contiguous()
    for part in middle:
        x = TransposedConvolution.apply(x, _matrix(part.weight, x.dtype), part.bias, True, x.dtype)  # type: ignore[no-untyped-call]
    x = TransposedConvolution.apply(
        x, _matrix(last.weight, x.dtype), last.bias, False, torch.float32
    )  # type: ignore[no-untyped-call]
    return torch.sigmoid(x).permute(0, 3, 1, 2)


def _matrix(weight: Float[Tensor, "N C K K"], dtype: torch.dtype) -> Float[Tensor, "N KKC"]:
    """The weight in the order of channels-last patches, in another type."""
    return weight.permute(0, 2, 3, 1).flatten(1).to(dtype)


@torch.no_grad()
def encoded(encoder: nn.Sequential, frames: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B F"]:
    """The features of frames, without a gradient: the input of V's last encoding layer.

    oneDNN, where torch has it, computes a convolution together with its relu. The copies of the
    weights that it needs are kept for each encoder, and renewed when its weights have changed.
    """
    state, copies = (product_dtype(), *_state_of(encoder)), _COPIES.get(encoder)
    if copies is None or copies.state != state:
        copies = _COPIES[encoder] = _Copies(state, _layers(encoder))
    x = frames.permute(0, 3, 1, 2).to(product_dtype())  # channels-last in memory
    for layer in copies.layers:
        x = layer(x)
    return x.flatten(1).float()


@dataclass(frozen=True)
class _Copies:
    """An encoder's layers with weights of their own."""

    state: tuple[object, ...]
    """Their type, and the state of the encoder's weights."""
    layers: list[Layer]


_COPIES: WeakKeyDictionary[nn.Sequential, _Copies] = WeakKeyDictionary()

SAMPLED = 16
"""Numbers of each weight that are compared to find out whether a training step changed it."""


def _state_of(encoder: nn.Sequential) -> tuple[object, ...]:
    """What differs once any weight has changed.

    Trap: the version counter, which counts changes in place, is not enough: the fused step of Adam
    does not move it. But it changes all weights, so a few numbers of each tell.
    """
    weights = list(encoder.parameters())
    versions = (0 if w.is_inference() else w._version for w in weights)
    some = torch.cat([weight.detach().flatten()[:SAMPLED] for weight in weights])
    return *versions, some.numpy().tobytes()


def _layers(encoder: nn.Sequential) -> list[Layer]:
    """The convolutions with their relu; the first takes bytes, so its weights hold the 1/255."""
    scale, layers = 1 / 255, list[Layer]()
    for part, after in pairwise(encoder):
        if isinstance(part, nn.Conv2d):
            if not isinstance(after, nn.ReLU):
                raise TypeError("every convolution of V's encoder is followed by a relu")
            layers.append(_layer(part, scale))
            scale = 1.0
    return layers


def _layer(convolution: nn.Conv2d, scale: float) -> Layer:
    dtype = product_dtype()
    weight = (convolution.weight * scale).to(dtype)
    bias = None if convolution.bias is None else convolution.bias.to(dtype)
    shape = list(convolution.stride), [1, 1], 1
    if not _is_fused():
        return lambda x: torch.conv2d(x, weight, bias, convolution.stride).relu_()
    packed = torch.ops.aten.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), [0, 0], *shape)
    fused = torch.ops.mkldnn._convolution_pointwise
    return lambda x: fused(x, packed, bias, [0, 0], *shape, "relu", [], "")


def _is_fused() -> bool:
    """Whether torch has oneDNN's convolution with a function behind it; it does on x86."""
    return hasattr(torch.ops.mkldnn, "_convolution_pointwise")
