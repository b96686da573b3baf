"""Gaussian mixtures with diagonal covariance, the output law of M, and the head that makes them.

Layout, mixtures first: log_weights (..., K, Z or 1), means and log_stds (..., K, Z).

    per-dimension  each z_i has weights of its own; log_prob (..., Z)       (the paper's)
    joint          one set of weights for the whole vector; log_prob (...)  (modes stay whole)

Sources: Bishop 1994; Ha & Schmidhuber 2018, A.2; Graves 2013, section 4.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

MixtureKind = Literal["per_dimension", "joint"]

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
MIN_LOG_STD = -7.0
MAX_LOG_STD = 7.0


class Mixture:
    """A batch of Gaussian mixtures: Σ_k w_k N(x; m_k, diag s_k²).

    `joint` is read off the weights' last axis: 1 there means joint. With Z = 1 the two kinds are
    the same law and it counts as per-dimension.
    """

    def __init__(
        self,
        log_weights: Float[Tensor, "..."],
        means: Float[Tensor, "..."],
        log_stds: Float[Tensor, "..."],
    ) -> None:
        """Wraps parameters as they are; nothing is copied or clamped.

        Args:
            log_weights: (..., K, Z), or (..., K, 1) for a joint mixture; any logits will do, they
                are normalised over K where that matters.
            means: (..., K, Z).
            log_stds: (..., K, Z).

        Raises:
            ValueError: the shapes don't belong together.
        """
        _check_shapes(log_weights.shape, means.shape, log_stds.shape)
        self.logits, self.means, self.log_stds = log_weights, means, log_stds

    @cached_property
    def log_weights(self) -> Float[Tensor, "..."]:
        """Normalised: logsumexp over K is 0. Sampling does without."""
        return self.logits.log_softmax(-2)

    @property
    def num_mixtures(self) -> int:
        return self.means.shape[-2]

    @property
    def latent_size(self) -> int:
        return self.means.shape[-1]

    @property
    def batch_shape(self) -> torch.Size:
        return self.means.shape[:-2]

    @property
    def joint(self) -> bool:
        return self.logits.shape[-1] == 1 != self.latent_size

    def log_prob(self, value: Float[Tensor, "*batch Z"]) -> Float[Tensor, "..."]:
        """Log density of `value`: (..., Z), one per dimension; for a joint mixture (...).

        ln Σ_k exp(ln w_k - (x - m_k)² / 2s_k² - ln s_k - ½ ln 2π); joint: the terms after ln w_k
        are summed over the dimensions first. Source: Bishop 1994, eqs. 22, 23.
        """
        log_normals = -0.5 * self._standardised(value).square() - self.log_stds - HALF_LOG_2PI
        if self.joint:
            return (self.log_weights.squeeze(-1) + log_normals.sum(-1)).logsumexp(-1)
        return (self.log_weights + log_normals).logsumexp(-2)

    def _standardised(self, value: Tensor) -> Tensor:
        """(x - m_k) / s_k, of shape (..., K, Z)."""
        return (value.unsqueeze(-2) - self.means) * torch.exp(-self.log_stds)

    def nll(self, value: Float[Tensor, "*batch Z"]) -> Float[Tensor, "*batch"]:
        """-ln p(value) / Z: nats per dimension, of either kind. Source: Bishop 1994, eq. 23."""
        log_prob = self.log_prob(value)
        return -log_prob / self.latent_size if self.joint else -log_prob.mean(-1)

    def sample(
        self, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*batch Z"]:
        """One value from each mixture."""
        uniforms = torch.empty_like(self.logits[..., 0, :]).uniform_(generator=generator)
        normals = torch.empty_like(self.means[..., 0, :]).normal_(generator=generator)
        return self.sample_from_noise(uniforms, normals, temperature)

    def sample_from_noise(
        self,
        uniforms: Float[Tensor, "..."],
        normals: Float[Tensor, "... Z"],
        temperature: float = 1.0,
    ) -> Float[Tensor, "*batch Z"]:
        """A value from each mixture, a function of the noise alone.

        Weights to the power 1/τ choose k, then m_k + s_k √τ ε. Source: Ha & Schmidhuber 2018, A.2
        and its released code (τ in sampling only, never in the loss).

        Args:
            uniforms: in [0, 1), (..., Z), or (..., 1) for a joint mixture.
            normals: standard normal. Both are broadcast to the batch: R rows serve (P, R).
            temperature: τ > 0.
        """
        component = self._choose(uniforms, temperature)
        means, stds = self._of(self.means, component), self._of(self.log_stds, component).exp_()
        return torch.addcmul(means, stds, normals, value=math.sqrt(temperature))

    def _choose(self, uniforms: Tensor, temperature: float) -> Tensor:
        """The component (..., 1, Z or 1) where the weights' running sum passes uniform x total.

        One uniform per choice; Gumbel noise would need K. Counting only the first K - 1 sums keeps
        the index valid whatever the rounding.
        """
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        logits = self.logits
        weights = (logits - logits.amax(-2, keepdim=True)).mul_(1 / temperature).exp_()
        running = weights.cumsum(-2)
        threshold = uniforms.unsqueeze(-2) * running[..., -1:, :]
        return (running[..., :-1, :] <= threshold).sum(-2, keepdim=True)

    def _of(self, parts: Tensor, component: Tensor) -> Tensor:
        """The chosen components' means or log_stds (..., Z)."""
        index = component.expand(*self.batch_shape, 1, self.latent_size)
        return torch.gather(parts, -2, index).squeeze(-2)

    @property
    def mean(self) -> Float[Tensor, "*batch Z"]:
        return (self.log_weights.exp() * self.means).sum(-2)

    @property
    def variance(self) -> Float[Tensor, "*batch Z"]:
        """Of each dimension: Σ_k w_k (s_k² + (m_k - mean)²). Source: Bishop 1994, eq. 47."""
        deviations = (self.means - self.mean.unsqueeze(-2)).square()
        return (self.log_weights.exp() * (torch.exp(2 * self.log_stds) + deviations)).sum(-2)

    @property
    def mode(self) -> Float[Tensor, "*batch Z"]:
        """The component mean at which the mixture's density is highest, not refined further.

        Per dimension each z_i has its own; of a joint mixture it is one component's whole mean.
        """
        density = self.log_prob(self.means.movedim(-2, 0))
        best = density.argmax(0)
        best = best[..., None, None] if self.joint else best.unsqueeze(-2)
        return self._of(self.means, best)

    def cdf(self, value: Float[Tensor, "*batch Z"]) -> Float[Tensor, "*batch Z"]:
        """P(z_i <= value_i) of each dimension; of a joint mixture, its marginals'."""
        each = torch.special.ndtr(self._standardised(value))
        return torch.sum(self.log_weights.exp() * each, -2)

    def pit(self, value: Float[Tensor, "*batch Z"]) -> Float[Tensor, "*batch Z"]:
        """Probability integral transform: uniform on [0, 1] where the mixture is the true law."""
        return self.cdf(value)


