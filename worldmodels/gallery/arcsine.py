"""The inverse problem: predict y from x, where several y belong to one x.

    x = 7 sin(0.75 y) + 0.5 y + N(0, 1),  y uniform(-10.5, 10.5)

A network that minimises the squared error answers with the mean of the branches, which lies on none
of them. A mixture keeps them apart. Source: Bishop 1994, section 4; Ha 2015 for these numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldmodels.figure import new_figure, save_figure
from worldmodels.gallery.system import Numbers, System, falling
from worldmodels.models.mixture import HALF_LOG_2PI, Mixture, MixtureHead
from worldmodels.ranges import PositiveInt
from worldmodels.run import Metrics
from worldmodels.seeding import torch_generator
from worldmodels.stages.fit import FitConfig

LIMIT = 10.5
"""|y| at most, and the spiral's |z|."""
FLOOR_NLL, FLOOR_MSE = 1.288, 21.3
"""Of the true distribution of y given x: its entropy in nats, and its variance."""
NEAR = 3.0
"""A sample y is on a branch if the curve passes within this of x."""
PIECE = 100_000
"""Test points that are measured at once."""


@dataclass(frozen=True, kw_only=True)
class Arcsine(System):
    """Several y for one x: squared error against a mixture."""

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
    train: FitConfig = falling(steps=6000, batch_size=3000, learning_rate=0.01)

    def show(self, metrics: Metrics) -> Numbers:
        """Medians over the repetitions, and a figure of the first."""
        rows = [self.repetition(metrics, number) for number in range(self.repetitions)]
        return {
            "floor_nll": FLOOR_NLL,
            "floor_mse": FLOOR_MSE,
            **{name: float(np.median([row[name] for row in rows])) for name in rows[0]},
            "better_by": float(np.median([r["normal_nll"] - r["mixture_nll"] for r in rows])),
            "repetitions": rows,
        }

    def repetition(self, metrics: Metrics, number: int) -> Numbers:
        """Trains and measures both networks on data of their own; draws the first ones."""
        x, y = sample(self.points, torch_generator(self.seed, "arcsine", number))
        make = partial(mean_network, self.hidden_size)
        mean = trained(self, metrics, make, squares, (x, y), "mean", number)
        make = partial(mixture_network, self.hidden_size, self.num_mixtures)
        mixture = trained(self, metrics, make, Mixture.nll, (x, y), "mixture", number)
        if number == 0:
            _draw(metrics, x, y, mean, mixture)
        with torch.inference_mode():
            variance = float(squares(mean(x), y).mean())
            generator = torch_generator(self.seed, "arcsine test", number)
            return {
                "mean_parameters": sum(p.numel() for p in mean.parameters()),
                "mixture_parameters": sum(p.numel() for p in mixture.parameters()),
                **measured(mean, mixture, variance, self.test_points, generator),
            }


def curve(y: Tensor) -> Tensor:
    """x without its noise."""
    return 7 * torch.sin(0.75 * y) + 0.5 * y


def sample(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Samples x and y, (N, 1) each."""
    y = LIMIT * (2 * torch.rand(count, 1, generator=generator) - 1)
    return curve(y) + torch.randn(count, 1, generator=generator), y


def mean_network(H: int) -> nn.Sequential:
    """x to one y: 286 parameters for 15 units."""
    return nn.Sequential(nn.Linear(1, H), nn.Tanh(), nn.Linear(H, H), nn.Tanh(), nn.Linear(H, 1))


def mixture_network(H: int, num_mixtures: int) -> nn.Sequential:
    """x to a mixture over y: 510 parameters for 15 units and 5 normals."""
    hidden = nn.Linear(1, H), nn.ReLU(), nn.Linear(H, H), nn.ReLU()
    return nn.Sequential(*hidden, MixtureHead(H, 1, num_mixtures))


def trained(
    config: System,
    metrics: Metrics,
    make: Callable[[], nn.Sequential],
    cost: Callable[[Any, Tensor], Tensor],
    data: tuple[Tensor, Tensor],
    *name: int | str,
) -> nn.Sequential:
    """A network trained on points x and y; networks whose names end alike see the same batches.

    The loss is the mean over a batch of `cost(network(x), y)`.
    """
    x, y = data
    size = config.train.batch_size

    def loss(network: nn.Sequential, step: int) -> Tensor:
        if size >= len(x):
            return cost(network(x), y).mean()
        generator = torch_generator(config.seed, "batch", name[-1], step)
        rows = torch.randint(len(x), (size,), generator=generator)
        return cost(network(x[rows]), y[rows]).mean()

    return config.trained(metrics, make, loss, *name)


def squares(found: Tensor, y: Tensor) -> Tensor:
    """Squared errors."""
    return (found - y).square()


def measured(
    mean: nn.Module, mixture: nn.Module, variance: float, count: int, generator: torch.Generator
) -> dict[str, float]:
    """Means over new points: squared error, both NLLs in nats, share of samples on a branch.

    The mean network with a variance is a normal.
    """
    x, y = sample(count, generator)
    sums = np.zeros(4)
    for part_x, part_y in zip(x.split(PIECE), y.split(PIECE), strict=True):
        errors, law = squares(mean(part_x), part_y), mixture(part_x)
        near = (part_x - curve(law.sample(generator=generator))).abs() <= NEAR
        normal = errors / (2 * variance) + HALF_LOG_2PI + 0.5 * np.log(variance)
        rows = errors, law.nll(part_y), normal, near.float()
        sums += [row.double().sum().item() for row in rows]
    names = "mse", "mixture_nll", "normal_nll", "on_a_branch"
    return dict(zip(names, (sums / count).tolist(), strict=True))


@torch.inference_mode()
def _draw(metrics: Metrics, x: Tensor, y: Tensor, mean: nn.Module, mixture: nn.Module) -> None:
    figure = new_figure(12, 7)
    axes = figure.subplots(2, 3).ravel()
    given = torch.linspace(-15, 15, 1000)[:, None]
    law: Mixture = mixture(given)
    weights = law.log_weights.exp()[..., 0]
    for place in (0, 1, 3, 4):
        axes[place].plot(x[::2], y[::2], ".", color="0.8", markersize=2)
        axes[place].set(xlim=(-15, 15), ylim=(-12, 12), xlabel="x", ylabel="y")
    axes[0].set_title("the data: several y for one x")
    axes[1].plot(given, mean(given), color="tab:red")
    axes[1].set_title("squared error: the mean of the branches")
    _draw_losses(axes[2], metrics)
    samples = law.sample(generator=torch_generator(0, "figure"))
    axes[3].plot(given, samples, ".", color="tab:purple", markersize=3)
    axes[3].set_title("samples of the mixture")
    for k in range(law.num_mixtures):
        axes[4].scatter(given, law.means[:, k], s=30 * weights[:, k], color="tab:purple")
    axes[4].set_title("means, sized by weight")
    axes[5].plot(given, weights)
    axes[5].set_title("weights")
    save_figure(figure, metrics.run.folder / "arcsine.png", dpi=80)


def _draw_losses(axes: Any, metrics: Metrics) -> None:
    logged = Metrics.lines(metrics.run)
    for name, color in (("mean", "tab:red"), ("mixture", "tab:purple")):
        rows = [row for row in logged if f"{name}_0_loss" in row]
        steps, losses = ([row[key] for row in rows] for key in ("step", f"{name}_0_loss"))
        axes.plot(steps, losses, color=color, label=name)
    axes.set(title="losses: squared error, nats", xlabel="step", yscale="log")
    axes.legend()
