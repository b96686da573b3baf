"""V's encoder for inference: frames to the posterior, in the number type that the machine likes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from worldmodels.models.vae import VAE, images_of
from worldmodels.precision import product_dtype

Layer = Callable[[Tensor], Tensor]


class Encoder:
    """Frames to mu and logvar, as `vae.encode(images_of(frames))` gives them.

    In float32 it is just that. In bfloat16 the convolutions have bfloat16 inputs and weights, and
    oneDNN, where torch has it, does each together with its relu; sums and the last layer are
    float32. The weights are copied: a V that is trained further needs a new encoder.
    """

    def __init__(self, vae: VAE) -> None:
        self.dtype = product_dtype()
        self._vae = vae
        self._layers = [] if self.dtype == torch.float32 else _layers(vae.encoder, self.dtype)

    @torch.inference_mode()
    def __call__(
        self, frames: UInt8[Tensor, "B 64 64 3"]
    ) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        if not self._layers:
            return self._vae.encode(images_of(frames))
        # channels-last, which transposed convolutions alone are slow with
        x = frames.permute(0, 3, 1, 2).to(self.dtype)
        for layer in self._layers:
            x = layer(x)
        mu, logvar = self._vae.posterior(x.flatten(1).float()).chunk(2, dim=-1)
        return mu, logvar


def _layers(encoder: nn.Sequential, dtype: torch.dtype) -> list[Layer]:
    """Convolutions with their relu; the first takes bytes, so 1/255 goes into its weights."""
    scale, layers = 1 / 255, list[Layer]()
    for part, after in pairwise(encoder):
        if isinstance(part, nn.Conv2d):
            if not isinstance(after, nn.ReLU):
                raise TypeError("every convolution of V's encoder is followed by a relu")
            layers.append(_layer(part, scale, dtype))
            scale = 1.0
    return layers


@torch.no_grad()
def _layer(convolution: nn.Conv2d, scale: float, dtype: torch.dtype) -> Layer:
    weight = (convolution.weight * scale).to(dtype)
    bias = None if convolution.bias is None else convolution.bias.to(dtype)
    shape = list(convolution.stride), [1, 1], 1
    if not _is_fused(weight):
        return lambda x: torch.conv2d(x, weight, bias, convolution.stride).relu_()
    packed = torch.ops.aten.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), [0, 0], *shape)
    fused = torch.ops.mkldnn._convolution_pointwise
    return lambda x: fused(x, packed, bias, [0, 0], *shape, "relu", [], "")


def _is_fused(weight: Tensor) -> bool:
    """Whether torch has oneDNN's convolution with a function behind it; it does on x86."""
    return weight.device.type == "cpu" and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
