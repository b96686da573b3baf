"""The batches of recorded steps that M and its heads learn from, and means over their known places.

Values where a mask is false may be anything, including NaN; they affect neither the loss nor its
gradient. For this a target is masked before a loss is computed from it: the gradient of NaN times 0
is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class SequenceBatch:
    """Windows of episodes, padded to one length: B windows of T steps and T + 1 frames."""

    mu: Float[Tensor, "B T_frames Z"]
    logvar: Float[Tensor, "B T_frames Z"]
    actions: Float[Tensor, "B T A"]
    rewards: Float[Tensor, "B T"]
    counts: Float[Tensor, "B T"]
    terminated: Float[Tensor, "B T"]
    marked: Float[Tensor, "B T"]
    """1 where the step is marked, see `LatentEpisode`."""
    first: Float[Tensor, "B T"]
    """1 where the step opens an episode (the paper's restart flag)."""
    valid: Bool[Tensor, "B T"]
    """The step exists."""
    next_known: Bool[Tensor, "B T"]
    """The step and the frame after it exist."""

    def sample_z(self, generator: torch.Generator) -> Float[Tensor, "B T_frames Z"]:
        """z = mu + sigma x noise: what M is trained on."""
        noise = torch.randn(self.mu.shape, generator=generator).to(self.mu.device)
        return self.mu + torch.exp(0.5 * self.logvar) * noise

    def to(self, device: torch.device) -> SequenceBatch:
        return SequenceBatch(*(getattr(self, f.name).to(device) for f in fields(self)))


def masked(values: Float[Tensor, "..."], mask: Bool[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The values, 0 where the mask is false.

    Args:
        values: of the mask's shape, or with further axes behind it.
        mask: where a value is known.

    Raises:
        ValueError: the mask is not boolean, or its shape is not the first axes of the values'.
    """
    check_mask(mask, values.shape[: mask.ndim])
    return torch.where(mask.reshape(*mask.shape, *[1] * (values.ndim - mask.ndim)), values, 0.0)


def masked_mean(values: Float[Tensor, "*batch"], mask: Bool[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """The mean of the values where the mask is true; 0 if it is true nowhere.

    Raises:
        ValueError: the mask is not boolean, or its shape is not that of the values.
    """
    check_mask(mask, values.shape)
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def check_mask(mask: Tensor, shape: torch.Size) -> None:
    """Checks that a mask is boolean and of a shape.

    Raises:
        ValueError: names what came and what is expected.
    """
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}: it must be torch.bool of shape "
            f"{tuple(shape)}"
        )
