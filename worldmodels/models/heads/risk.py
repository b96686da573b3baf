"""The head that predicts the risk of damage after each choice of the next action.

Differs: the paper's M has no such head. It can weight a dream's rewards and be an input of C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn
from torch.nn import functional

from worldmodels.kernels.rows import present
from worldmodels.models.action import choices_of
from worldmodels.models.mdnrnn import MDNRNN, Head, Prediction
from worldmodels.models.sequence import SequenceBatch, masked, masked_mean

RISK_BOUND = 20.0
"""Log-odds are clamped to [-RISK_BOUND, RISK_BOUND]."""


@dataclass(frozen=True, kw_only=True)
class RiskHead(Head):
    """Risks: for each horizon and choice, whether damage or the end comes within so many steps.

    Damage is a marked step, see `LatentEpisode.marked`. The head has layers of its
    own that see the present z and the h that has seen all before it.
    """

    name: str = "risk"
    choices: int
    """Actions to choose from."""
    horizons: tuple[int, ...]
    """Steps."""
    hidden: tuple[int, ...] = (256, 256)
    """Units of the layers between; none: risks are linear in z and h."""
    dropout: float = 0.3
    """Share of each layer's inputs that is left out in training."""

    @property
    def num_features(self) -> int:
        return self.choices * len(self.horizons)

    @property
    def feature_bound(self) -> float:
        return RISK_BOUND

    def network(self, latent_size: int, hidden_size: int) -> nn.Module:
        sizes = latent_size + hidden_size, *self.hidden, self.num_features
        return nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))

    def features(
        self, mdnrnn: MDNRNN, z: Float[Tensor, "*batch Z"], h: Float[Tensor, "*batch H"]
    ) -> Float[Tensor, "*batch risks"]:
        """The log-odds of all risks, choice by choice for each horizon."""
        return self.log_odds(mdnrnn, z, h)

    def log_odds(
        self,
        mdnrnn: MDNRNN,
        z: Float[Tensor, "*batch Z"],
        h: Float[Tensor, "*batch H"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch risks"]:
        """The log-odds of all risks; products are of h's dtype.

        Args:
            mdnrnn: holds the layers.
            z: the present latents.
            h: has seen all before them.
            generator: of dropout, in training only.
        """
        seen = torch.cat([z.to(h.dtype), h], -1)
        for place, layer in enumerate(mdnrnn.layers_of(self).children()):
            seen = seen if place == 0 else torch.relu(seen)
            weight: Tensor = layer.get_parameter("weight")
            if generator is not None and self.dropout:
                mask, kept = dropout_mask(seen.shape, self.dropout, generator)
                seen, weight = seen * mask.to(seen), weight / kept
            bias = layer.get_parameter("bias").to(h.dtype)
            seen = functional.linear(seen, weight.to(h.dtype), bias)
        return seen.float().clamp(-RISK_BOUND, RISK_BOUND)

    def loss(
        self,
        prediction: Prediction,
        z: Float[Tensor, "B T_frames Z"],
        batch: SequenceBatch,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Binary cross-entropy, summed over the horizons, each a mean over known steps.

        Of a step's risks only that of the chosen action is known, and only if the episode ends
        within the horizon or continues beyond it. The last steps of a window are left out: an end
        after them would be known, its absence would not.
        """
        there = batch.valid[:, 1:]
        chosen = choices_of(batch.actions[:, 1:], self.choices)[there]
        seen = present(z[:, 1:-1], there), present(prediction.h[:, :-1], there)
        risks = self.log_odds(prediction.mdnrnn, *seen, generator)
        risks = (risks.unflatten(-1, (-1, self.choices)) * chosen[:, None]).sum(-1)
        losses = []
        for place, horizon in enumerate(self.horizons):
            target, known = (part[there] for part in _within(batch, horizon))
            loss = functional.binary_cross_entropy_with_logits(
                risks[:, place], masked(target, known), reduction="none"
            )
            losses.append(masked_mean(loss, known))
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
        risks = self.log_odds(mdnrnn, z, h).unflatten(-1, (-1, self.choices))
        n = min(self.horizons)
        log_odds = (risks[:, self.horizons.index(n)] * choices_of(actions, self.choices)).sum(-1)
        return torch.exp(functional.logsigmoid(-log_odds.double()) / n)


def _within(
    batch: SequenceBatch, horizon: int
) -> tuple[Float[Tensor, "B steps"], Bool[Tensor, "B steps"]]:
    """Whether damage or the end comes within the horizon, from the second step on; if known."""
    over, marked, valid = (
        events[:, 1:].unfold(1, horizon, 1)
        for events in (batch.terminated, batch.marked, batch.valid)
    )
    soon = torch.maximum(over, marked).amax(-1)
    known = valid[..., 0] & ((over.amax(-1) > 0) | valid[..., -1])
    return functional.pad(soon, (0, horizon - 1)), functional.pad(known, (0, horizon - 1))


def dropout_mask(
    shape: Sequence[int], dropout: float, generator: torch.Generator
) -> tuple[Bool[Tensor, "*shape"], float]:
    """What dropout keeps, and the share that it keeps on average.

    A random byte decides each number: an eighth of the cost of uniform numbers.

    Args:
        shape: of the mask.
        dropout: share to leave out, in [0, 1); rounded to a multiple of 1/256 below 1.
        generator: of the bytes.
    """
    bound, count = min(round(256 * dropout), 255), math.prod(shape)
    words = torch.empty(-(-count // 8), dtype=torch.int64)
    sampled = words.random_(-(2**63), None, generator=generator).view(torch.uint8)[:count]
    return sampled.view(*shape) >= bound, 1 - bound / 256
