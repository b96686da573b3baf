"""The heads that predict the count or the reward of a step.

Differs: the paper's M predicts no reward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional

from worldmodels.models.mdnrnn import Head, Prediction
from worldmodels.models.sequence import SequenceBatch, masked, masked_mean

SMALLEST = 1e-5
"""Rewards far below this in absolute value are told apart by the weights of two bins alone."""
GAIN = 8.0
"""Adam moves each output by about its learning rate: with a gain, narrow networks too get from one
bin to another in a few hundred steps. Measured with 16 units, 400 steps, a reward of 0 or 1 that
depends on place and action: explained variance .98 to 1, with a gain of 1 .12 to .77."""
BINS_EACH_SIDE = 30
"""Bins above 0, and below."""
BINS = 2 * BINS_EACH_SIDE + 1
LARGEST = SMALLEST * math.expm1(BINS_EACH_SIDE)
"""The value of the last bin, 1e8; larger rewards count as this."""


class Payer(Head):
    """A head whose outputs say what a step earns on average."""

    def loss(
        self,
        prediction: Prediction,
        z: Float[Tensor, "B T_frames Z"],
        batch: SequenceBatch,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Mean `nll` of the steps."""
        target = masked(self.target(batch), batch.valid)
        return masked_mean(self.nll(prediction.outputs(self.name), target), batch.valid)

    def target(self, batch: SequenceBatch) -> Float[Tensor, "B T"]:
        """What the head learns: its mean is what it predicts."""
        raise NotImplementedError

    def nll(
        self, outputs: Float[Tensor, "*batch size"], target: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """Negative log-likelihood up to a constant."""
        raise NotImplementedError

    def expected(self, outputs: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch"]:
        """The mean of the target."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class CountHead(Payer):
    """Predicts the count of each step, such as tiles."""

    name: str = "reward"
    size: int = 1
    count_limit: float = 1.0
    """Most counts in a step."""
    reward_per_count: float = 1.0
    """What a count pays."""

    def target(self, batch: SequenceBatch) -> Float[Tensor, "B T"]:
        return batch.counts

    def nll(
        self, outputs: Float[Tensor, "*batch 1"], target: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """Poisson, λ - n ln λ with λ = count_limit σ(output)."""
        log_rate = functional.logsigmoid(outputs[..., 0]) + math.log(self.count_limit)
        return log_rate.exp() - target * log_rate

    def expected(self, outputs: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch"]:
        return self.count_limit * torch.sigmoid(outputs[..., 0])

    def pays(self, outputs: Float[Tensor, "n 1"]) -> Float64[Tensor, " n"]:
        return self.expected(outputs).double() * self.reward_per_count


@dataclass(frozen=True, kw_only=True)
class RewardHead(Payer):
    """Learns each step's reward as a distribution over bins, and pays its mean.

    A reward is two-hot: it lies between two bins, and its weights on them average to it. The bins
    are v(x) = sign(x) s (e^|x| - 1) for whole x from -30 to 30, with s = 1e-5, so that rewards of
    any scale are learned. The mean of the bins' values is the mean of the rewards; v of the mean of
    x is not. Source: Hafner et al. 2023, eqs. 9 and 10.

    Differs: there the outputs are logits; here the logits are 8 outputs - |x|. With outputs of 0,
    where training begins, bins then contribute alike to the mean, and those that no reward has ever
    hit contribute next to nothing, however large they are.
    """

    name: str = "reward"
    size: int = BINS

    @property
    def begins_at_zero(self) -> bool:
        return True

    def target(self, batch: SequenceBatch) -> Float[Tensor, "B T"]:
        return batch.rewards

    def nll(
        self, outputs: Float[Tensor, "*batch size"], target: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """The cross-entropy of the two-hot target."""
        return two_hot_nll(outputs, target)

    def expected(self, outputs: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch"]:
        return expected(outputs)

    def pays(self, outputs: Float[Tensor, "n size"]) -> Float64[Tensor, " n"]:
        return self.expected(outputs).double()


def bin_values(device: torch.device | None = None) -> Float64[Tensor, " bins"]:
    """v(x) of each bin."""
    x = _places(device)
    return SMALLEST * torch.sign(x) * torch.expm1(x.abs())


def log_probabilities(outputs: Float[Tensor, "*batch bins"]) -> Float[Tensor, "*batch bins"]:
    """ln p of each bin."""
    return (GAIN * outputs - _places(outputs.device).abs().to(outputs.dtype)).log_softmax(-1)


def two_hot_nll(
    outputs: Float[Tensor, "*batch bins"], target: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """The cross-entropy of the two-hot target."""
    right, weight = two_hot(target)
    known = log_probabilities(outputs)
    left, right = (known.gather(-1, i[..., None])[..., 0] for i in (right - 1, right))
    return -(1 - weight) * left - weight * right


def expected(outputs: Float[Tensor, "*batch bins"]) -> Float[Tensor, "*batch"]:
    """The mean of the bins' values."""
    p, n = log_probabilities(outputs).exp(), BINS_EACH_SIDE
    # differences first: equal chances of v and -v then cancel exactly
    gain = p[..., n + 1 :] - p[..., :n].flip(-1)
    return (gain * bin_values(outputs.device)[n + 1 :].float()).sum(-1)


def two_hot(
    rewards: Float[Tensor, "*batch"],
) -> tuple[Int64[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The bin to the right of each reward, and its weight; the bin before it has the rest."""
    values = bin_values(rewards.device)
    exact = rewards.to(values.dtype).clamp(values[0], values[-1]).contiguous()
    right = torch.searchsorted(values, exact).clamp(1, len(values) - 1)  # NaN too
    low, high = values[right - 1], values[right]
    return right, ((exact - low) / (high - low)).to(rewards.dtype)


def _places(device: torch.device | None) -> Float64[Tensor, " bins"]:
    """x of each bin; in float32 on the GPU of an Apple chip, which has no float64."""
    n, apple = BINS_EACH_SIDE, device is not None and device.type == "mps"
    return torch.arange(-n, n + 1, dtype=torch.float32 if apple else torch.float64, device=device)
