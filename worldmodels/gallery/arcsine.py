"""The inverse problem: predict y from x, where several y belong to one x.

    x = 7 sin(0.75 y) + 0.5 y + N(0, 1),  y uniform(-10.5, 10.5)

A network that minimises the squared error answers with the mean of the branches, which lies on none
of them. A mixture keeps them apart. Source: Bishop 1994, section 4; Ha 2015 for these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodels.figure import new_figure
from worldmodels.gallery.system import Numbers, System, initialised, train, two_layers
from worldmodels.models.mixture import HALF_LOG_2PI, Mixture, MixtureHead
from worldmodels.ranges import PositiveInt, Seed
from worldmodels.run import Metrics
from worldmodels.seeding import torch_generator
from worldmodels.stages.fit import FitConfig

LIMIT = 10.5
"""|y| at most."""
FLOOR_NLL, FLOOR_MSE = 1.288, 21.3
"""Of the true distribution of y given x: its entropy in nats, and its variance."""
NEAR = 3.0
"""A sample y is on a branch if the curve passes within this of x."""
PIECE = 100_000
"""Test points that are measured at once."""


@dataclass(frozen=True, kw_only=True)
class ArcsineConfig:
    """Squared error against a mixture."""

    seed: Seed = 0
    """Of the data and the initial weights."""
    points: PositiveInt = 3000
    """Training points."""
    hidden_size: PositiveInt = 15
    """Units of both layers."""
    num_mixtures: PositiveInt = 5
    """Normals in the mixture."""
    repetitions: PositiveInt = 5
    """Independent data sets and networks, whose medians are reported."""
    test_points: PositiveInt = 1_000_000
    """New points, on which everything is measured."""
    train: FitConfig = FitConfig(
        steps=6000, batch_size=3000, learning_rate=0.01, final_learning_rate=1e-5
    )


def curve(y: Tensor) -> Tensor:
    """x without its noise."""
    return 7 * torch.sin(0.75 * y) + 0.5 * y


def sample(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Samples x and y, (N, 1) each."""
    y = LIMIT * (2 * torch.rand(count, 1, generator=generator) - 1)
    return curve(y) + torch.randn(count, 1, generator=generator), y


def mean_network(hidden_size: int) -> nn.Sequential:
    """x to one y: 286 parameters for 15 units."""
    return two_layers(1, hidden_size, lambda: nn.Linear(hidden_size, 1))


def mixture_network(hidden_size: int, num_mixtures: int) -> nn.Sequential:
    """x to a mixture over y: 510 parameters for 15 units and 5 normals."""
    last = partial(MixtureHead, hidden_size, 1, num_mixtures)
    return two_layers(1, hidden_size, last, nn.ReLU)


@dataclass(frozen=True)
class Trained:
    """One repetition: its data and both networks."""

    x: Float[Tensor, "N 1"]
    y: Float[Tensor, "N 1"]
    mean: nn.Sequential
    mixture: nn.Sequential

    @property
    def variance(self) -> float:
        """Mean squared error on the training data: makes a normal of the mean network."""
        return float((self.mean(self.x) - self.y).square().mean())


def trained(metrics: Metrics, config: ArcsineConfig, number: int) -> Trained:
    """Both networks of a repetition."""
    x, y = sample(config.points, torch_generator(config.seed, "arcsine", number))
    mean = initialised(config.seed, "mean", number, make=partial(mean_network, config.hidden_size))
    sizes = config.hidden_size, config.num_mixtures
    mixture = initialised(config.seed, "mixture", number, make=partial(mixture_network, *sizes))

    def batch(step: int) -> Tensor:
        if config.train.batch_size >= config.points:
            return torch.arange(config.points)
        generator = torch_generator(config.seed, "batch", number, step)
        return torch.randint(config.points, (config.train.batch_size,), generator=generator)

    def squares(step: int) -> Tensor:
        rows = batch(step)
        return (mean(x[rows]) - y[rows]).square().mean()

    def nll(step: int) -> Tensor:
        rows = batch(step)
        return mixture(x[rows]).nll(y[rows]).mean()

    train(metrics, f"mean_{number}", mean, config.train, squares)
    train(metrics, f"mixture_{number}", mixture, config.train, nll)
    return Trained(x, y, mean, mixture)


