"""The variational autoencoder of drawings: a bidirectional LSTM encodes, a pen decodes.

Source: Ha & Eck 2017, "A Neural Representation of Sketch Drawings".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from worldmodels.gallery.drawings import Batch, Drawing
from worldmodels.gallery.pen import Pen
from worldmodels.models.mdnrnn import State
from worldmodels.models.mixture import Temperature
from worldmodels.ranges import ClosedUnitInterval, PositiveInt
from worldmodels.seeding import torch_generator


@dataclass(frozen=True, kw_only=True)
class SketchModelConfig:
    """Encoder and decoder."""

    latent_size: PositiveInt = 64
    """Size of z; the paper: 128."""
    encoder_size: PositiveInt = 128
    """Units of the encoder's LSTM, in each direction; the paper: 256."""
    hidden_size: PositiveInt = 256
    """Units of the decoder; the paper: 512. Differs: its LSTM is layer-normalised or hyper."""
    num_mixtures: PositiveInt = 20
    """Normals in the mixture."""
    dropout: ClosedUnitInterval = 0.1
    """Of the decoder's h, in training; the paper: recurrent dropout inside the cell."""


class SketchVAE(nn.Module):
    """Encodes drawings to mu and logvar; the decoder is a pen whose condition is z."""

    def __init__(self, config: SketchModelConfig) -> None:
        super().__init__()
        Z, H = config.latent_size, config.hidden_size
        self.encoder = nn.LSTM(5, config.encoder_size, batch_first=True, bidirectional=True)
        self.posterior = nn.Linear(2 * config.encoder_size, 2 * Z)
        self.first = nn.Linear(Z, 2 * H)
        self.pen = Pen(H, config.num_mixtures, Z, config.dropout)

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """mu and logvar of drawings."""
        pens = torch.nn.functional.one_hot(batch.pens[:, 1:], 3).float()
        points = torch.cat([batch.offsets[:, 1:], pens], -1)
        lengths = batch.known.sum(1)
        packed = pack_padded_sequence(points, lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.encoder(packed)
        mu, logvar = self.posterior(torch.cat([h[0], h[1]], -1)).chunk(2, -1)
        return mu, logvar

    def state(self, z: Float[Tensor, "B Z"]) -> State:
        """The decoder's first h and c."""
        h, c = torch.tanh(self.first(z)).chunk(2, -1)
        return h, c

    def losses(self, batch: Batch, z: Float[Tensor, "B Z"]) -> tuple[Tensor, Tensor]:
        """Nats a point of the offsets and of the pen, given z."""
        return self.pen.losses(batch, z, self.state(z))

    def draw(
        self, z: Float[Tensor, "B Z"], most: int, temperature: Temperature, seed: int, still: bool
    ) -> list[Drawing]:
        """A drawing of each z."""
        generator = torch_generator(seed, "draw")
        return self.pen.draw(len(z), most, temperature, generator, still, z, self.state(z))


def kl(mu: Float[Tensor, "B Z"], logvar: Float[Tensor, "B Z"]) -> Float[Tensor, " Z"]:
    """Nats of each latent, mean over the batch. Source: Ha & Eck 2017, eq. 10."""
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).mean(0)


def slerp(
    a: Float[Tensor, " Z"], b: Float[Tensor, " Z"], share: Float[Tensor, " N"]
) -> Float[Tensor, "N Z"]:
    """Points on the great circle from a to b. Source: White 2016."""
    angle = torch.arccos(((a @ b) / (a.norm() * b.norm())).clamp(-0.9999, 0.9999))
    t = share[:, None]
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