def mixture_loss(
    mixture: Mixture, value: Float[Tensor, "*batch Z"], mask: Bool[Tensor, "*batch"] | None = None
) -> Float[Tensor, ""]:
    """Mean nats per dimension over the places where `mask` is true (all, without one).

    -1/(N Z) Σ_n ln Σ_k w_k(n) N(x_n; m_k(n), s_k(n)²). Source: Bishop 1994, eq. 23.
    An empty mask gives 0.
    """
    nll = mixture.nll(value)
    if mask is None:
        return nll.mean()
    return torch.where(mask, nll, 0.0).sum() / mask.sum().clamp(min=1)


def mixture_size(latent_size: int, num_mixtures: int, kind: MixtureKind = "per_dimension") -> int:
    """Numbers that parametrise a mixture: 3KZ per-dimension, K(2Z + 1) joint."""
    weights = latent_size if kind == "per_dimension" else 1
    return num_mixtures * (2 * latent_size + weights)


def split_mixture(
    parameters: Float[Tensor, "*batch size"],
    latent_size: int,
    num_mixtures: int,
    kind: MixtureKind = "per_dimension",
    min_log_std: float = MIN_LOG_STD,
    max_log_std: float = MAX_LOG_STD,
) -> Mixture:
    """Raw outputs of a network, in the order logits, means, log_stds, as a mixture.

    Raises:
        ValueError: the last axis isn't `mixture_size` long.
    """
    if parameters.shape[-1] != mixture_size(latent_size, num_mixtures, kind):
        raise ValueError(
            f"{parameters.shape[-1]} parameters given, a {kind} mixture of {num_mixtures} over "
            f"{latent_size} dimensions has {mixture_size(latent_size, num_mixtures, kind)}"
        )
    rest = 2 * num_mixtures * latent_size
    logits, normals = parameters[..., :-rest], parameters[..., -rest:]
    batch = parameters.shape[:-1]
    means, log_stds = normals.reshape(*batch, 2, num_mixtures, latent_size).unbind(-3)
    logits = logits.reshape(*batch, num_mixtures, -1)
    return Mixture(logits, means, log_stds.clamp(min_log_std, max_log_std))


class MixtureHead(nn.Module):
    """A linear layer whose outputs are a mixture's parameters."""

    def __init__(
        self,
        hidden_size: int,
        latent_size: int,
        num_mixtures: int = 5,
        kind: MixtureKind = "per_dimension",
        min_log_std: float = MIN_LOG_STD,
        max_log_std: float = MAX_LOG_STD,
    ) -> None:
        super().__init__()
        self.latent_size, self.num_mixtures, self.kind = latent_size, num_mixtures, kind
        self.min_log_std, self.max_log_std = min_log_std, max_log_std
        self.linear = nn.Linear(hidden_size, mixture_size(latent_size, num_mixtures, kind))

    def forward(self, features: Float[Tensor, "*batch hidden"]) -> Mixture:
        return split_mixture(
            self.linear(features),
            self.latent_size,
            self.num_mixtures,
            self.kind,
            self.min_log_std,
            self.max_log_std,
        )


def _check_shapes(weights: torch.Size, means: torch.Size, log_stds: torch.Size) -> None:
    if means != log_stds:
        raise ValueError(f"means {tuple(means)} and log_stds {tuple(log_stds)} differ in shape")
    fits = len(means) >= 2 and weights[:-1] == means[:-1] and weights[-1] in (1, means[-1])
    if not fits or 0 in means[-2:]:
        raise ValueError(
            f"log_weights {tuple(weights)} must be (..., K, Z) or (..., K, 1), "
            f"and means {tuple(means)} (..., K, Z)"
        )
