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

from worldmodels.figure import new_figure, save_figure
from worldmodels.gallery.system import Numbers, System
from worldmodels.models.mixture import Mixture, split_mixture
from worldmodels.ranges import Range
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
class Densities(System):
    """Known densities, and networks fitted to their samples."""

    samples: Annotated[int, Range(2.0)] = 10_000
    """To which each network is fitted."""
    train: FitConfig = FitConfig(steps=1000, learning_rate=0.05, final_learning_rate=1e-4)

    def show(self, metrics: Metrics) -> Numbers:
        """Facts of both densities, with the NLL of one normal and of the fitted network."""
        figure = new_figure(9, 3.5)
        numbers: dict[str, Any] = {}
        for name, axes in zip(MIXTURES, figure.subplots(1, len(MIXTURES)), strict=True):
            truth = mixture_of(name)
            mean = truth.mean[:, None]
            normal = Mixture(mean * 0, mean, truth.variance.log()[:, None] / 2)
            fit = fitted(self, metrics, name)
            found, best = facts(truth), cross_entropy(truth, fit)
            numbers[name] = {
                **found,
                "one_normal": cross_entropy(truth, normal),
                "bias_only": best,
                "excess": best - found["entropy"],
            }
            _draw(axes, truth, normal, fit)
        save_figure(figure, metrics.run.folder / "densities.png", dpi=110)
        return numbers


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
    weights, means, stds = torch.tensor(MIXTURES[name], dtype=torch.float64)[..., None]
    return Mixture(weights.log(), means, stds.log())


def grid(mixture: Mixture) -> Float64[Tensor, "N 1"]:
    """Points that cover the whole density."""
    reach = REACH * mixture.log_stds.exp().max()
    low, high = mixture.means.min() - reach, mixture.means.max() + reach
    return torch.linspace(float(low), float(high), POINTS, dtype=torch.float64)[:, None]


def facts(mixture: Mixture) -> dict[str, Any]:
    """Integral, moments, modes on the grid, cdf(0) and entropy, over one dimension."""
    x = grid(mixture)
    log_prob = mixture.log_prob(x)
    return {
        "integral": _integral(log_prob.exp(), x),
        "mean": mixture.mean.item(),
        "variance": mixture.variance.item(),
        "modes": x[argrelmax(log_prob[:, 0].numpy())[0], 0].tolist(),
        "cdf_at_0": mixture.cdf(torch.zeros(1, dtype=torch.float64)).item(),
        "entropy": cross_entropy(mixture, mixture),
    }


def cross_entropy(truth: Mixture, model: Mixture) -> float:
    """-∫ p ln q in nats: the NLL of `model` on samples of `truth`, without sampling error."""
    x = grid(truth)
    return -_integral(truth.log_prob(x).exp() * model.log_prob(x), x)


def _integral(values: Tensor, x: Tensor) -> float:
    return float(torch.trapezoid(values[:, 0], x[:, 0]))


def fitted(config: Densities, metrics: Metrics, name: str) -> Mixture:
    """The bias-only network fitted to samples of the named mixture."""
    truth = mixture_of(name)
    generator = torch_generator(config.seed, "densities", name)
    parts = (truth.logits, truth.means, truth.log_stds)
    repeated = Mixture(*(part.expand(config.samples, -1, 1) for part in parts))
    samples = repeated.sample(generator=generator).float()

    def make() -> BiasOnly:
        return BiasOnly(truth.num_mixtures, samples.min().item(), samples.max().item())

    def loss(network: BiasOnly, _: int) -> Tensor:
        return network().nll(samples).mean()

    found = config.trained(metrics, make, loss, name)()
    return Mixture(found.logits.double(), found.means.double(), found.log_stds.double())


def _draw(axes: Any, truth: Mixture, normal: Mixture, found: Mixture) -> None:
    x = torch.linspace(-17, 17, 500, dtype=torch.float64)[:, None]
    lines = (truth, "the mixture", "tab:purple", "-"), (found, "fitted to samples", "black", ":")
    for law, label, color, style in (*lines, (normal, "one normal", "0.6", "--")):
        axes.plot(x[:, 0], law.log_prob(x).exp()[:, 0], style, color=color, label=label)
    axes.set(title=f"{truth.num_mixtures} normals", xlabel="x", ylabel="density")
    axes.legend(fontsize="small")
