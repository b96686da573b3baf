"""The head that predicts the risk of damage after each choice of the next action.

Differs: the paper's M has no such head. It can weight a dream's rewards and be an input of C.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from worldmodels.models.action import choices_of
from worldmodels.models.heads.choices import ChoiceHead, following
from worldmodels.models.mdnrnn import MDNRNN, Prediction
from worldmodels.models.sequence import SequenceBatch, masked_mean

RISK_BOUND = 20.0
"""Log-odds are clamped to [-RISK_BOUND, RISK_BOUND]."""


@dataclass(frozen=True, kw_only=True)
class RiskHead(ChoiceHead):
    """Risks: for each horizon and choice, whether damage or the end comes within so many steps.

    Damage is a marked step, see `LatentEpisode.marked`.
    """

    name: str = "risk"

    @property
    def feature_bound(self) -> float:
        return RISK_BOUND

    def features(
        self, mdnrnn: MDNRNN, z: Float[Tensor, "*batch Z"], h: Float[Tensor, "*batch H"]
    ) -> Float[Tensor, "*batch risks"]:
        """The log-odds of all risks, choice by choice for each horizon."""
        return self.predicted(mdnrnn, z, h).clamp(-RISK_BOUND, RISK_BOUND)

    def loss(
        self,
        prediction: Prediction,
        z: Float[Tensor, "B T_frames Z"],
        batch: SequenceBatch,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Binary cross-entropy, summed over the horizons, each a mean over known steps."""
        outputs, there = self.of_chosen(prediction, z, batch, generator)
        risks = outputs[..., 0].clamp(-RISK_BOUND, RISK_BOUND)
        losses = []
        for place, horizon in enumerate(self.horizons):
            known, over, marked = following(batch, horizon, batch.terminated, batch.marked)
            soon = torch.maximum(over, marked).amax(-1)
            loss = functional.binary_cross_entropy_with_logits(
                risks[:, place], soon[there], reduction="none"
            )
            losses.append(masked_mean(loss, known[there]))
        return torch.stack(losses).sum()

    def survives(
        self,
        mdnrnn: MDNRNN,
        z: Float[Tensor, "n Z"],
        h: Float[Tensor, "n H"],
        actions: Float[Tensor, "n A"],
        outputs: Float[Tensor, "n 0"],
    ) -> Float64[Tensor, " n"]:
        """The probability that these actions bring neither damage nor the end.

        (1 - p)^(1/n) with the risk p of the chosen action within the shortest horizon, spread over
        its n steps.
        """
        risks = self.features(mdnrnn, z, h).unflatten(-1, (-1, self.choices))
        n = min(self.horizons)
        log_odds = (risks[:, self.horizons.index(n)] * choices_of(actions, self.choices)).sum(-1)
        return torch.exp(functional.logsigmoid(-log_odds.double()) / n)
