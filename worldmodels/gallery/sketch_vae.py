"""Sketch-RNN: a variational autoencoder of drawings, with M as the decoder.

Source: Ha & Eck 2017, "A Neural Representation of Sketch Drawings".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodels.errors import InputError
from worldmodels.figure import new_figure, save_figure
from worldmodels.gallery.drawings import (
    Batch,
    Drawing,
    Drawings,
    batch_of,
    dequantised,
    read_drawings,
    training_batch,
)
from worldmodels.gallery.pen import Pen, paint
from worldmodels.gallery.system import Numbers, System, falling
from worldmodels.models.mdnrnn import State
from worldmodels.models.mixture import Temperature
from worldmodels.models.vae import kl_divergence
from worldmodels.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, Range
from worldmodels.run import Metrics
from worldmodels.seeding import torch_generator
from worldmodels.stages.fit import FitConfig

TEMPERATURES = (0.1, 0.3, 0.5, 0.8, 1.0)
DRAWN, STEPS = 7, 9
"""Validation drawings in the figure, and drawings in an interpolation."""
ACTIVE = 0.01
"""Nats above which a latent is active."""
FLOOR = 0.05
"""KL a latent, in nats, below which it costs nothing. Differs: the paper's 0.2 is more than any
weight reaches in so few batches."""
FIRST_SHARE, RATE = 0.01, 0.998
"""The KL's share of its weight at the start, and the factor by which each batch shrinks the rest.
Differs: the paper's factor, 0.9999, is for many more batches."""
WHERE = (
    "sketch_vae needs --data: an npz of drawings, e.g. omniglot or aaron_sheep of "
    "https://github.com/hardmaru/sketch-rnn-datasets, or an npz or ndjson of Quick, Draw! "
    "(https://quickdraw.withgoogle.com/data)"
)


@dataclass(frozen=True, kw_only=True)
class Sketches(System):
    """A variational autoencoder of drawings."""

    free = frozenset({"temperature"})

    data: str | None = None
    """npz or ndjson of drawings; required."""
    max_points: Annotated[int, Range(2.0)] = 100
    """Longer drawings are left out."""
    epsilon: NonNegativeFloat = 0.0
    """Strokes are simplified to within this distance, in the file's units."""
    grid: NonNegativeFloat = 1.0
    """Width of the grid on which the file's points lie, in its units; noise fills the cells."""
    latent_size: PositiveInt = 64
    """Size of z; the paper: 128."""
    encoder_size: PositiveInt = 128
    """Units of the encoder's LSTM, in each direction; the paper: 256."""
    hidden_size: PositiveInt = 256
    """Units of the decoder; the paper: 512. Differs: its LSTM is layer-normalised or hyper."""
    num_mixtures: PositiveInt = 20
    """Normals in the mixture."""
    weights: tuple[PositiveFloat, ...] = (1.0, 0.5, 0.25)
    """Weights of the KL, the paper's; a model is trained for each, and the last one is drawn."""
    train: FitConfig = falling(steps=1500, batch_size=100, learning_rate=2e-3, gradient_clip=1.0)
    temperature: PositiveFloat = 0.3
    """Of reconstructions and interpolations."""

    def __post_init__(self) -> None:
        if not self.weights:
            raise InputError("weights is empty: name at least one")

    def show(self, metrics: Metrics) -> Numbers:
        """Reconstruction and KL by weight, beside the decoder alone; and the figure."""
        if self.data is None:
            raise InputError(WHERE)
        data = read_drawings(Path(self.data), self.max_points, self.epsilon)
        if len(data.valid) < DRAWN:
            raise InputError(f"{self.data} has fewer than {DRAWN} validation drawings: use another")
        alone = self.decoder(metrics, data)
        cells = self.grid / data.scale, torch_generator(self.seed, "held-out grid")
        held_out = dequantised(batch_of(data.valid[:1000]), *cells)
        with torch.inference_mode():
            decoder_only = torch.stack(alone.losses(held_out)).sum().item()
        models = {f"{weight:g}": self.model(metrics, data, weight) for weight in self.weights}
        _draw(metrics, self, data, models[f"{self.weights[-1]:g}"])
        return {
            "drawings": len(data.train),
            "scale": data.scale,
            "decoder_only": decoder_only,
            "by_weight": {k: measured(model, held_out, self.seed) for k, model in models.items()},
        }

    def batch(self, data: Drawings, step: int) -> Batch:
        """The training drawings of a step."""
        batch = training_batch(data.train, self.train.batch_size, self.seed, step)
        return dequantised(batch, self.grid / data.scale, torch_generator(self.seed, "grid", step))

    def model(self, metrics: Metrics, data: Drawings, weight: float) -> SketchVAE:
        """A VAE trained with one weight of the KL.

        The loss is the paper's: nats of offsets and pen, summed over a drawing's points and divided
        by the longest drawing's, and the latents' mean KL. Source: Ha & Eck 2017, section 3.3.
        """

        def loss(model: SketchVAE, step: int) -> Tensor:
            batch, generator = self.batch(data, step), torch_generator(self.seed, "noise", step)
            z, kl = model.sample(batch, generator)
            share = 1 - (1 - FIRST_SHARE) * RATE**step
            cost = kl.mean().clamp(min=FLOOR)
            points = batch.known.sum() / (len(batch.known) * data.longest)
            return points * torch.stack(model.losses(batch, z)).sum() + weight * share * cost

        return self.trained(metrics, partial(SketchVAE, self), loss, f"sketch_vae_{weight:g}")

    def decoder(self, metrics: Metrics, data: Drawings) -> Pen:
        """The decoder without z: it predicts from a drawing's past alone."""

        def loss(pen: Pen, step: int) -> Tensor:
            return torch.stack(pen.losses(self.batch(data, step))).sum()

        make = partial(Pen, self.hidden_size, self.num_mixtures)
        return self.trained(metrics, make, loss, "decoder_only")


