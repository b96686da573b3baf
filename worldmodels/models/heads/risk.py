"""The head that predicts the risk of damage after each choice of the next action.

Differs: the paper's M has no such head. It can weight a dream's rewards and be an input of C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn import functional

from worldmodels.models.action import choices_of
from worldmodels.models.heads.choices import ChoiceHead, following
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.sequence import SequenceBatch

RISK_BOUND = 20.0
"""Log-odds are clamped to [-RISK_BOUND, RISK_BOUND]."""


@dataclass(frozen=True, kw_only=True)
class RiskHead(ChoiceHead):
    """Risks: for each horizon and choice, whether damage or the end comes within so many steps.

    Damage is a marked step, see `LatentEpisode.marked`. Damage is rare. In TakeCover an LSTM that
    this head trains memorises the recorded hits, and predicts those of other episodes worse.
    """

    name: str = "risk"
    trains_memory: ClassVar[bool] = False

    @property
    def feature_bound(self) -> float:
        return RISK_BOUND

    def features(
        self, mdnrnn: MDNRNN, z: Float[Tensor, "*batch Z"], h: Float[Tensor, "*batch H"]
    ) -> Float[Tensor, "*batch risks"]:
        """The log-odds of all risks, choice by choice for each horizon."""
        return self.predicted(mdnrnn, z, h).clamp(-RISK_BOUND, RISK_BOUND)

    def target(
        self, batch: SequenceBatch, horizon: int
    ) -> tuple[Float[Tensor, "B later"], Bool[Tensor, "B later"]]:
        """Whether damage or the end comes within the horizon; if it is known."""
        known, over, marked = following(batch, horizon, batch.terminated, batch.marked)
        return torch.maximum(over, marked).amax(-1), known

    def nll(
        self, outputs: Float[Tensor, "steps each"], target: Float[Tensor, " steps"]
    ) -> Float[Tensor, " steps"]:
        """Binary cross-entropy."""
        risks = outputs[:, 0].clamp(-RISK_BOUND, RISK_BOUND)
        return functional.binary_cross_entropy_with_logits(risks, target, reduction="none")

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
