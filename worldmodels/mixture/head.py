"""What makes mixtures: the raw outputs of a network, their head, and the loss they learn by.

Sources: Bishop 1994; Ha & Schmidhuber 2018, A.2; Graves 2013, section 4.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodels.mixture.law import Mixture

MixtureKind = Literal["per_dimension", "joint", "correlated"]

MIN_LOG_STD = -7.0
MAX_LOG_STD = 7.0
MAX_RAW_CORRELATION = 5.0
"""tanh of it is .99991: beyond, a normal is a line."""


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
    """Numbers that parametrise a mixture.

    3KZ per-dimension, K(2Z + 1) joint, K(2Z + 1 + Z(Z - 1)/2) correlated.
    """
    weights = latent_size if kind == "per_dimension" else 1
    return num_mixtures * (2 * latent_size + weights + _pairs(latent_size, kind))


def _pairs(latent_size: int, kind: MixtureKind) -> int:
    return latent_size * (latent_size - 1) // 2 if kind == "correlated" else 0


def split_mixture(
    parameters: Float[Tensor, "*batch size"],
    latent_size: int,
    num_mixtures: int,
    kind: MixtureKind = "per_dimension",
    min_log_std: float = MIN_LOG_STD,
    max_log_std: float = MAX_LOG_STD,
) -> Mixture:
    """Raw outputs of a network, in the order logits, means, log_stds, correlations, as a mixture.

    Raises:
        ValueError: the last axis isn't `mixture_size` long.
    """
    if parameters.shape[-1] != mixture_size(latent_size, num_mixtures, kind):
        raise ValueError(
            f"{parameters.shape[-1]} parameters given, a {kind} mixture of {num_mixtures} over "
            f"{latent_size} dimensions has {mixture_size(latent_size, num_mixtures, kind)}"
        )
    pairs = num_mixtures * _pairs(latent_size, kind)
    correlation = None
    if pairs:
        raw = parameters[..., -pairs:].unflatten(-1, (num_mixtures, -1))
        correlation = correlation_factor(raw, latent_size)
        parameters = parameters[..., :-pairs]
    rest = 2 * num_mixtures * latent_size
    logits, normals = parameters[..., :-rest], parameters[..., -rest:]
    batch = parameters.shape[:-1]
    means, log_stds = normals.reshape(*batch, 2, num_mixtures, latent_size).unbind(-3)
    logits = logits.reshape(*batch, num_mixtures, -1)
    return Mixture(logits, means, log_stds.clamp(min_log_std, max_log_std), correlation)


def correlation_factor(
    raw: Float[Tensor, "*batch pairs"], size: int
) -> Float[Tensor, "*batch {size} {size}"]:
    """Cholesky factor of a correlation matrix, from partial correlations tanh(raw).

    In two dimensions ρ = tanh(raw), as in Graves 2013, eq. 22. Source: Lewandowski, Kurowicka &
    Joe 2009.
    """
    rows, columns = torch.tril_indices(size, size, -1, device=raw.device)
    lower = raw.new_zeros(*raw.shape[:-1], size, size)
    lower[..., rows, columns] = raw.clamp(-MAX_RAW_CORRELATION, MAX_RAW_CORRELATION)
    left = torch.cosh(lower).reciprocal().cumprod(-1)  # what length the row has left: ∏ √(1 - ρ²)
    left = torch.cat([torch.ones_like(left[..., :1]), left[..., :-1]], -1)
    return (torch.tanh(lower) + torch.eye(size, dtype=raw.dtype, device=raw.device)) * left


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
