"""Two known mixtures: their integral, moments and modes, one normal beside each, and a fit.

Source: Bishop 1994, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float64
from scipy.signal import argrelmax
from torch import Tensor, nn

from worldmodels.figure import new_figure
from worldmodels.gallery.system import Numbers, System, initialised, train
from worldmodels.models.mixture import Mixture, split_mixture
from worldmodels.ranges import Range, Seed
from worldmodels.run import Metrics
from worldmodels.seeding import torch_generator
from worldmodels.stages.fit import FitConfig

MIXTURES = {
    "two": ((0.5, 0.5), (-5.0, 5.0), (2.0, 3.0)),
    "three": ((0.25, 0.30, 0.45), (-9.0, -0.5, 8.0), (2.0, 3.0, 2.5)),
}
"""Weights, means and standard deviations."""
REACH = 12.0
"""Integrals reach so many of the largest standard deviation beyond the outermost means."""
POINTS = 500_001
"""Of the grid for integrals and modes."""


@dataclass(frozen=True, kw_only=True)
class DensitiesConfig:
    """Two known densities, and networks without inputs that are fitted to their samples."""

    seed: Seed = 0
    """Of the samples."""
    samples: Annotated[int, Range(2.0)] = 10_000
    """To which each network is fitted."""
    train: FitConfig = FitConfig(steps=1000, learning_rate=0.05, final_learning_rate=1e-4)


class BiasOnly(nn.Module):
    """A mixture density network without inputs: its only weights are the last layer's bias."""

    def __init__(self, num_mixtures: int, low: float, high: float) -> None:
        """The means begin evenly spaced from `low` to `high`, the deviations as that space."""
        super().__init__()
        gap = (high - low) / num_mixtures
        means = low + gap * (torch.arange(num_mixtures) + 0.5)
        widths = torch.full((num_mixtures,), math.log(gap))
        self.bias = nn.Parameter(torch.cat([torch.zeros(num_mixtures), means, widths]))

    def forward(self) -> Mixture:
        return split_mixture(self.bias, 1, len(self.bias) // 3)


def mixture_of(name: str) -> Mixture:
    """One of `MIXTURES`, in float64."""
    weights, means, stds = (
        torch.tensor(row, dtype=torch.float64)[:, None] for row in MIXTURES[name]
    )
    return Mixture(weights.log(), means, stds.log())


def modes(mixture: Mixture) -> list[float]:
    """The maxima of a mixture over one dimension, in ascending order, to the grid's resolution."""
    x = grid(mixture)
    places = argrelmax(mixture.log_prob(x)[:, 0].numpy())[0]
    found: list[float] = x[places, 0].tolist()
    return found


def grid(mixture: Mixture) -> Float64[Tensor, "N 1"]:
    """Points that cover the whole density."""
    reach = REACH * mixture.log_stds.exp().max()
    low, high = mixture.means.min() - reach, mixture.means.max() + reach
    return torch.linspace(float(low), float(high), POINTS, dtype=torch.float64)[:, None]


def facts(mixture: Mixture) -> dict[str, Any]:
    """Integral, moments, modes, cdf(0) and entropy of a mixture over one dimension."""
    x = grid(mixture)
    log_prob = mixture.log_prob(x)
    prob = log_prob.exp()
    return {
        "integral": integral(prob, x),
        "mean": mixture.mean.item(),
        "variance": mixture.variance.item(),
        "modes": modes(mixture),
        "cdf_at_0": mixture.cdf(torch.zeros(1, dtype=torch.float64)).item(),
        "entropy": -integral(prob * log_prob, x),
    }


def integral(values: Tensor, x: Tensor) -> float:
    """The trapezoidal rule."""
    return float(torch.trapezoid(values[:, 0], x[:, 0]))


def cross_entropy(truth: Mixture, model: Mixture) -> float:
    """-∫ p ln q in nats: the NLL of `model` on samples of `truth`, without sampling error."""
    x = grid(truth)
    return -integral(truth.log_prob(x).exp() * model.log_prob(x), x)


def fitted(name: str, config: DensitiesConfig, metrics: Metrics) -> Mixture:
    """The bias-only network fitted to samples of the named mixture."""
    truth = mixture_of(name)
    generator = torch_generator(config.seed, "densities", name)
    parts = (truth.logits, truth.means, truth.log_stds)
    repeated = Mixture(*(part.expand(config.samples, -1, 1) for part in parts))
    samples = repeated.sample(generator=generator).float()
    limits = samples.min().item(), samples.max().item()
    network = initialised(config.seed, name, make=lambda: BiasOnly(truth.num_mixtures, *limits))

    def loss(_: int) -> Tensor:
        return network().nll(samples).mean()

    train(metrics, name, network, config.train, loss)
    found = network()
    return Mixture(*(p.double() for p in (found.logits, found.means, found.log_stds)))


def show(metrics: Metrics, config: DensitiesConfig) -> Numbers:
    """Facts of both densities, with the NLL of one normal and of the fitted network."""
    figure = new_figure(9, 3.5)
    numbers: dict[str, Any] = {}
    for name, axes in zip(MIXTURES, figure.subplots(1, len(MIXTURES)), strict=True):
        truth = mixture_of(name)
        normal = Mixture(
            truth.mean[:, None] * 0, truth.mean[:, None], truth.variance.log()[:, None] / 2
        )
        found = fitted(name, config, metrics)
        needs = {"one_normal": normal, "bias_only": found}
        numbers[name] = facts(truth) | {
            key: cross_entropy(truth, model) for key, model in needs.items()
        }
        numbers[name]["excess"] = numbers[name]["bias_only"] - numbers[name]["entropy"]
        _draw(axes, truth, normal, found, f"{truth.num_mixtures} normals")
    figure.savefig(metrics.run.folder / "densities.png", dpi=110)
    return numbers


def _draw(axes: Any, truth: Mixture, normal: Mixture, found: Mixture, title: str) -> None:
    x = torch.linspace(-17, 17, 500, dtype=torch.float64)[:, None]
    lines = (truth, "the mixture", "tab:purple", "-"), (found, "fitted to samples", "black", ":")
    for law, label, color, style in (*lines, (normal, "one normal", "0.6", "--")):
        axes.plot(x[:, 0], law.log_prob(x).exp()[:, 0], style, color=color, label=label)
    axes.set(title=title, xlabel="x", ylabel="density")
    axes.legend(fontsize="small")


SYSTEM = System("Known densities, and networks fitted to their samples.", DensitiesConfig, show)
