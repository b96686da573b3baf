"""The head that predicts the reward of a step: what a dream pays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from worldmodels.models.mdnrnn import Head, Prediction
from worldmodels.models.sequence import SequenceBatch, masked, masked_mean


@dataclass(frozen=True, kw_only=True)
class RewardHead(Head):
    """Learns each step's count or reward. Differs: the paper's M predicts no reward."""

    name: str = "reward"
    size: int = 1
    kind: Literal["count", "real"] = "real"
    """`count`: the world's count, such as tiles; `real`: the reward."""
    count_limit: float = 1.0
    """Most counts in a step."""
    reward_per_count: float = 1.0
    """What a count pays."""

    def loss(
        self,
        prediction: Prediction,
        z: Float[Tensor, "B T_frames Z"],
        batch: SequenceBatch,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Mean `nll` of the steps."""
        target = masked(batch.counts if self.kind == "count" else batch.rewards, batch.valid)
        return masked_mean(self.nll(prediction.outputs(self.name)[..., 0], target), batch.valid)

    def nll(
        self, raw: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """Negative log-likelihood up to a constant.

        Count: Poisson, λ - n ln λ with λ = count_limit σ(raw). Real: half the squared symlog
        difference, a normal of unit deviation.
        """
        if self.kind == "real":
            return 0.5 * (raw - symlog(target)).square()
        log_rate = functional.logsigmoid(raw) + math.log(self.count_limit)
        return log_rate.exp() - target * log_rate

    def expected(self, raw: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The mean: counts in a step, or the reward."""
        if self.kind == "count":
            return self.count_limit * torch.sigmoid(raw)
        return symexp(raw)

    def pays(self, outputs: Float[Tensor, "n 1"]) -> Float64[Tensor, " n"]:
        expected = self.expected(outputs[:, 0]).double()
        return expected * self.reward_per_count if self.kind == "count" else expected


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|). Source: Hafner et al. 2023, eq. 9."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return torch.sign(x) * torch.expm1(x.abs())
