"""M over whole sequences for training, with products in bfloat16."""

from __future__ import annotations

from jaxtyping import BFloat16, Bool, Float
from torch import Tensor
from torch.nn import functional

from worldmodels.mixture import mixture_loss, mixture_size
from worldmodels.models.lstm_bfloat16 import LSTM
from worldmodels.models.mdnrnn import MDNRNN, State
from worldmodels.models.mixture_bfloat16 import MixtureNLL

Foretold = tuple[
    Float[Tensor, ""],
    Float[Tensor, "B T"] | None,
    Float[Tensor, "B T"] | None,
    BFloat16[Tensor, "B T H"],
]
"""Nats per dimension of the next z where it is known; raw outputs of both heads; h."""


def states(
    mdnrnn: MDNRNN,
    z: Float[Tensor, "B T Z"],
    actions: Float[Tensor, "B T A"] | None,
    first: Float[Tensor, "B T"] | None,
    state: State | None = None,
) -> BFloat16[Tensor, "B T H"]:
    """h after each of T steps: `mdnrnn.states(z, actions, first, state)[0]`."""
    names = "weight_ih_l0", "weight_hh_l0", "bias_ih_l0"
    inputs = mdnrnn.inputs(z, actions, first).transpose(0, 1)
    weights = map(mdnrnn.lstm.get_parameter, names)
    h = LSTM.apply(inputs, *weights, *(state or ()))  # type: ignore[no-untyped-call]
    return h.transpose(0, 1)


def foretell(
    mdnrnn: MDNRNN,
    z: Float[Tensor, "B T_frames Z"],
    actions: Float[Tensor, "B T A"],
    first: Float[Tensor, "B T"],
    known: Bool[Tensor, "B T"],
) -> Foretold:
    """What the loss needs of `mdnrnn(z, actions, first)`; the heads' products are float32."""
    by_batch = states(mdnrnn, z[:, :-1], actions, first)
    plain = by_batch.float()
    if mdnrnn.config.mixture == "joint":
        prediction = mdnrnn.predict(plain)
        nll = mixture_loss(prediction.mixture, z[:, 1:], known)
        return nll, prediction.reward, prediction.termination, by_batch
    size = mixture_size(mdnrnn.latent_size, mdnrnn.config.num_mixtures)
    weight, bias = mdnrnn.head.weight, mdnrnn.head.bias
    shares = _by_step(known / (known.sum().clamp(min=1) * mdnrnn.latent_size))
    data = _by_step(z[:, 1:]), shares
    h = by_batch.transpose(0, 1).flatten(0, 1)
    nll = MixtureNLL.apply(h, weight[:size], bias[:size], *data)  # type: ignore[no-untyped-call]
    raw = functional.linear(plain, weight[size:], bias[size:])
    heads = list(raw.unbind(-1))
    termination = heads.pop() if mdnrnn.heads.termination else None
    return nll, heads.pop() if heads else None, termination, by_batch


def _by_step(tensor: Tensor) -> Tensor:
    """(B, T, ...) to rows (T B, ...)."""
    return tensor.transpose(0, 1).flatten(0, 1).contiguous()
