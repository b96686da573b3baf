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

from worldmodels.figure import new_figure
from worldmodels.gallery.system import Numbers, System, initialised, train, two_layers
from worldmodels.models.mixture import Mixture, MixtureHead, MixtureKind
from worldmodels.ranges import PositiveInt, Seed
from worldmodels.run import Metrics
from worldmodels.seeding import torch_generator
from worldmodels.stages.fit import FitConfig

LIMIT = 10.5
"""|z| at most."""
CORRELATION = 0.7
"""Of ε₁ and ε₂ in the second data set."""


@dataclass(frozen=True, kw_only=True)
class SpiralConfig:
    """A spiral forwards and backwards."""

    seed: Seed = 0
    """Of the data and the initial weights."""
    points: PositiveInt = 10_000
    """Training points."""
    hidden_size: PositiveInt = 64
    """Units of both layers."""
    num_mixtures: PositiveInt = 5
    """Normals in a mixture."""
    test_points: PositiveInt = 200_000
    """New points, on which everything is measured."""
    train: FitConfig = FitConfig(
        steps=6000, batch_size=1000, learning_rate=3e-3, final_learning_rate=1e-5
    )


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
    x = 7 * torch.sin(0.75 * z) + 0.5 * z + noise[:, :1]
    return z, torch.cat([x, 6.5 * torch.cos(0.8 * z) + 0.5 * z + second], 1)


@dataclass(frozen=True)
class Problem:
    """Predict one variable from another, with a mixture of some normals."""

    given: Literal["z", "xy"]
    noise: Literal["independent", "correlated"]
    num_mixtures: int
    kind: MixtureKind = "joint"

    def data(self, count: int, seed: int, name: str) -> tuple[Tensor, Tensor]:
        """Points (given, wanted), from the generator of a name."""
        rho = CORRELATION if self.noise == "correlated" else 0.0
        z, xy = sample(count, rho, torch_generator(seed, name, self.noise))
        return (z, xy) if self.given == "z" else (xy, z)

    def network(self, hidden: int) -> nn.Module:
        """Two layers of tanh and a mixture."""
        inputs, outputs = (1, 2) if self.given == "z" else (2, 1)
        last = partial(MixtureHead, hidden, outputs, self.num_mixtures, self.kind)
        return two_layers(inputs, hidden, last)


def trained(metrics: Metrics, config: SpiralConfig, name: str, problem: Problem) -> nn.Module:
    """The network of a problem."""
    given, wanted = problem.data(config.points, config.seed, "spiral")
    model = initialised(config.seed, name, make=lambda: problem.network(config.hidden_size))

    def loss(step: int) -> Tensor:
        generator = torch_generator(config.seed, "batch", name, step)
        rows = torch.randint(len(given), (config.train.batch_size,), generator=generator)
        return -_log_prob(model(given[rows] / LIMIT), wanted[rows]).mean()

    train(metrics, name, model, config.train, loss)
    return model


def _log_prob(mixture: Mixture, value: Tensor) -> Tensor:
    """Of all dimensions together, (N,)."""
    log_prob = mixture.log_prob(value)
    return log_prob if mixture.joint else log_prob.sum(-1)


@torch.inference_mode()
def nll(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Nats a point."""
    given, wanted = data
    return -float(_log_prob(model(given / LIMIT), wanted).double().mean())


@torch.inference_mode()
def fitted_correlation(model: nn.Module, z: Tensor) -> float:
    """ρ, averaged over the normals by their weights, and over the points."""
    mixture: Mixture = model(z / LIMIT)
    assert mixture.correlation is not None
    weights = mixture.log_weights.exp()[..., 0]
    return float((weights * mixture.correlation[..., 1, 0]).sum(-1).mean())


def show(metrics: Metrics, config: SpiralConfig) -> Numbers:
    """NLLs for independent and correlated noise, and of the inverse with one normal and many."""
    many = config.num_mixtures
    problems = {
        "independent_joint": Problem("z", "independent", many),
        "correlated_joint": Problem("z", "correlated", many),
        "correlated_correlated": Problem("z", "correlated", many, "correlated"),
        "inverse_1": Problem("xy", "independent", 1),
        f"inverse_{many}": Problem("xy", "independent", many),
    }
    models = {name: trained(metrics, config, name, each) for name, each in problems.items()}
    tests = {
        name: problem.data(config.test_points, config.seed, "spiral test")
        for name, problem in problems.items()
    }
    _draw(metrics, config, models)
    z = tests["correlated_correlated"][0]
    return {
        **{f"{name}_nll": nll(models[name], tests[name]) for name in problems},
        "independent_floor": floor(0.0),
        "correlated_floor": floor(CORRELATION),
        "correlation": fitted_correlation(models["correlated_correlated"], z),
    }


@torch.inference_mode()
def _draw(metrics: Metrics, config: SpiralConfig, models: dict[str, nn.Module]) -> None:
    generator = torch_generator(config.seed, "figure")
    z, xy = sample(1500, 0.0, generator)
    figure = new_figure(12, 4.5)
    forwards = models["independent_joint"](z / LIMIT).sample(generator=generator)
    one, many = (
        models[f"inverse_{k}"](xy / LIMIT).sample(generator=generator)
        for k in (1, config.num_mixtures)
    )
    panels = (
        (xy, z, "0.4", "data"),
        (forwards, z, "tab:purple", "(x, y) sampled given z"),
        (xy, one, "tab:red", "z sampled given (x, y), one normal"),
        (xy, many, "tab:purple", f"z sampled given (x, y), {config.num_mixtures} normals"),
    )
    for place, (points, height, color, title) in enumerate(panels):
        axes = figure.add_subplot(1, 4, place + 1, projection="3d")
        axes.scatter(points[:, 0], points[:, 1], height[:, 0], s=2, color=color)
        axes.set(title=title, xlabel="x", ylabel="y", zlabel="z", zlim=(-12, 12))
    figure.savefig(metrics.run.folder / "spiral.png", dpi=80)


SYSTEM = System("Two correlated dimensions at once, and the inverse problem.", SpiralConfig, show)
