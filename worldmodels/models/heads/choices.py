"""Heads that predict what follows each choice of the next action.

Differs: the paper's M has no such heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from worldmodels.kernels.rows import present
from worldmodels.models.action import choices_of
from worldmodels.models.mdnrnn import MDNRNN, Head, Prediction
from worldmodels.models.sequence import SequenceBatch, masked_mean


@dataclass(frozen=True, kw_only=True)
class ChoiceHead(Head):
    """Something about the next steps, for each horizon and choice.

    The head has layers of its own that see the present z and the h that has seen all before it.
    """

    choices: int
    """Actions to choose from."""
    horizons: tuple[int, ...]
    """Steps."""
    hidden: tuple[int, ...] = (256, 256)
    """Units of the layers between; none: the outputs are linear in z and h."""
    dropout: float = 0.3
    """Share of each layer's inputs that is left out in training."""
    trains_memory: ClassVar[bool] = True
    """Whether the loss also trains the LSTM, not only the head's own layers."""

    @property
    def num_features(self) -> int:
        return self.choices * len(self.horizons)

    @property
    def outputs_each(self) -> int:
        """Outputs for a horizon and a choice."""
        return 1

    def network(self, latent_size: int, hidden_size: int) -> nn.Module:
        outputs = self.num_features * self.outputs_each
        sizes = latent_size + hidden_size, *self.hidden, outputs
        return nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))

    def predicted(
        self,
        mdnrnn: MDNRNN,
        z: Float[Tensor, "*batch Z"],
        h: Float[Tensor, "*batch H"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch outputs"]:
        """The outputs, choice by choice for each horizon; products are of h's dtype.

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
        return seen.float()

    def loss(
        self,
        prediction: Prediction,
        z: Float[Tensor, "B T_frames Z"],
        batch: SequenceBatch,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """`nll`, summed over the horizons, each a mean over the steps whose target is known.

        Of a step only what follows the chosen action is known. The first step of a window is left
        out, as no h has seen what was before it.
        """
        there = batch.valid[:, 1:]
        chosen = choices_of(batch.actions[:, 1:], self.choices)[there].argmax(-1)
        h = prediction.h[:, :-1] if self.trains_memory else prediction.h[:, :-1].detach()
        seen = present(z[:, 1:-1], there), present(h, there)
        outputs = self.predicted(prediction.mdnrnn, *seen, generator)
        outputs = outputs.unflatten(-1, (-1, self.choices, self.outputs_each))
        outputs = torch.take_along_dim(outputs, chosen[:, None, None, None], -2)[..., 0, :]
        losses = []
        for place, horizon in enumerate(self.horizons):
            target, known = (part[there] for part in self.target(batch, horizon))
            losses.append(masked_mean(self.nll(outputs[:, place], target), known))
        return torch.stack(losses).sum()

    def target(
        self, batch: SequenceBatch, horizon: int
    ) -> tuple[Float[Tensor, "B later"], Bool[Tensor, "B later"]]:
        """What the outputs for a horizon predict, from the second step on; if it is known."""
        raise NotImplementedError

    def nll(
        self, outputs: Float[Tensor, "steps each"], target: Float[Tensor, " steps"]
    ) -> Float[Tensor, " steps"]:
        """Negative log-likelihood."""
        raise NotImplementedError


def following(
    batch: SequenceBatch, horizon: int, *labels: Float[Tensor, "B T"]
) -> Iterator[Tensor]:
    """What is known of the steps within a horizon, for each step from the second on.

    It is known if the episode ends within the horizon or the window continues beyond it. The last
    steps of a window are left out: an end after them would be known, its absence would not.

    Args:
        batch: the windows.
        horizon: steps.
        labels: of each step.

    Yields:
        Whether it is known, (B, T - 1); then each label in the horizon's steps, (B, T - 1,
        horizon), 0 where a step does not exist.
    """
    valid, rest = batch.valid[:, 1:].unfold(1, horizon, 1), horizon - 1
    over, *steps = (
        torch.where(valid, label[:, 1:].unfold(1, horizon, 1), 0.0)
        for label in (batch.terminated, *labels)
    )
    known = valid[..., 0] & ((over.amax(-1) > 0) | valid[..., -1])
    yield functional.pad(known, (0, rest))
    yield from (functional.pad(one, (0, 0, 0, rest)) for one in steps)


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
