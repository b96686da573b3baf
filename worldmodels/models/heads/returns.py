"""The head that predicts what the next steps earn after each choice of the next action.

Differs: the paper's M has no such head. Its predictions are an input of C.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from worldmodels.models.heads.choices import ChoiceHead, following
from worldmodels.models.heads.reward import BINS, LARGEST, expected, two_hot_nll
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.sequence import SequenceBatch


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

    def target(
        self, batch: SequenceBatch, horizon: int
    ) -> tuple[Float[Tensor, "B later"], Bool[Tensor, "B later"]]:
        """The sum of the rewards within the horizon; if it is known."""
        known, rewards = following(batch, horizon, batch.rewards)
        return rewards.sum(-1), known

    def nll(
        self, outputs: Float[Tensor, "steps bins"], target: Float[Tensor, " steps"]
    ) -> Float[Tensor, " steps"]:
        """The cross-entropy of the two-hot target."""
        return two_hot_nll(outputs, target)