@torch.inference_mode()
def measured(one: Trained, config: ArcsineConfig, number: int) -> dict[str, float]:
    """Means over new points: squared error, both NLLs in nats, share of samples on a branch."""
    generator = torch_generator(config.seed, "arcsine test", number)
    x, y = sample(config.test_points, generator)
    variance, sums = one.variance, np.zeros(4)
    for part_x, part_y in zip(x.split(PIECE), y.split(PIECE), strict=True):
        squares = (one.mean(part_x) - part_y).square()
        mixture: Mixture = one.mixture(part_x)
        near = (part_x - curve(mixture.sample(generator=generator))).abs() <= NEAR
        normal = squares / (2 * variance) + HALF_LOG_2PI + 0.5 * np.log(variance)
        rows = squares, mixture.nll(part_y), normal, near.float()
        sums += [row.double().sum().item() for row in rows]
    names = "mse", "mixture_nll", "normal_nll", "on_a_branch"
    return dict(zip(names, (sums / len(x)).tolist(), strict=True))


def show(metrics: Metrics, config: ArcsineConfig) -> Numbers:
    """Medians over the repetitions, and a figure of the first."""
    runs = [trained(metrics, config, number) for number in range(config.repetitions)]
    rows = [measured(one, config, number) for number, one in enumerate(runs)]
    _draw(metrics, runs[0])
    medians = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
    return {
        "mean_parameters": sum(p.numel() for p in runs[0].mean.parameters()),
        "mixture_parameters": sum(p.numel() for p in runs[0].mixture.parameters()),
        "floor_nll": FLOOR_NLL,
        "floor_mse": FLOOR_MSE,
        **medians,
        "better_by": float(np.median([r["normal_nll"] - r["mixture_nll"] for r in rows])),
        "repetitions": rows,
    }


@torch.inference_mode()
def _draw(metrics: Metrics, one: Trained) -> None:
    figure = new_figure(12, 7)
    axes = figure.subplots(2, 3).ravel()
    x = torch.linspace(-15, 15, 1000)[:, None]
    mixture: Mixture = one.mixture(x)
    thin = slice(None, None, 2)
    for place in (0, 1, 3, 4):
        axes[place].plot(one.x[thin], one.y[thin], ".", color="0.8", markersize=2)
    axes[0].set_title("the data: several y for one x")
    axes[1].plot(x, one.mean(x), color="tab:red")
    axes[1].set_title("squared error: the mean of the branches")
    _losses(axes[2], metrics)
    samples = mixture.sample(generator=torch_generator(0, "figure"))
    axes[3].plot(x, samples, ".", color="tab:purple", markersize=3)
    axes[3].set_title("samples of the mixture")
    sizes = 30 * mixture.log_weights.exp()[..., 0]
    for k in range(mixture.num_mixtures):
        axes[4].scatter(x[:, 0], mixture.means[:, k, 0], s=sizes[:, k], color="tab:purple")
    axes[4].set_title("means, sized by weight")
    axes[5].plot(x, mixture.log_weights.exp()[..., 0])
    axes[5].set_title("weights")
    for place in (0, 1, 3, 4):
        axes[place].set(xlim=(-15, 15), ylim=(-12, 12), xlabel="x", ylabel="y")
    figure.savefig(metrics.run.folder / "arcsine.png", dpi=80)


def _losses(axes: Any, metrics: Metrics) -> None:
    logged = Metrics.lines(metrics.run)
    for name, color in (("mean_0", "tab:red"), ("mixture_0", "tab:purple")):
        found = [(row["step"], row[f"{name}_loss"]) for row in logged if f"{name}_loss" in row]
        if found:
            steps, losses = zip(*found, strict=True)
            axes.plot(steps, losses, color=color, label=name.removesuffix("_0"))
    axes.set(title="losses: squared error, nats", xlabel="step", yscale="log")
    axes.legend()


SYSTEM = System("Several y for one x: squared error against a mixture.", ArcsineConfig, show)
