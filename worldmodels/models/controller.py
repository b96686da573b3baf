"""C: the small controller, a function of a parameter vector, or of those of a population.

Source: Ha & Schmidhuber 2018, A.3: linear in [z h] (Doom: [z c h]).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.errors import InputError
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.ranges import NonNegativeInt

Inputs = Literal["z", "zh", "zch", "r", "zchr"]

LATENT_BOUND = 20.0
"""|z| is clamped here, far outside of N(0, 1), so that the observation space has a bound."""
CELL_BOUND = 1e4
"""|c| is clamped here; it grows by less than 1 a step, so no episode reaches this."""


@dataclass(frozen=True, kw_only=True)
class ControllerConfig:
    """C's inputs and size. Defaults: the paper's CarRacing, 867 parameters."""

    inputs: Inputs = "zh"
    """C's inputs: z; z and h (the paper's CarRacing); z, c and h (its Doom); or `r`, the risks and
    returns that M predicts (mdnrnn.risk_horizons, mdnrnn.return_horizons)."""
    hidden_size: NonNegativeInt = 0
    """Hidden tanh units; 0 is linear, as in the paper (40 in its ablation without h)."""
    bias: bool = True
    """Add a constant to each output: true for the paper's CarRacing, false for its Doom."""

    senses: Literal["own", "untrained", "blind"] = "own"
    """For ablations. `untrained`: h and c are of an M with random weights, which gets the same z.
    `blind`: z is 0 for C, and for the M that computes C's h and c."""


class Controller:
    """Raw outputs u = W x + b, or W' tanh(W x + b) + b', for many candidates at once.

    A parameter vector holds, layer by layer, W row by row and then b.
    """

    def __init__(
        self,
        config: ControllerConfig,
        latent_size: int,
        hidden_size: int,
        action_size: int,
        head_features: int = 0,
    ) -> None:
        """Sizes of z, of M's h, of an action and of the features of M's heads."""
        self.config = config
        sizes = {"z": latent_size, "h": hidden_size, "c": hidden_size, "r": head_features}
        self.feature_size = sum(sizes[name] for name in config.inputs)
        self.action_size = action_size
        units = [config.hidden_size] if config.hidden_size else []
        ins, outs = [self.feature_size, *units], [*units, action_size]
        self.sizes = list(zip(outs, ins, strict=True))
        """Outputs and inputs of each layer."""

    @property
    def num_parameters(self) -> int:
        return sum(outs * (ins + self.config.bias) for outs, ins in self.sizes)

    def act(
        self, parameters: Float[Tensor, "*P N"], features: Float[Tensor, "*P R F"]
    ) -> Float[Tensor, "*P R A"]:
        """Raw outputs of each candidate for its own R features; without P, of one candidate.

        Raises:
            ValueError: the vectors are not `num_parameters` long.
        """
        if parameters.shape[-1] != self.num_parameters:
            raise ValueError(
                f"{parameters.shape[-1]} parameters given, the controller has {self.num_parameters}"
            )
        if parameters.ndim == 1:
            return self.act(parameters[None], features[None])[0]
        weights, *deeper = self.weights(parameters)
        outputs = _linear(features, *weights)
        for weights in deeper:
            outputs = _linear(torch.tanh(outputs), *weights)
        return outputs

    def weights(self, parameters: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """W (P, out, in) and b (P, 1, out) of each layer: views of the parameters (P, N)."""
        layers: list[tuple[Tensor, Tensor | None]] = []
        start = 0
        for outs, ins in self.sizes:
            end = start + outs * ins
            weight = parameters[:, start:end].view(-1, outs, ins)
            start = end + outs * self.config.bias
            bias = parameters[:, None, end:start] if self.config.bias else None
            layers.append((weight, bias))
        return layers


def _linear(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # one batched product: einsum over the same operands is 100 times slower on CPUs
    if bias is None:
        return torch.bmm(features, weight.mT)
    return torch.baddbmm(bias, features, weight.mT)


def features(
    mdnrnn: MDNRNN,
    z: Float[Tensor, "*batch Z"],
    h: Float[Tensor, "*batch H"],
    c: Float[Tensor, "*batch H"],
    inputs: str,
) -> Float[Tensor, "*batch F"]:
    """The controller's input: the parts that `inputs` names, in that order; r: M's heads'."""
    parts = {"z": z, "h": h}
    if "c" in inputs:
        parts["c"] = c.clamp(-CELL_BOUND, CELL_BOUND)
    if "r" in inputs:
        parts["r"] = mdnrnn.features(z, h)
    return torch.cat([parts[name] for name in inputs], dim=-1)


def feature_space(mdnrnn: MDNRNN, inputs: str) -> gymnasium.spaces.Box:
    """The bounded space of `features`; z must be clamped to LATENT_BOUND."""
    size = mdnrnn.config.hidden_size
    bounds = {"z": (LATENT_BOUND, mdnrnn.latent_size), "c": (CELL_BOUND, size), "h": (1.0, size)}
    parts = {name: np.full(length, bound, np.float32) for name, (bound, length) in bounds.items()}
    heads = [np.full(h.num_features, h.feature_bound, np.float32) for h in mdnrnn.heads]
    parts["r"] = np.concatenate([np.empty(0, np.float32), *heads])
    high = np.concatenate([parts[name] for name in inputs])
    return gymnasium.spaces.Box(-high, high, dtype=np.float32)


def controller_for(config: ControllerConfig, mdnrnn: MDNRNN) -> Controller:
    """The controller that fits M.

    Raises:
        InputError: C's inputs are features of M's heads, and M has no such head.
    """
    if "r" in config.inputs and not mdnrnn.num_features:
        raise InputError(
            f"controller.inputs is {config.inputs}, but M predicts no risks and no returns: set "
            "mdnrnn.risk_horizons or mdnrnn.return_horizons and train M again"
        )
    sizes = mdnrnn.latent_size, mdnrnn.config.hidden_size
    return Controller(config, *sizes, mdnrnn.action_size, mdnrnn.num_features)
