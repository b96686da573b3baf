"""M: the recurrent mixture density network that predicts the next z.

Source: Ha & Schmidhuber 2018, A.2 and its released code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn
from torch.nn import functional

from worldmodels.kernels.lstm import LSTM
from worldmodels.kernels.mixture import MixtureNLL
from worldmodels.kernels.rows import active_rows, present
from worldmodels.models.mixture import (
    Mixture,
    MixtureKind,
    mixture_loss,
    mixture_size,
    split_mixture,
)
from worldmodels.models.sequence import SequenceBatch, check_mask
from worldmodels.precision import product_dtype
from worldmodels.ranges import PositiveInt

State = tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]
"""(h, c) of the LSTM."""


@dataclass(frozen=True, kw_only=True)
class MDNRNNConfig:
    """M's sizes. Defaults: the paper's CarRacing, 422,368 parameters."""

    hidden_size: PositiveInt = 256
    """Size of h; the paper: 256 for CarRacing, 512 for Doom."""
    num_mixtures: PositiveInt = 5
    """Gaussians per mixture."""
    mixture: MixtureKind = "per_dimension"
    """`per_dimension`: each dimension of z has its own mixture weights (the paper); `joint`: one
    set for the whole z; `correlated`, for the gallery: joint, with correlations."""
    restart_input: bool = False
    """Give M a flag that is 1 in an episode's first step; the paper's Doom: true."""


@dataclass(frozen=True)
class Head:
    """Something that M predicts beside the next z. A head is a description and holds no weights.

    A head reads `size` outputs of M's last layer, or layers of its own (`network`), or both. It
    learns by `loss`, gives `features` to the controller, and acts in a dream by `pays`, `ends`
    and `survives`, as far as it defines them. There `outputs` are its own, of the last step.
    """

    name: str
    """Of its outputs and of its loss."""
    size: int = 0
    """Outputs of M's last layer that are the head's."""

    @property
    def begins_at_zero(self) -> bool:
        """Whether its outputs are 0 before training."""
        return False

    @property
    def num_features(self) -> int:
        """Numbers that the head gives to the controller."""
        return 0

    @property
    def feature_bound(self) -> float:
        """The largest absolute value of `features`."""
        return math.inf

    def network(self, latent_size: int, hidden_size: int) -> nn.Module | None:
        """New layers of the head's own; M holds them as NAME_layers, see `MDNRNN.layers_of`."""
        return None

    def loss(
        self,
        prediction: Prediction,
        z: Float[Tensor, "B T_frames Z"],
        batch: SequenceBatch,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """What training minimises beside the NLL of z.

        Args:
            prediction: of every step of the batch.
            z: what M was fed, and the z after it.
            batch: holds the labels.
            generator: of noise.
        """
        raise NotImplementedError

    def features(
        self, mdnrnn: MDNRNN, z: Float[Tensor, "*batch Z"], h: Float[Tensor, "*batch H"]
    ) -> Float[Tensor, "*batch features"]:
        """What the controller sees, from the present z and the h that has seen all before it."""
        raise NotImplementedError

    def pays(self, outputs: Float[Tensor, "n size"]) -> Float64[Tensor, " n"]:
        """The reward of the step, added to those of other heads and to the constant reward."""
        raise NotImplementedError

    def ends(self, outputs: Float[Tensor, "n size"]) -> Float[Tensor, " n"]:
        """The log-odds that the step ends the dream; of several heads the largest count."""
        raise NotImplementedError

    def survives(
        self,
        mdnrnn: MDNRNN,
        z: Float[Tensor, "n Z"],
        h: Float[Tensor, "n H"],
        actions: Float[Tensor, "n A"],
        outputs: Float[Tensor, "n size"],
    ) -> Float64[Tensor, " n"]:
        """The probability that nothing ends at the step: it weighs the rewards after it.

        Called where `dream.weight` names the head; z and h are those before the step.
        """
        raise NotImplementedError

    def does(self, method: str) -> bool:
        """Whether the head defines one of the methods above."""
        return getattr(type(self), method) is not getattr(Head, method)


Kind = TypeVar("Kind", bound=Head)


class MDNRNN(nn.Module):
    """LSTM, and one linear layer for the mixture and the heads.

    The condition beside z is the agent's action, or in the gallery anything else: a text's window,
    a latent vector, the pen. `action_size` may be 0; then `actions` is None.
    """

    def __init__(
        self, config: MDNRNNConfig, latent_size: int, action_size: int, heads: Sequence[Head] = ()
    ) -> None:
        super().__init__()
        self.config, self.heads = config, tuple(heads)
        self.latent_size, self.action_size = latent_size, action_size
        # uniform numbers that a sampled z needs to choose its components
        self.uniforms = 1 if config.mixture == "joint" else latent_size
        inputs = latent_size + action_size + config.restart_input
        self.lstm = nn.LSTM(inputs, config.hidden_size, batch_first=True)
        # nn.LSTM has two biases that are only ever added: the second stays zero, as in the paper.
        second: Tensor = self.lstm.get_parameter("bias_hh_l0")
        second.requires_grad_(False).zero_()
        sizes = {"mixture": mixture_size(latent_size, config.num_mixtures, config.mixture)}
        sizes |= {head.name: head.size for head in self.heads}
        ends = accumulate(sizes.values())
        self.parts = {
            name: slice(end - size, end)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }
        """Which outputs of the last layer belong to the mixture and to each head."""
        self.head = nn.Linear(config.hidden_size, sum(sizes.values()))
        for head in self.heads:
            if head.begins_at_zero:
                part = self.parts[head.name]
                torch.nn.init.zeros_(self.head.weight[part])
                torch.nn.init.zeros_(self.head.bias[part])
            network = head.network(latent_size, config.hidden_size)
            if network is not None:
                self.add_module(f"{head.name}_layers", network)

    def forward(
        self,
        z: Float[Tensor, "B T Z"],
        actions: Float[Tensor, "B T A"] | None,
        first: Float[Tensor, "B T"] | None,
        state: State | None = None,
        valid: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Prediction, State]:
        """Predictions for T steps, and the state after them.

        While gradients are recorded on a CPU, the LSTM's and the mixture's products have operands
        of `precision.product_dtype`; else everything is float32. Trap: under PyTorch's autocast
        the LSTM of a GPU is in half precision, where small gradients vanish.

        Args:
            z: the present latents.
            actions: taken in them.
            first: 1 where a step opens an episode; needed with `restart_input` only.
            state: before the first step; none: zeros.
            valid: steps that are wanted. Where no valid step follows, h may be zero: less is
                computed if rows with many valid steps come first.
        """
        inputs = self.inputs(z, actions, first)
        if torch.is_grad_enabled() and z.device.type == "cpu":
            return self._compiled(inputs, state, valid)
        return self._plain(inputs, state)

    def _plain(
        self, inputs: Float[Tensor, "B T inputs"], state: State | None
    ) -> tuple[Prediction, State]:
        packed = None if state is None else tuple(part[None].contiguous() for part in state)
        outputs, (h, c) = self.lstm(inputs, packed)
        return self.predict(outputs), (h[0], c[0])

    def _compiled(
        self,
        inputs: Float[Tensor, "B T inputs"],
        state: State | None,
        valid: Bool[Tensor, "B T"] | None,
    ) -> tuple[Prediction, State]:
        rows = [len(inputs)] * inputs.shape[1] if valid is None else active_rows(valid)
        weights = map(self.lstm.get_parameter, ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"))
        outputs, c = LSTM.apply(  # type: ignore[no-untyped-call]
            inputs.transpose(0, 1), *weights, rows, product_dtype(), *(state or ())
        )
        return self.predict(outputs.transpose(0, 1)), (outputs[-1].detach().float(), c)

    def step(
        self,
        z: Float[Tensor, "B Z"],
        actions: Float[Tensor, "B A"] | None,
        first: Float[Tensor, " B"] | None,
        state: State,
    ) -> State:
        """The state after one step of the same LSTM, in float32."""
        inputs, weights = self.inputs(z, actions, first), self.lstm.all_weights[0]
        h, c = torch.lstm_cell(inputs, state, *weights)
        return h, c

    def predict(self, h: Float[Tensor, "*batch H"]) -> Prediction:
        """What M predicts from the h that has seen the present step."""
        return Prediction(self, h)

    def find(self, kind: type[Kind]) -> Kind | None:
        """M's head of a kind; none: it has no such head."""
        return next((head for head in self.heads if isinstance(head, kind)), None)

    def layers_of(self, head: Head) -> nn.Module:
        """What `head.network` made."""
        return self.get_submodule(f"{head.name}_layers")

    @property
    def num_features(self) -> int:
        """Numbers that all heads give to the controller."""
        return sum(head.num_features for head in self.heads)

    def features(
        self, z: Float[Tensor, "*batch Z"], h: Float[Tensor, "*batch H"]
    ) -> Float[Tensor, "*batch features"]:
        """What all heads give to the controller."""
        return torch.cat(
            [head.features(self, z, h) for head in self.heads if head.num_features], -1
        )

    def initial_state(self, batch_size: int) -> State:
        """Zeros."""
        zeros = self.head.weight.new_zeros(batch_size, self.config.hidden_size)
        return zeros, zeros.clone()

    def inputs(
        self,
        z: Float[Tensor, "*batch Z"],
        actions: Float[Tensor, "*batch A"] | None,
        first: Float[Tensor, "*batch"] | None,
    ) -> Float[Tensor, "*batch inputs"]:
        """What the LSTM sees of a step; `first` may be None where there is no restart input."""
        parts = [z] if actions is None else [z, actions]
        if self.config.restart_input:
            assert first is not None, "restart_input is on, and needs `first`"
            parts.append(first[..., None])
        return torch.cat(parts, -1)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What M predicts of the next step. Each part is computed when it is asked for."""

    mdnrnn: MDNRNN
    h: Float[Tensor, "*batch H"]
    """Of the LSTM after the present step, in bfloat16 if the LSTM's products are."""

    @cached_property
    def mixture(self) -> Mixture:
        """The law of the next z."""
        M = self.mdnrnn
        kind = M.config.num_mixtures, M.config.mixture
        return split_mixture(self.outputs("mixture"), M.latent_size, *kind)

    def outputs(self, name: str) -> Float[Tensor, "*batch size"]:
        """Outputs of the last layer, in float32: a head's, or the mixture's parameters."""
        part, head = self.mdnrnn.parts[name], self.mdnrnn.head
        return functional.linear(self.h.float(), head.weight[part], head.bias[part])

    def nll(self, values: Float[Tensor, "B T Z"], known: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Mean nats per dimension of the next z, over the steps where it is known.

        Raises:
            ValueError: the shape of the values, or of `known`, does not fit.
        """
        steps = self.h.shape[:-1]
        if values.shape != (wanted := (*steps, self.mdnrnn.latent_size)):
            raise ValueError(f"values have shape {tuple(values.shape)}: it must be {wanted}")
        check_mask(known, steps)
        compiled = self.h.requires_grad and self.h.device.type == "cpu"
        if compiled and self.mdnrnn.config.mixture == "per_dimension":
            return self._compiled_nll(values, known)
        return mixture_loss(self.mixture, values, known)

    def _compiled_nll(self, values: Tensor, known: Tensor) -> Tensor:
        """The last layer and the mixtures' loss in one function."""
        part, head = self.mdnrnn.parts["mixture"], self.mdnrnn.head
        # time comes first in memory
        h, values = (present(x.transpose(0, 1), known.T) for x in (self.h, values))
        shares = values.new_full([len(values)], 1 / max(values.numel(), 1))
        weights = head.weight[part], head.bias[part]
        return MixtureNLL.apply(h, *weights, values, shares)  # type: ignore[no-untyped-call]
