"""Gaussian mixtures: the output law of M and of its relatives.

Layout, mixtures first: log_weights (..., K, Z or 1), means and log_stds (..., K, Z).

    per-dimension  each z_i has weights of its own; log_prob (..., Z)       (the paper's)
    joint          one set of weights for the whole vector; log_prob (...)  (modes stay whole)
    correlated     joint, and each normal has a correlation matrix too      (Graves' strokes)

Sources: Bishop 1994; Ha & Schmidhuber 2018, A.2; Graves 2013, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodels.kernels.mixture import HALF_LOG_2PI as HALF_LOG_2PI
from worldmodels.kernels.mixture import MAX_LOG_STD as MAX_LOG_STD
from worldmodels.kernels.mixture import MIN_LOG_STD as MIN_LOG_STD

BISECTIONS = 60
"""Halvings of a quantile's bracket: more than a float64 has bits."""


class Mixture:
    """A batch of Gaussian mixtures: Σ_k w_k N(x; m_k, S_k L_k L_kᵀ S_k), S_k = diag s_k.

    L_k is the Cholesky factor of a correlation matrix, without `correlation` the identity.

    `joint` is read off the weights' last axis: 1 there means joint. With Z = 1 the two kinds are
    the same law and it counts as per-dimension.
    """

    def __init__(
        self,
        log_weights: Float[Tensor, "..."],
        means: Float[Tensor, "..."],
        log_stds: Float[Tensor, "..."],
        correlation: Float[Tensor, "..."] | None = None,
    ) -> None:
        """Wraps parameters as they are; nothing is copied or clamped.

        Args:
            log_weights: (..., K, Z), or (..., K, 1) for a joint mixture; any logits will do, they
                are normalised over K where that matters.
            means: (..., K, Z).
            log_stds: (..., K, Z).
            correlation: (..., K, Z, Z), lower triangles L with rows of length 1; joint only. In two
                dimensions L[1, 0] is ρ.

        Raises:
            ValueError: the shapes don't belong together.
        """
        _check_shapes(log_weights.shape, means.shape, log_stds.shape)
        if correlation is not None:
            _check_correlation(log_weights.shape, means.shape, correlation.shape)
        self.logits, self.means, self.log_stds = log_weights, means, log_stds
        self.correlation = correlation

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
        are summed over the dimensions first; correlated: with L⁻¹ (x - m_k) / s_k and ln L_ii.
        Source: Bishop 1994, eqs. 22, 23; Graves 2013, eqs. 24, 25.
        """
        deviations, log_stds = self._standardised(value), self.log_stds
        if self.correlation is not None:
            deviations = _solved(self.correlation, deviations)
            log_stds = log_stds + self.correlation.diagonal(dim1=-2, dim2=-1).log()
        log_normals = -0.5 * deviations.square() - log_stds - HALF_LOG_2PI
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
        self,
        temperature: float | Temperature = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch Z"]:
        """One value from each mixture; a float means `Temperature.world_models`."""
        uniforms = torch.empty_like(self.logits[..., 0, :]).uniform_(generator=generator)
        normals = torch.empty_like(self.means[..., 0, :]).normal_(generator=generator)
        return self.sample_from_noise(uniforms, normals, temperature)

    def sample_from_noise(
        self,
        uniforms: Float[Tensor, "..."],
        normals: Float[Tensor, "... Z"],
        temperature: float | Temperature = 1.0,
    ) -> Float[Tensor, "*batch Z"]:
        """A value from each mixture, a function of the noise alone.

        Weights to the power 1/τ choose k, then m_k + s_k √τ L_k ε. Source: Ha & Schmidhuber 2018,
        A.2 and its released code (τ in sampling only, never in the loss).

        Args:
            uniforms: in [0, 1), (..., Z), or (..., 1) for a joint mixture.
            normals: standard normal. Both are broadcast to the batch: R rows serve (P, R).
            temperature: τ > 0, or another convention.
        """
        scales = Temperature.of(temperature)
        component = self._choose(uniforms, scales.logits)
        means, stds = self._of(self.means, component), self._of(self.log_stds, component).exp_()
        if self.correlation is not None:
            normals = self._correlated(normals, component)
        return torch.addcmul(means, stds, normals, value=scales.stds)

    def _choose(self, uniforms: Tensor, scale: float) -> Tensor:
        """The component (..., 1, Z or 1) where the weights' running sum passes uniform x total.

        One uniform per choice; Gumbel noise would need K. Counting only the first K - 1 sums keeps
        the index valid whatever the rounding.
        """
        logits = self.logits
        weights = (logits - logits.amax(-2, keepdim=True)).mul_(scale).exp_()
        running = weights.cumsum(-2)
        threshold = uniforms.unsqueeze(-2) * running[..., -1:, :]
        return (running[..., :-1, :] <= threshold).sum(-2, keepdim=True)

    def _of(self, parts: Tensor, component: Tensor) -> Tensor:
        """The chosen components' means or log_stds (..., Z)."""
        index = component.expand(*self.batch_shape, 1, self.latent_size)
        return torch.gather(parts, -2, index).squeeze(-2)

    def _correlated(self, normals: Tensor, component: Tensor) -> Tensor:
        """L ε of the chosen components."""
        assert self.correlation is not None
        index = component[..., None].expand(*self.batch_shape, 1, *self.correlation.shape[-2:])
        factors = torch.gather(self.correlation, -3, index).squeeze(-3)
        return (factors * normals.unsqueeze(-2)).sum(-1)

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

    def quantile(self, p: Float[Tensor, "*batch Z"]) -> Float[Tensor, "*batch Z"]:
        """Where `cdf` is p, in (0, 1); of a joint mixture, its marginals'.

        By bisection: it lies between the least and the greatest of the normals' own quantiles.
        """
        each = self.means + torch.exp(self.log_stds) * torch.special.ndtri(p).unsqueeze(-2)
        low, high = each.amin(-2), each.amax(-2)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            below = self.cdf(middle) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def entropy(
        self, num_samples: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "..."]:
        """Estimate of -E ln p in nats, from samples; of the shape of `log_prob`.

        There is no closed form. Its standard error falls with the square root of the samples.
        """
        total = sum(self.log_prob(self.sample(1.0, generator)) for _ in range(num_samples))
        return -torch.as_tensor(total) / num_samples

    def pit(self, value: Float[Tensor, "*batch Z"]) -> Float[Tensor, "*batch Z"]:
        """Probability integral transform: uniform on [0, 1] where the mixture is the true law."""
        return self.cdf(value)