class SketchVAE(nn.Module):
    """Encodes drawings to mu and logvar; the decoder is a pen whose condition is z."""

    def __init__(self, config: Sketches) -> None:
        super().__init__()
        Z, H = config.latent_size, config.hidden_size
        self.encoder = nn.LSTM(5, config.encoder_size, batch_first=True, bidirectional=True)
        self.posterior = nn.Linear(2 * config.encoder_size, 2 * Z)
        self.first = nn.Linear(Z, 2 * H)
        self.pen = Pen(H, config.num_mixtures, Z)

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """mu and logvar of drawings."""
        packed = batch.packed(nn.functional.one_hot(batch.pens, 3).float())
        _, (h, _) = self.encoder(packed)
        mu, logvar = self.posterior(torch.cat([h[0], h[1]], -1)).chunk(2, -1)
        return mu, logvar

    def sample(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B Z"], Float[Tensor, " Z"]]:
        """A sample of each posterior, and each latent's KL in nats, its mean over the batch."""
        mu, logvar = self.encode(batch)
        noise = torch.randn(mu.shape, generator=generator)
        return mu + torch.exp(logvar / 2) * noise, kl_divergence(mu, logvar).mean(0)

    def state(self, z: Float[Tensor, "B Z"]) -> State:
        """The decoder's first h and c."""
        h, c = torch.tanh(self.first(z)).chunk(2, -1)
        return h, c

    def losses(self, batch: Batch, z: Float[Tensor, "B Z"]) -> tuple[Tensor, Tensor]:
        """Nats a point of the offsets and of the pen, given z."""
        return self.pen.losses(batch, z, self.state(z))


def slerp(
    a: Float[Tensor, " Z"], b: Float[Tensor, " Z"], share: Float[Tensor, " N"]
) -> Float[Tensor, "N Z"]:
    """Points on the great circle from a to b. Source: White 2016."""
    angle = torch.arccos(((a @ b) / (a.norm() * b.norm())).clamp(-0.9999, 0.9999))
    t = share[:, None]
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


@torch.inference_mode()
def measured(model: SketchVAE, batch: Batch, seed: int) -> dict[str, float]:
    """Nats a point given a sample of the posterior, given another drawing's, and the KL."""
    z, kl = model.sample(batch, torch_generator(seed, "measure"))
    own, other = (torch.stack(model.losses(batch, codes)).sum() for codes in (z, z.roll(1, 0)))
    return {
        "reconstruction": own.item(),
        "anothers_latent": other.item(),
        "kl": kl.sum().item(),
        "active_latents": int((kl > ACTIVE).sum()),
    }


@torch.inference_mode()
def _draw(metrics: Metrics, config: Sketches, data: Drawings, model: SketchVAE) -> None:
    figure = new_figure(11, 6)
    left, right = figure.subplots(1, 2, width_ratios=[4, 9])
    real, most = data.valid[:DRAWN], 2 * data.longest
    mu, _ = model.encode(batch_of(real))

    def draw(z: Float[Tensor, "N Z"], tau: float, number: int = 0) -> list[Drawing]:
        how = Temperature.of(tau), torch_generator(config.seed + number, "draw"), data.still
        return model.pen.draw(len(z), most, *how, z, model.state(z))

    paint(left, real, 1)
    for number in range(3):
        drawings = draw(mu, config.temperature, number)
        paint(left, drawings, 1, (number + 1, 0), "tab:purple")
    left.set_title("real, and reconstructed", fontsize="small")
    for row in range(3):
        between = slerp(mu[2 * row], mu[2 * row + 1], torch.linspace(0, 1, STEPS))
        paint(right, draw(between, config.temperature), STEPS, (0, -row), "tab:purple")
    for place, tau in enumerate(TEMPERATURES):
        twice = draw(mu[6:].expand(2, -1), tau)
        paint(right, twice, 1, (2 * place, -4), "tab:purple")
    temperatures = ", ".join(f"{tau:g}" for tau in TEMPERATURES)
    right.set_title(
        f"interpolations; below: one drawing at temperatures {temperatures}", fontsize="small"
    )
    save_figure(figure, metrics.run.folder / "sketch_vae.png", dpi=80)
