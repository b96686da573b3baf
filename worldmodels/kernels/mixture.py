"""M's last layer and the loss of its mixtures in one function, with products of the type of h.

The kernel trusts the shapes of what it gets: M builds them. What is not the product is float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from worldmodels.kernels.fastmath import exp, kernel, log, narrowed, on_threads, widened
from worldmodels.kernels.patches import bits

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
MIN_LOG_STD, MAX_LOG_STD = -7.0, 7.0
"""The range of the mixtures' log standard deviations; what a network says beyond is clamped."""

F = np.float32
HALF_LOG_2PI_F, LOWEST, HIGHEST = F(HALF_LOG_2PI), F(MIN_LOG_STD), F(MAX_LOG_STD)


class MixtureNLL(torch.autograd.Function):
    """-Σ_n weight_n Σ_z ln p(x_nz) of per-dimension mixtures with the parameters W h + b.

    The gradient in the parameters is computed with the loss and overwrites them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: Float[Tensor, "N H"],
        weight: Float[Tensor, "parameters H"],
        bias: Float[Tensor, " parameters"],
        values: Float[Tensor, "N Z"],
        weights: Float[Tensor, " N"],
    ) -> Float[Tensor, ""]:
        latent_size = values.shape[1]
        parameters, losses = h @ weight.to(h.dtype).T, torch.empty(len(h))
        descend = likelihood(len(weight) // (3 * latent_size), latent_size)
        start, rows = bits(bias), [bits(each) for each in (parameters, values, weights, losses)]

        def call(part: slice) -> None:
            outputs, targets, shares, found = (each[part] for each in rows)
            descend(outputs, start, targets, shares, found)

        on_threads(len(h), call)
        ctx.save_for_backward(h, weight, parameters)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        h, weight, to_parameters = ctx.saved_tensors
        to_parameters = to_parameters * slope
        to_bias = to_parameters.sum(0, dtype=torch.float32)
        to_weight = (to_parameters.T @ h).float()
        return to_parameters @ weight.to(h.dtype), to_weight, to_bias, None, None


@functools.lru_cache
def likelihood(K: int, Z: int) -> Callable[..., Any]:
    """The kernel for K normals per dimension and Z dimensions."""

    @kernel
    @no_type_check
    def descend(outputs, bias, values, weights, losses):
        """Writes losses = -weight Σ_z ln p(value), and their gradient over the outputs.

        With r_k the share of normal k in p, w_k its weight, d_k = (x - m_k) / s_k:
        ∂/∂logit = w_k - r_k, ∂/∂m = -r_k d_k / s_k, ∂/∂ln s = r_k (1 - d_k²).
        ln s is clamped; outside its range only a gradient that leads back inside is kept.
        Source: Bishop 1994, eqs. 31, 33, 36.
        """
        logits, offs = np.empty((K, Z), np.float32), np.empty((K, Z), np.float32)
        precisions, heights = np.empty((K, Z), np.float32), np.empty((K, Z), np.float32)
        top, peak = np.empty(Z, np.float32), np.empty(Z, np.float32)
        share, total = np.empty(Z, np.float32), np.empty(Z, np.float32)
        for row in range(outputs.shape[0]):
            top[:], peak[:] = F(-1e30), F(-1e30)
            share[:], total[:] = F(0), F(0)
            weight = weights[row]
            for k in range(K):
                for z in range(Z):
                    at = k * Z + z
                    logit = widened(outputs[row, at]) + bias[at]
                    mean = widened(outputs[row, K * Z + at]) + bias[K * Z + at]
                    log_std = widened(outputs[row, 2 * K * Z + at]) + bias[2 * K * Z + at]
                    log_std = min(max(log_std, LOWEST), HIGHEST)
                    precision = exp(-log_std)
                    off = (values[row, z] - mean) * precision
                    height = logit - F(0.5) * off * off - log_std
                    logits[k, z], offs[k, z] = logit, off
                    precisions[k, z], heights[k, z] = precision, height
                    top[z], peak[z] = max(top[z], logit), max(peak[z], height)
            for k in range(K):
                for z in range(Z):
                    logits[k, z] = exp(logits[k, z] - top[z])
                    heights[k, z] = exp(heights[k, z] - peak[z])
                    share[z] += logits[k, z]
                    total[z] += heights[k, z]
            loss = F(0)
            for z in range(Z):
                loss += log(share[z]) + top[z] - log(total[z]) - peak[z] + HALF_LOG_2PI_F
                share[z], total[z] = weight / share[z], weight / total[z]
            losses[row] = weight * loss
            for k in range(K):
                for z in range(Z):
                    at, off = k * Z + z, offs[k, z]
                    part = heights[k, z] * total[z]
                    log_std = widened(outputs[row, 2 * K * Z + at]) + bias[2 * K * Z + at]
                    spread = part * (F(1) - off * off)
                    low, high = log_std < LOWEST, log_std > HIGHEST
                    if (low and spread > F(0)) or (high and spread < F(0)):
                        spread = F(0)
                    outputs[row, at] = narrowed(logits[k, z] * share[z] - part, outputs)
                    outputs[row, K * Z + at] = narrowed(-part * off * precisions[k, z], outputs)
                    outputs[row, 2 * K * Z + at] = narrowed(spread, outputs)

    return descend
