"""M's last layer and its mixtures' loss as one function, with products in bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from worldmodels.models.mixture_kernels import likelihood
from worldmodels.models.patch_kernels import bits


class MixtureNLL(torch.autograd.Function):
    """-Σ_n weight_n Σ_z ln p(x_nz) of mixtures per dimension, of parameters W h + b.

    The gradient in the parameters is computed with the loss and takes their place.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: BFloat16[Tensor, "N H"],
        weight: Float[Tensor, "parameters H"],
        bias: Float[Tensor, " parameters"],
        values: Float[Tensor, "N Z"],
        weights: Float[Tensor, " N"],
    ) -> Float[Tensor, ""]:
        latent_size = values.shape[1]
        parameters, losses = h @ weight.bfloat16().T, torch.empty(len(h))
        descend = likelihood(len(weight) // (3 * latent_size), latent_size)
        descend(bits(parameters), *map(bits, (bias, values, weights, losses)))
        ctx.save_for_backward(h, weight, parameters)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        h, weight, to_parameters = ctx.saved_tensors
        to_parameters = to_parameters * slope
        to_bias = to_parameters.sum(0, dtype=torch.float32)
        to_weight = (to_parameters.T @ h).float()
        return to_parameters @ weight.bfloat16(), to_weight, to_bias, None, None