def _check_shapes(weights: torch.Size, means: torch.Size, log_stds: torch.Size) -> None:
    if means != log_stds:
        raise ValueError(f"means {tuple(means)} and log_stds {tuple(log_stds)} differ in shape")
    fits = len(means) >= 2 and weights[:-1] == means[:-1] and weights[-1] in (1, means[-1])
    if not fits or 0 in means[-2:]:
        raise ValueError(
            f"log_weights {tuple(weights)} must be (..., K, Z) or (..., K, 1), "
            f"and means {tuple(means)} (..., K, Z)"
        )


def _check_correlation(weights: torch.Size, means: torch.Size, correlation: torch.Size) -> None:
    if weights[-1] != 1 or correlation != (*means, means[-1]):
        raise ValueError(
            f"correlation {tuple(correlation)} must be (..., K, Z, Z) for means {tuple(means)} "
            f"(..., K, Z), and the weights joint, (..., K, 1), not {tuple(weights)}"
        )


def _solved(factors: Tensor, values: Tensor) -> Tensor:
    """y of L y = x for lower triangles (..., Z, Z), by forward substitution.

    A few products over the whole batch; LAPACK goes through small matrices one by one.
    """
    found: list[Tensor] = []
    for i in range(values.shape[-1]):
        rest = values[..., i]
        for j, known in enumerate(found):
            rest = rest - factors[..., i, j] * known
        found.append(rest / factors[..., i, i])
    return torch.stack(found, -1)


@dataclass(frozen=True)
class Temperature:
    """Factors of the weights' logits and of the standard deviations, in sampling only."""

    logits: float = 1.0
    stds: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.logits < math.inf and 0 < self.stds < math.inf):
            raise ValueError(
                f"temperature must be positive and finite, not logits x {self.logits}, "
                f"stds x {self.stds}"
            )

    @classmethod
    def world_models(cls, mixture: float, sigma: float | None = None) -> Temperature:
        """Logits / τ, stds x √τ; σ has a τ of its own where it is given.

        Source: Ha & Schmidhuber 2018, A.2; two temperatures: Martin & Torresen 2018, keras-mdn.
        """
        sigma = mixture if sigma is None else sigma
        if not (mixture > 0 and sigma > 0):
            raise ValueError(f"temperature must be positive, not {mixture}, {sigma}")
        return cls(1 / mixture, math.sqrt(sigma))

    @classmethod
    def graves(cls, bias: float) -> Temperature:
        """Logits x (1 + b), stds x exp(-b); b = 0 changes nothing.

        Source: Graves 2013, eqs. 61, 62.
        """
        return cls(1 + bias, math.exp(-bias))

    @classmethod
    def magenta(cls, mixture: float) -> Temperature:
        """Logits / τ, stds x τ². Source: sketch-rnn's released code (its paper: stds x √τ)."""
        if not mixture > 0:
            raise ValueError(f"temperature must be positive, not {mixture}")
        return cls(1 / mixture, mixture**2)

    @classmethod
    def of(cls, temperature: float | Temperature) -> Temperature:
        """Itself; a number is the agent's: `world_models`."""
        return (
            temperature if isinstance(temperature, Temperature) else cls.world_models(temperature)
        )


MixtureKind = Literal["per_dimension", "joint", "correlated"]

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
