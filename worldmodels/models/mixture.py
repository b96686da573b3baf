"""Gaussian mixtures: what M and the gallery's networks predict with.

A mixture is Σ_k w_k N(x; m_k, S_k L_k L_kᵀ S_k) with S_k = diag(s_k). Mixtures come first in its
parameters: log_weights (..., K, Z) or (..., K, 1), means and log_stds (..., K, Z). There are three
kinds:

    per_dimension  each z_i has its own weights; log_prob is (..., Z). The paper's.
    joint          the whole vector has one set of weights, (..., K, 1); log_prob is (...).
    correlated     a joint mixture whose normals have correlation matrices L_k L_kᵀ too.

Sources: Bishop 1994; Ha & Schmidhuber 2018, A.2; Graves 2013, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from worldmodels.kernels.mixture import HALF_LOG_2PI as HALF_LOG_2PI
from worldmodels.kernels.mixture import MAX_LOG_STD as MAX_LOG_STD
from worldmodels.kernels.mixture import MIN_LOG_STD as MIN_LOG_STD
from worldmodels.models.sequence import masked, masked_mean

MixtureKind = Literal["per_dimension", "joint", "correlated"]

BISECTIONS = 60
"""Steps of the bisection for a quantile: more than a float64 has bits."""

MAX_RAW_CORRELATION = 5.0
"""tanh(5) is .99991; a normal with a larger correlation is nearly a line."""


@dataclass(frozen=True)
class Temperature:
    """Factors of the logits and of the standard deviations, used in sampling only."""

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
        """Divides the logits by τ and multiplies the stds by √τ.

        Source: Ha & Schmidhuber 2018, A.2; a separate τ for σ: Martin & Torresen 2018, keras-mdn.

        Args:
            mixture: τ of the logits.
            sigma: τ of the stds; none: the same.
        """
        sigma = mixture if sigma is None else sigma
        if not (mixture > 0 and sigma > 0):
            raise ValueError(f"temperature must be positive, not {mixture}, {sigma}")
        return cls(1 / mixture, math.sqrt(sigma))

    @classmethod
    def graves(cls, bias: float) -> Temperature:
        """Multiplies the logits by 1 + b and the stds by exp(-b); b = 0 changes nothing.

        Source: Graves 2013, eqs. 61, 62.
        """
        return cls(1 + bias, math.exp(-bias))

    @classmethod
    def magenta(cls, mixture: float) -> Temperature:
        """Divides the logits by τ and multiplies the stds by τ².

        Source: sketch-rnn's released code. Its paper has √τ.
        """
        if not mixture > 0:
            raise ValueError(f"temperature must be positive, not {mixture}")
        return cls(1 / mixture, mixture**2)

    @classmethod
    def of(cls, temperature: float | Temperature) -> Temperature:
        """A number as `world_models` reads it; a Temperature as it is."""
        if isinstance(temperature, Temperature):
            return temperature
        return cls.world_models(temperature)


class Mixture:
    """A batch of Gaussian mixtures.

    Whether it is joint is read off the weights' last axis: 1 means joint. With Z = 1 both kinds are
    the same law, and the mixture counts as per-dimension.
    """

    def __init__(
        self,
        log_weights: Float[Tensor, "..."],
        means: Float[Tensor, "..."],
        log_stds: Float[Tensor, "..."],
        correlation: Float[Tensor, "..."] | None = None,
    ) -> None:
        """Wraps the parameters; nothing is copied or clamped.

        Args:
            log_weights: (..., K, Z), or (..., K, 1) for a joint mixture. Any logits: they are
                normalised over K where that matters.
            means: (..., K, Z).
            log_stds: (..., K, Z).
            correlation: (..., K, Z, Z), lower triangles L with rows of length 1; joint mixtures
                only. In two dimensions L[1, 0] is ρ.

        Raises:
            ValueError: the shapes do not fit together.
        """
        _check_parameters(log_weights.shape, means.shape, log_stds.shape)
        if correlation is not None:
            _check_correlation(log_weights.shape, means.shape, correlation.shape)
        self.logits, self.means, self.log_stds = log_weights, means, log_stds
        self.correlation = correlation

    @cached_property
    def log_weights(self) -> Float[Tensor, "..."]:
        """Normalised: their logsumexp over K is 0."""
        return self.logits.log_softmax(-2)

    @cached_property
    def weights(self) -> Float[Tensor, "..."]:
        """Normalised: their sum over K is 1."""
        return self.logits.softmax(-2)

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
        """The log density: (..., Z), one per dimension; (...) for a joint mixture.

        ln Σ_k exp(ln w_k - d_k²/2 - ln s_k - ½ ln 2π) with d_k = (x - m_k) / s_k. In a joint
        mixture the terms after ln w_k are summed over the dimensions first. With correlations d_k
        is L_k⁻¹ (x - m_k) / s_k, and ln of L_k's diagonal is added to ln s_k.
        Source: Bishop 1994, eqs. 22, 23; Graves 2013, eqs. 24, 25.

        Raises:
            ValueError: the value's shape does not fit.
        """
        self.check_value(value)
        deviations, log_stds = self._standardised(value), self.log_stds
        if self.correlation is not None:
            deviations = _solved(self.correlation, deviations)
            log_stds = log_stds + self.correlation.diagonal(dim1=-2, dim2=-1).log()
        log_normals = -0.5 * deviations.square() - log_stds - HALF_LOG_2PI
        if self.joint:
            return (self.log_weights.squeeze(-1) + log_normals.sum(-1)).logsumexp(-1)
        return (self.log_weights + log_normals).logsumexp(-2)

    def nll(self, value: Float[Tensor, "*batch Z"]) -> Float[Tensor, "*batch"]:
        """-ln p(value) / Z, nats per dimension, for all kinds. Source: Bishop 1994, eq. 23."""
        log_prob = self.log_prob(value)
        return -log_prob / self.latent_size if self.joint else -log_prob.mean(-1)

    def sample(
        self,
        temperature: float | Temperature = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch Z"]:
        """One sample of each mixture; a number means `Temperature.world_models`."""
        uniforms = torch.empty_like(self.logits[..., 0, :]).uniform_(generator=generator)
        normals = torch.empty_like(self.means[..., 0, :]).normal_(generator=generator)
        return self.sample_from_noise(uniforms, normals, temperature)

    def sample_from_noise(
        self,
        uniforms: Float[Tensor, "..."],
        normals: Float[Tensor, "... Z"],
        temperature: float | Temperature = 1.0,
    ) -> Float[Tensor, "*batch Z"]:
        """One sample of each mixture, determined by the noise.

        Weights to the power 1/τ choose k; the sample is m_k + s_k √τ L_k ε.
        Source: Ha & Schmidhuber 2018, A.2 and its released code.

        Args:
            uniforms: in [0, 1), (..., Z), or (..., 1) for a joint mixture.
            normals: standard normal, (..., Z). Both broadcast to the batch.
            temperature: τ > 0, or a Temperature.

        Raises:
            ValueError: the shape of the noise does not fit.
        """
        self._check_noise("uniforms", uniforms, self.logits.shape[-1])
        self._check_noise("normals", normals, self.latent_size)
        scales = Temperature.of(temperature)
        component = self._choose(uniforms, scales.logits)
        means, stds = self._of(self.means, component), self._of(self.log_stds, component).exp_()
        if self.correlation is not None:
            normals = self._correlated(normals, component)
        return torch.addcmul(means, stds, normals, value=scales.stds)

    @property
    def mean(self) -> Float[Tensor, "*batch Z"]:
        return (self.weights * self.means).sum(-2)

    @property
    def variance(self) -> Float[Tensor, "*batch Z"]:
        """Of each dimension: Σ_k w_k (s_k² + (m_k - mean)²). Source: Bishop 1994, eq. 47."""
        deviations = (self.means - self.mean.unsqueeze(-2)).square()
        return (self.weights * (torch.exp(2 * self.log_stds) + deviations)).sum(-2)

    def cdf(self, value: Float[Tensor, "*batch Z"]) -> Float[Tensor, "*batch Z"]:
        """P(z_i <= value_i) of each dimension; of the marginals in a joint mixture.

        At observed values this is the probability integral transform.

        Raises:
            ValueError: the value's shape does not fit.
        """
        self.check_value(value)
        return self._below(self._standardised(value))

    def quantile(self, p: Float[Tensor, "*batch Z"]) -> Float[Tensor, "*batch Z"]:
        """The value at which `cdf` is p; of the marginals in a joint mixture.

        Found by bisection between the least and the greatest quantile of the components. Above the
        median the upper tail is compared with 1 - p, for which no digits are lost.

        Args:
            p: in (0, 1).

        Raises:
            ValueError: p's shape does not fit, or it is outside (0, 1).
        """
        self.check_value(p, "p")
        if not ((p > 0) & (p < 1)).all():
            raise ValueError(
                f"p must be in (0, 1), but its values are from {p.min():g} to {p.max():g}"
            )
        upper = p > 0.5
        tail, sign = torch.where(upper, 1 - p, p), torch.where(upper, -1.0, 1.0).to(p.dtype)
        each = self.means + torch.exp(self.log_stds) * torch.special.ndtri(p).unsqueeze(-2)
        low, high = each.amin(-2), each.amax(-2)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            found = self._below(self._standardised(middle) * sign.unsqueeze(-2))
            below = torch.where(upper, found > tail, found < tail)
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def _standardised(self, value: Tensor) -> Tensor:
        """(x - m_k) / s_k, of shape (..., K, Z)."""
        return (value.unsqueeze(-2) - self.means) * torch.exp(-self.log_stds)

    def _below(self, deviations: Tensor) -> Tensor:
        """Σ_k w_k Φ(d_k). In the lower tail erf is rounded to -1, erfc is not."""
        each = 0.5 * torch.erfc(deviations * -math.sqrt(0.5))
        return (self.weights * each).sum(-2).clamp(max=1)  # the weights' sum may exceed 1 by 2e-7

    def _choose(self, uniforms: Tensor, scale: float) -> Tensor:
        """The component (..., 1, Z or 1) where the running sum of weights passes uniform x sum."""
        logits = self.logits
        weights = (logits - logits.amax(-2, keepdim=True)).mul_(scale).exp_()
        running = weights.cumsum(-2)
        threshold = uniforms.unsqueeze(-2) * running[..., -1:, :]
        # the last sum is left out, so that rounding never makes the index invalid
        return (running[..., :-1, :] <= threshold).sum(-2, keepdim=True)

    def _of(self, parts: Tensor, component: Tensor) -> Tensor:
        index = component.expand(*self.batch_shape, 1, self.latent_size)
        return torch.gather(parts, -2, index).squeeze(-2)

    def _correlated(self, normals: Tensor, component: Tensor) -> Tensor:
        """L ε of the chosen components."""
        assert self.correlation is not None
        index = component[..., None].expand(*self.batch_shape, 1, *self.correlation.shape[-2:])
        factors = torch.gather(self.correlation, -3, index).squeeze(-3)
        return (factors * normals.unsqueeze(-2)).sum(-1)

    def check_value(self, value: Tensor, name: str = "value") -> None:
        """Raises a ValueError unless a tensor is floating point and broadcasts to (..., Z)."""
        if not value.is_floating_point():
            raise ValueError(f"{name} is {value.dtype}: it must be floating point")
        self._check_noise(name, value, self.latent_size)

    def _check_noise(self, name: str, value: Tensor, size: int) -> None:
        shape, batch = value.shape, self.batch_shape
        if not shape or shape[-1] != size or not _broadcastable(shape[:-1], batch):
            raise ValueError(f"{name} has shape {tuple(shape)}: it must be {(*batch, size)}")


def split_mixture(
    parameters: Float[Tensor, "*batch size"],
    latent_size: int,
    num_mixtures: int,
    kind: MixtureKind = "per_dimension",
) -> Mixture:
    """The mixture of a network's raw outputs: logits, means, log_stds, correlations, in this order.

    Raises:
        ValueError: the last axis is not `mixture_size` long.
    """
    if parameters.shape[-1] != mixture_size(latent_size, num_mixtures, kind):
        raise ValueError(
            f"{parameters.shape[-1]} parameters given, a {kind} mixture of {num_mixtures} over "
            f"{latent_size} dimensions has {mixture_size(latent_size, num_mixtures, kind)}"
        )
    each = num_mixtures * latent_size
    pairs = num_mixtures * _pairs(latent_size, kind)
    sizes = parameters.shape[-1] - 2 * each - pairs, each, each, pairs
    logits, means, log_stds, raw = (
        part.unflatten(-1, (num_mixtures, part.shape[-1] // num_mixtures))
        for part in parameters.split(sizes, -1)
    )
    correlation = correlation_factor(raw, latent_size) if pairs else None
    return Mixture(logits, means, clamp_log_stds(log_stds), correlation)


def mixture_size(latent_size: int, num_mixtures: int, kind: MixtureKind = "per_dimension") -> int:
    """The number of parameters of a mixture.

    3KZ per-dimension, K(2Z + 1) joint, K(2Z + 1 + Z(Z - 1)/2) correlated.
    """
    weights = latent_size if kind == "per_dimension" else 1
    return num_mixtures * (2 * latent_size + weights + _pairs(latent_size, kind))


def _pairs(latent_size: int, kind: MixtureKind) -> int:
    return latent_size * (latent_size - 1) // 2 if kind == "correlated" else 0


def clamp_log_stds(raw: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """clamp(raw, MIN_LOG_STD, MAX_LOG_STD), with a gradient that leads back into this range.

    Outside the range the gradient is passed on where a step against it moves `raw` inwards, and is
    zero elsewhere. With clamp's own gradient a network that starts outside never learns.
    """
    return _ClampInwards.apply(raw)  # type: ignore[no-untyped-call]


class _ClampInwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        ctx.save_for_backward(raw)
        return raw.clamp(MIN_LOG_STD, MAX_LOG_STD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (raw,) = ctx.saved_tensors
        passed = ((raw >= MIN_LOG_STD) | (slope < 0)) & ((raw <= MAX_LOG_STD) | (slope > 0))
        return slope * passed


def correlation_factor(
    raw: Float[Tensor, "*batch pairs"], size: int
) -> Float[Tensor, "*batch {size} {size}"]:
    """The Cholesky factor of a correlation matrix, from partial correlations tanh(raw).

    In two dimensions ρ = tanh(raw), as in Graves 2013, eq. 22. Source: Lewandowski, Kurowicka &
    Joe 2009.
    """
    rows, columns = torch.tril_indices(size, size, -1, device=raw.device)
    lower = raw.new_zeros(*raw.shape[:-1], size, size)
    lower[..., rows, columns] = raw.clamp(-MAX_RAW_CORRELATION, MAX_RAW_CORRELATION)
    left = torch.cosh(lower).reciprocal().cumprod(-1)  # the length a row has left: ∏ √(1 - ρ²)
    left = torch.cat([torch.ones_like(left[..., :1]), left[..., :-1]], -1)
    return (torch.tanh(lower) + torch.eye(size, dtype=raw.dtype, device=raw.device)) * left


class MixtureHead(nn.Module):
    """A linear layer whose outputs are the parameters of a mixture."""

    def __init__(
        self,
        hidden_size: int,
        latent_size: int,
        num_mixtures: int = 5,
        kind: MixtureKind = "per_dimension",
    ) -> None:
        super().__init__()
        self.latent_size, self.num_mixtures, self.kind = latent_size, num_mixtures, kind
        self.linear = nn.Linear(hidden_size, mixture_size(latent_size, num_mixtures, kind))

    def forward(self, features: Float[Tensor, "*batch hidden"]) -> Mixture:
        raw = self.linear(features)
        return split_mixture(raw, self.latent_size, self.num_mixtures, self.kind)


def mixture_loss(
    mixture: Mixture, value: Float[Tensor, "*batch Z"], mask: Bool[Tensor, "*batch"] | None = None
) -> Float[Tensor, ""]:
    """Mean nats per dimension over the places where `mask` is true; over all without a mask.

    -1/(N Z) Σ_n ln Σ_k w_k(n) N(x_n; m_k(n), s_k(n)²). Source: Bishop 1994, eq. 23.
    Without any place it is 0. Where the mask is false, the value may be NaN.

    Raises:
        ValueError: the shapes do not fit.
    """
    mixture.check_value(value)
    nll = mixture.nll(value if mask is None else masked(value, mask))
    return masked_mean(nll, torch.ones_like(nll, dtype=torch.bool) if mask is None else mask)


def _solved(factors: Tensor, values: Tensor) -> Tensor:
    """y of L y = x by forward substitution; LAPACK handles small matrices one by one."""
    found: list[Tensor] = []
    for i in range(values.shape[-1]):
        rest = values[..., i]
        for j, known in enumerate(found):
            rest = rest - factors[..., i, j] * known
        found.append(rest / factors[..., i, i])
    return torch.stack(found, -1)


def _broadcastable(a: torch.Size, b: torch.Size) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))


def _check_parameters(weights: torch.Size, means: torch.Size, log_stds: torch.Size) -> None:
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
