"""The batches of recorded steps that M and its heads learn from."""

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
    """1 where the world marks the step, see `LatentEpisode`."""
    first: Float[Tensor, "B T"]
    """1 where the step opens an episode (the paper's restart flag)."""
    valid: Bool[Tensor, "B T"]
    """The step exists."""
    next_known: Bool[Tensor, "B T"]
    """The step and the frame after it exist."""

    def sample_z(
        self, generator: torch.Generator, latent_noise: float = 1.0
    ) -> Float[Tensor, "B T_frames Z"]:
        """z = mu + latent_noise x sigma x noise: what M is trained on."""
        noise = torch.randn(self.mu.shape, generator=generator).to(self.mu.device)
        return self.mu + latent_noise * torch.exp(0.5 * self.logvar) * noise

    def to(self, device: torch.device) -> SequenceBatch:
        return SequenceBatch(*(getattr(self, f.name).to(device) for f in fields(self)))
