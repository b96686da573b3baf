"""A joint mixture over two dimensions, with and without correlation; and the inverse problem.

    x = 7 sin(0.75 z) + 0.5 z + ε₁,  y = 6.5 cos(0.8 z) + 0.5 z + ε₂,  z uniform(-10.5, 10.5)

(x, y) given z is one normal, whose correlation a diagonal mixture can only approximate. z given
(x, y) has several branches. Source: the inverse problem of Bishop 1994, section 4, as a spiral.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodels.figure import new_figure
from worldmodels.gallery.system import Numbers, System, initialised, train, two_layers
from worldmodels.models.mixture import Mixture, MixtureHead, MixtureKind
from worldmodels.ranges import PositiveInt
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

    seed: int = 0
    """Of the data and the initial weights."""
    points: PositiveInt = 10_000
    """Training points."""
    hidden_size: PositiveInt = 64
    """Units of both layers."""
    num_mixtures: PositiveInt = 5
    """Normals in a mixture."""
    test_points: PositiveInt = 200_000
    """New points, on which everything is measured."""
    train: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=6000, batch_size=1000, learning_rate=3e-3, final_learning_rate=1e-5
        )
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


def network(
    inputs: int, outputs: int, hidden: int, num_mixtures: int, kind: MixtureKind
) -> nn.Module:
    """Two layers of tanh and a mixture."""
    return two_layers(inputs, hidden, lambda: MixtureHead(hidden, outputs, num_mixtures, kind))


def learnt(
    metrics: Metrics,
    config: SpiralConfig,
    name: str,
    data: tuple[Tensor, Tensor],
    make: Callable[[], nn.Module],
) -> nn.Module:
    """A network trained on (given, wanted)."""
    model, (given, wanted) = initialised(config.seed, name, make=make), data

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
    pieces = zip(data[0].split(20_000), data[1].split(20_000), strict=True)
    total = sum(_log_prob(model(given / LIMIT), wanted).double().sum() for given, wanted in pieces)
    return -float(total) / len(data[0])


@torch.inference_mode()
def fitted_correlation(model: nn.Module, z: Tensor) -> float:
    """ρ, averaged over the normals by their weights, and over the points."""
    mixture: Mixture = model(z / LIMIT)
    assert mixture.correlation is not None
    weights = mixture.log_weights.exp()[..., 0]
    return float((weights * mixture.correlation[..., 1, 0]).sum(-1).mean())


def show(metrics: Metrics, config: SpiralConfig) -> Numbers:
    """NLLs for independent and correlated noise, and of the inverse with one normal and many."""
    hidden, many = config.hidden_size, config.num_mixtures
    numbers: dict[str, Any] = {}
    models: dict[str, nn.Module] = {}
    for noise, rho in (("independent", 0.0), ("correlated", CORRELATION)):
        data = sample(config.points, rho, torch_generator(config.seed, "spiral", noise))
        test = sample(config.test_points, rho, torch_generator(config.seed, "spiral test", noise))
        numbers[f"{noise}_floor"] = floor(rho)
        kinds: tuple[MixtureKind, ...] = ("joint", "correlated") if rho else ("joint",)
        for kind in kinds:
            name = f"{noise}_{kind}"
            make = lambda kind=kind: network(1, 2, hidden, many, kind)  # noqa: E731
            models[name] = learnt(metrics, config, name, data, make)
            numbers[f"{name}_nll"] = nll(models[name], test)
        if rho:
            numbers["correlation"] = fitted_correlation(models["correlated_correlated"], test[0])
            continue
        for count in (1, many):
            name = f"inverse_{count}"
            make = lambda count=count: network(2, 1, hidden, count, "joint")  # noqa: E731
            models[name] = learnt(metrics, config, name, (data[1], data[0]), make)
            numbers[f"{name}_nll"] = nll(models[name], (test[1], test[0]))
    _draw(metrics, config, models)
    return numbers


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
