"""The head that predicts what the next steps earn after each choice of the next action.

Differs: the paper's M has no such head. Its predictions are an input of C.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.models.heads.choices import ChoiceHead, following
from worldmodels.models.heads.reward import BINS, LARGEST, expected, two_hot_nll
from worldmodels.models.mdnrnn import MDNRNN, Prediction
from worldmodels.models.sequence import SequenceBatch, masked_mean


@dataclass(frozen=True, kw_only=True)
class ReturnHead(ChoiceHead):
    """Returns: for each horizon and choice, the sum of the rewards of so many steps.

    After the first action they are those of the policies that were recorded. Each is learned as
    `RewardHead` learns a reward.
    """

    name: str = "returns"

    @property
    def outputs_each(self) -> int:
        return BINS

    @property
    def feature_bound(self) -> float:
        return 2 * LARGEST

    def features(
        self, mdnrnn: MDNRNN, z: Float[Tensor, "*batch Z"], h: Float[Tensor, "*batch H"]
    ) -> Float[Tensor, "*batch returns"]:
        """How much more each choice returns than their mean, choice by choice for each horizon."""
        outputs = self.predicted(mdnrnn, z, h)
        returns = expected(outputs.unflatten(-1, (-1, self.choices, BINS)))
        return (returns - returns.mean(-1, keepdim=True)).flatten(-2)

    def loss(
        self,
        prediction: Prediction,
        z: Float[Tensor, "B T_frames Z"],
        batch: SequenceBatch,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the returns, summed over the horizons, each a mean over known steps."""
        outputs, there = self.of_chosen(prediction, z, batch, generator)
        losses = []
        for place, horizon in enumerate(self.horizons):
            known, rewards = following(batch, horizon, batch.rewards)
            loss = two_hot_nll(outputs[:, place], rewards.sum(-1)[there])
            losses.append(masked_mean(loss, known[there]))
        return torch.stack(losses).sum()
