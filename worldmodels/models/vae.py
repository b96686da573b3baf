"""V: the variational autoencoder that turns a frame into z.

Source: Ha & Schmidhuber 2018, A.1 and its released code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from worldmodels.errors import InputError
from worldmodels.kernels.vae import Reconstruction, encoded, reconstruct
from worldmodels.precision import product_dtype, products
from worldmodels.ranges import PositiveInt


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """V's sizes. Defaults: the paper's CarRacing, 4,348,547 parameters."""

    latent_size: PositiveInt = 32
    """Numbers in z: 32 for CarRacing, 64 for Doom."""
    width: PositiveInt = 32
    """Channels of the first convolution; the others are 2, 4 and 8 times as wide."""
    first_weights: Literal["torch", "he"] = "torch"
    """Initial weights: `torch`, PyTorch's own; or `he`, which keep the size of signals. PyTorch's
    shrink them more than 20-fold through the decoder, and small details are learned later."""


class FirstTransposed(nn.ConvTranspose2d):
    """The decoder's first layer, as one matrix product if its input is a single pixel.

    oneDNN's transposed convolution takes several times as long there (AVX2, float32).
    """

    bias: Tensor

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if x.shape[2:] != (1, 1):
            return super().forward(x, output_size)
        pixels = x.flatten(1) @ self.weight.flatten(1).to(x.dtype)
        return pixels.view(-1, *self.weight.shape[1:]) + self.bias.to(pixels.dtype)[:, None, None]


class VAE(nn.Module):
    """Encoder and decoder of frames of size x size pixels: 64, or 96 or 128.

    Larger frames pass the same layers. The encoder's last one has (size / 16 - 2)² pixels, and the
    decoder begins with (size / 16 - 3)² of them: 2x2 and 1x1 at the paper's 64.
    """

    def __init__(self, config: VAEConfig, size: int = 64) -> None:
        super().__init__()
        self.config, self.size = config, size
        w, side = config.width, size // 16 - 3
        channels, features = 32 * w, 8 * w * (side + 1) ** 2
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, w, 4, 2), nn.ReLU()),
            *(nn.Conv2d(w, 2 * w, 4, 2), nn.ReLU()),
            *(nn.Conv2d(2 * w, 4 * w, 4, 2), nn.ReLU()),
            *(nn.Conv2d(4 * w, 8 * w, 4, 2), nn.ReLU(), nn.Flatten()),
        )
        self.posterior = nn.Linear(features, 2 * config.latent_size)
        self.decoder_input = nn.Linear(config.latent_size, channels * side**2)
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (channels, side, side)),
            *(FirstTransposed(channels, 4 * w, 5, 2), nn.ReLU()),
            *(nn.ConvTranspose2d(4 * w, 2 * w, 5, 2), nn.ReLU()),
            *(nn.ConvTranspose2d(2 * w, w, 6, 2), nn.ReLU()),
            *(nn.ConvTranspose2d(w, 3, 6, 2), nn.Sigmoid()),
        )
        if config.first_weights == "he":
            _initialise_he(self)

    def forward(
        self, frames: UInt8[Tensor, "B S S 3"], noise: Float[Tensor, "B Z"]
    ) -> Reconstruction:
        """Reconstructs frames from z = mu + exp(logvar / 2) noise.

        The products have operands of `precision.product_dtype`.

        Returns:
            images: the frames as numbers in [0, 1].
            reconstruction: the images that are decoded from z, in the same order in memory.
            mu: of the posterior.
            logvar: of the posterior.

        Raises:
            InputError: the shape or the dtype of the frames or of the noise does not fit.
        """
        _check_frames(frames, self.size)
        if noise.shape != (len(frames), self.config.latent_size):
            wanted = len(frames), self.config.latent_size
            raise InputError(f"noise has shape {tuple(noise.shape)}: it must be {wanted}")
        if frames.device.type == "cpu" and product_dtype() == torch.bfloat16:
            return reconstruct(self, frames, noise)
        return self.plain(frames, noise)

    def plain(
        self, frames: UInt8[Tensor, "B S S 3"], noise: Float[Tensor, "B Z"]
    ) -> Reconstruction:
        """`forward` in PyTorch's own operations; for a GPU, and for float32, where it is faster."""
        images = images_of(frames)
        mu, logvar = self._posterior(images)
        first = self.decoder_input(mu + torch.exp(0.5 * logvar) * noise)
        with products(frames.device):
            pixels = self.decoder[:-1](first)
        return images, self.decoder[-1](pixels.float()), mu, logvar

    def _posterior(
        self, images: Float[Tensor, "B 3 S S"]
    ) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        with products(images.device):
            features = self.encoder(images)
        mu, logvar = self.posterior(features.float()).chunk(2, dim=-1)
        return mu, logvar

    @torch.no_grad()
    def encode(
        self, frames: UInt8[Tensor, "B S S 3"]
    ) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """mu and logvar of the posterior of frames, without a gradient.

        The products have operands of `precision.product_dtype`.

        Raises:
            InputError: the shape or the dtype of the frames does not fit.
        """
        _check_frames(frames, self.size)
        if frames.device.type != "cpu":
            return self._posterior(images_of(frames))
        mu, logvar = self.posterior(encoded(self.encoder, frames)).chunk(2, dim=-1)
        return mu, logvar

    def decode(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B 3 S S"]:
        """The images of z, numbers in (0, 1)."""
        return self.decoder(self.decoder_input(z))


def _check_frames(frames: Tensor, size: int) -> None:
    if frames.dtype != torch.uint8 or frames.shape[1:] != (size, size, 3):
        raise InputError(
            f"frames are {frames.dtype} of shape {tuple(frames.shape)}: they must be torch.uint8 "
            f"of shape (B, {size}, {size}, 3)"
        )


@torch.no_grad()
def _initialise_he(vae: VAE) -> None:
    """Sets weights of variance gain / inputs, with gain 2 before a ReLU, and biases of 0.

    An output of a transposed convolution is a sum over inputs x (kernel / stride)² numbers; in the
    first one, whose input has few pixels, over fewer: one for each input if it is a single pixel.
    Source: He et al. 2015, eq. 10.
    """
    for layer in vae.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            inputs, gain = float(layer.weight[0].numel()), 2.0
            if isinstance(layer, nn.ConvTranspose2d):
                pixels = layer.kernel_size[0] / layer.stride[0]
                if layer is vae.decoder[1]:
                    side = vae.size // 16 - 3
                    pixels = layer.kernel_size[0] * side / (2 * side + 3)
                inputs = layer.in_channels * pixels**2
            if isinstance(layer, nn.Linear) or layer is vae.decoder[-2]:
                gain = 1.0
            layer.weight.normal_(0.0, math.sqrt(gain / inputs))
            if layer.bias is not None:
                layer.bias.zero_()


def images_of(frames: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B 3 S S"]:
    """Converts frames, uint8, to images, numbers in [0, 1].

    Trap: without `contiguous` the result is channels-last, with which V is slower on some CPUs.
    """
    return frames.permute(0, 3, 1, 2).contiguous().float().div_(255)


def frames_of(images: Float[Tensor, "B 3 S S"]) -> UInt8[Tensor, "B S S 3"]:
    """Converts images to frames, rounded and clamped."""
    scaled = images.mul(255).round_().clamp_(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def kl_divergence(mu: Float[Tensor, "B Z"], logvar: Float[Tensor, "B Z"]) -> Float[Tensor, "B Z"]:
    """KL(N(mu, exp logvar) || N(0, 1)) in nats, per latent.

    -1/2 (1 + logvar - mu² - exp logvar). Source: Kingma & Welling 2014, appendix B.
    """
    return -0.5 * (1 + logvar - mu.square() - logvar.exp())


def vae_loss(
    images: Float[Tensor, "B 3 S S"],
    reconstruction: Float[Tensor, "B 3 S S"],
    mu: Float[Tensor, "B Z"],
    logvar: Float[Tensor, "B Z"],
    free_nats: float,
    weights: Float[Tensor, "B 1 S S"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """Sum of squares per image + max(KL, free_nats Z) per image, both averaged over the batch.

    Pixels count by their `weights` in the loss, and evenly in the part that is reported.
    Source: the paper's released code (free_nats = 0.5, floor taken image by image).
    """
    squares = (images - reconstruction).square()
    error = squares.sum() / len(images)
    weighted = error if weights is None else (weights * squares).sum() / len(images)
    kl = kl_divergence(mu, logvar).sum(dim=1)
    loss = weighted + kl.clamp(min=free_nats * mu.shape[1]).mean()
    return loss, {"reconstruction": error, "kl": kl.mean()}


def moving(
    frames: UInt8[Tensor, "B S S 3"], medians: UInt8[Tensor, "B S S 3"]
) -> Bool[Tensor, "B S S"]:
    """Pixels of which a channel is more than 0.12 off the median image of the episode."""
    return (torch.maximum(frames, medians) - torch.minimum(frames, medians)).amax(-1) > 0.12 * 255
