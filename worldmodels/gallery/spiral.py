"""A joint mixture over two dimensions, with and without correlation; and the inverse problem.

    x = 7 sin(0.75 z) + 0.5 z + ε₁,  y = 6.5 cos(0.8 z) + 0.5 z + ε₂,  z uniform(-10.5, 10.5)

(x, y) given z is one normal, whose correlation a diagonal mixture can only approximate. z given
(x, y) has several branches. Source: the inverse problem of Bishop 1994, section 4, as a spiral.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodels.figure import new_figure, save_figure
from worldmodels.gallery.arcsine import LIMIT, curve, trained
from worldmodels.gallery.system import Numbers, System, falling
from worldmodels.models.mixture import Mixture, MixtureHead, MixtureKind
from worldmodels.ranges import PositiveInt
from worldmodels.run import Metrics
from worldmodels.seeding import torch_generator
from worldmodels.stages.fit import FitConfig

CORRELATION = 0.7
"""Of ε₁ and ε₂ in the second data set."""


@dataclass(frozen=True, kw_only=True)
class Spiral(System):
    """Two correlated dimensions at once, and the inverse problem."""

    points: PositiveInt = 10_000
    """Training points."""
    hidden_size: PositiveInt = 64
    """Units of both layers."""
    num_mixtures: PositiveInt = 5
    """Normals in a mixture."""
    test_points: PositiveInt = 200_000
    """New points, on which everything is measured."""
    train: FitConfig = falling(steps=6000, batch_size=1000, learning_rate=3e-3)

    def show(self, metrics: Metrics) -> Numbers:
        """NLLs for both kinds of noise, and of the inverse with one normal and with many."""
        many = self.num_mixtures
        problems = {
            "independent_joint": Problem("z", 0.0, many),
            "correlated_joint": Problem("z", CORRELATION, many),
            "correlated_correlated": Problem("z", CORRELATION, many, "correlated"),
            "inverse_1": Problem("xy", 0.0, 1),
            f"inverse_{many}": Problem("xy", 0.0, many),
        }
        numbers = {"independent_floor": floor(0.0), "correlated_floor": floor(CORRELATION)}
        models = {}
        for name, problem in problems.items():
            make = partial(problem.network, self.hidden_size)
            data = problem.data(self.points, self.seed, "spiral")
            model = models[name] = trained(self, metrics, make, costs, data, name)
            with torch.inference_mode():
                given, wanted = problem.data(self.test_points, self.seed, "spiral test")
                mixture = model(given)
            numbers[f"{name}_nll"] = float(costs(mixture, wanted).double().mean())
            if mixture.correlation is not None:
                numbers["correlation"] = fitted_correlation(mixture)
        _draw(metrics, self, models)
        return numbers


def floor(correlation: float) -> float:
    """Entropy of the noise, in nats: ln 2πe + ½ ln(1 - ρ²)."""
    return math.log(2 * math.pi * math.e) + 0.5 * math.log(1 - correlation**2)


def sample(
    count: int, correlation: float, generator: torch.Generator
) -> tuple[Float[Tensor, "N 1"], Float[Tensor, "N 2"]]:
    """z and (x, y)."""
    z = LIMIT * (2 * torch.rand(count, 1, generator=generator) - 1)
    noise = torch.randn(count, 2, generator=generator)
    second = correlation * noise[:, :1] + math.sqrt(1 - correlation**2) * noise[:, 1:]
    y = 6.5 * torch.cos(0.8 * z) + 0.5 * z + second
    return z, torch.cat([curve(z) + noise[:, :1], y], 1)


@dataclass(frozen=True)
class Problem:
    """Predict one variable from another, with a mixture of some normals."""

    given: Literal["z", "xy"]
    correlation: float
    """Of the noise."""
    num_mixtures: int
    kind: MixtureKind = "joint"

    def data(self, count: int, seed: int, name: str) -> tuple[Tensor, Tensor]:
        """Points (given / LIMIT, wanted), from the generator of a name."""
        noise = "correlated" if self.correlation else "independent"
        z, xy = sample(count, self.correlation, torch_generator(seed, name, noise))
        return (z / LIMIT, xy) if self.given == "z" else (xy / LIMIT, z)

    def network(self, H: int) -> nn.Sequential:
        """Two layers of tanh and a mixture."""
        inputs, outputs = (1, 2) if self.given == "z" else (2, 1)
        hidden = nn.Linear(inputs, H), nn.Tanh(), nn.Linear(H, H), nn.Tanh()
        return nn.Sequential(*hidden, MixtureHead(H, outputs, self.num_mixtures, self.kind))


def costs(mixture: Mixture, value: Tensor) -> Tensor:
    """Nats of all dimensions together, (N,)."""
    return mixture.nll(value) * mixture.latent_size


def fitted_correlation(mixture: Mixture) -> float:
    """ρ, averaged over the normals by their weights, and over the points."""
    assert mixture.correlation is not None
    weights = mixture.log_weights.exp()[..., 0]
    return float((weights * mixture.correlation[..., 1, 0]).sum(-1).mean())


@torch.inference_mode()
def _draw(metrics: Metrics, config: Spiral, models: dict[str, nn.Sequential]) -> None:
    generator = torch_generator(config.seed, "figure")
    z, xy = sample(1500, 0.0, generator)
    figure, many = new_figure(12, 4.5), config.num_mixtures

    def sampled(name: str, given: Tensor) -> Tensor:
        return models[name](given / LIMIT).sample(generator=generator)

    backwards = f"z sampled given (x, y), {many} normals"
    panels = (
        (xy, z, "0.4", "data"),
        (sampled("independent_joint", z), z, "tab:purple", "(x, y) sampled given z"),
        (xy, sampled("inverse_1", xy), "tab:red", "z sampled given (x, y), one normal"),
        (xy, sampled(f"inverse_{many}", xy), "tab:purple", backwards),
    )
    for place, (points, height, color, title) in enumerate(panels):
        axes = figure.add_subplot(1, 4, place + 1, projection="3d")
        axes.scatter(points[:, 0], points[:, 1], height[:, 0], s=2, color=color)
        axes.set(title=title, xlabel="x", ylabel="y", zlabel="z", zlim=(-12, 12))
    save_figure(figure, metrics.run.folder / "spiral.png", dpi=80)
