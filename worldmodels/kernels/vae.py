"""V's pass for training with products in bfloat16; weights, z, sigmoid and loss are float32."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import BFloat16, Float, UInt8
from torch import Tensor, nn

from worldmodels.kernels.patches import Convolution, TransposedConvolution


def channels_last(frames: UInt8[Tensor, "B 64 64 3"]) -> Float[Tensor, "B 3 64 64"]:
    """`images_of(frames)` with the channels where they are in memory."""
    return frames.permute(0, 3, 1, 2).float().div_(255)


def reconstruct(
    vae: Any, images: Float[Tensor, "B 3 64 64"], noise: Float[Tensor, "B Z"]
) -> tuple[Float[Tensor, "B 3 64 64"], Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
    """`vae(images, noise)`; images and reconstruction are channels-last in memory."""
    mu, logvar = vae.posterior(_encode(vae.encoder, images)).chunk(2, dim=-1)
    z = mu + torch.exp(0.5 * logvar) * noise
    return _decode(vae.decoder, vae.decoder_input(z)), mu, logvar


def _encode(encoder: nn.Sequential, images: Tensor) -> Tensor:
    x = images.permute(0, 2, 3, 1).to(torch.bfloat16).contiguous()
    for part in encoder:
        if isinstance(part, nn.Conv2d):
            x = Convolution.apply(x, _matrix(part.weight), part.bias)  # type: ignore[no-untyped-call]
    return x.permute(0, 3, 1, 2).flatten(1).float()


def _decode(decoder: nn.Sequential, features: Tensor) -> Tensor:
    first, *middle, last = (part for part in decoder if isinstance(part, nn.ConvTranspose2d))
    x = _first(first, features.bfloat16())
    for part in middle:
        x = TransposedConvolution.apply(x, _matrix(part.weight), part.bias, True, torch.bfloat16)  # type: ignore[no-untyped-call]
    x = TransposedConvolution.apply(x, _matrix(last.weight), last.bias, False, torch.float32)  # type: ignore[no-untyped-call]
    return torch.sigmoid(x).permute(0, 3, 1, 2)


def _first(
    layer: nn.ConvTranspose2d, features: BFloat16[Tensor, "B F"]
) -> BFloat16[Tensor, "B S S C"]:
    """A transposed convolution of one pixel is a product; its weight stays in its own order."""
    channels, size = layer.weight.shape[1:3]
    pixels = features @ layer.weight.flatten(1).bfloat16()
    pixels = pixels.view(-1, channels, size * size).transpose(1, 2)
    if layer.bias is not None:
        pixels = pixels + layer.bias.bfloat16()
    return torch.relu(pixels).contiguous().view(-1, size, size, channels)


def _matrix(weight: Float[Tensor, "N C K K"]) -> BFloat16[Tensor, "N KKC"]:
    """In the order of channels-last patches."""
    return weight.permute(0, 2, 3, 1).flatten(1).bfloat16()
