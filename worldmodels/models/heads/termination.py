"""The head that predicts the end of an episode: it ends a dream, or weights its rewards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from worldmodels.models.mdnrnn import MDNRNN, Head, Prediction
from worldmodels.models.sequence import SequenceBatch, masked, masked_mean


@dataclass(frozen=True, kw_only=True)
class TerminationHead(Head):
    """Learns which steps end an episode. Its output is the logit of the end."""

    name: str = "termination"
    size: int = 1
    positive_weight: float = 10.0
    """Weight of the steps that end an episode."""

    def loss(
        self,
        prediction: Prediction,
        z: Float[Tensor, "B T_frames Z"],
        batch: SequenceBatch,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Mean `cross_entropy` of the steps."""
        logits = prediction.outputs(self.name)[..., 0]
        target = masked(batch.terminated, batch.valid)
        return masked_mean(self.cross_entropy(logits, target), batch.valid)

    def cross_entropy(
        self, logits: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """Binary cross-entropy; ends weigh `positive_weight`.

        Source: the released code, which gives them 10 for Doom.
        """
        return functional.binary_cross_entropy_with_logits(
            logits, target, reduction="none", pos_weight=logits.new_tensor(self.positive_weight)
        )

    def ends(self, outputs: Float[Tensor, "n 1"]) -> Float[Tensor, " n"]:
        return outputs[:, 0]

    def survives(
        self,
        mdnrnn: MDNRNN,
        z: Float[Tensor, "n Z"],
        h: Float[Tensor, "n H"],
        actions: Float[Tensor, "n A"],
        outputs: Float[Tensor, "n 1"],
    ) -> Float64[Tensor, " n"]:
        return torch.sigmoid(-outputs[:, 0].double())
