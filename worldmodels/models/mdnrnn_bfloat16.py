"""M over whole sequences for training, with products in bfloat16."""

from __future__ import annotations

from jaxtyping import BFloat16, Bool, Float
from torch import Tensor
from torch.nn import functional

from worldmodels.kernels.lstm import LSTM
from worldmodels.kernels.mixture import MixtureNLL
from worldmodels.kernels.rows import active_rows, present
from worldmodels.models.mdnrnn import MDNRNN, State
from worldmodels.models.mixture import mixture_loss, mixture_size

Predicted = tuple[
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
    valid: Bool[Tensor, "B T"] | None = None,
) -> BFloat16[Tensor, "B T H"]:
    """h after each of T steps: `mdnrnn.states(z, actions, first, state)[0]`.

    Where no valid step follows it may be zero: less is computed where long rows come first.
    """
    rows = [len(z)] * z.shape[1] if valid is None else active_rows(valid)
    names = "weight_ih_l0", "weight_hh_l0", "bias_ih_l0"
    inputs = mdnrnn.inputs(z, actions, first).transpose(0, 1)
    weights = map(mdnrnn.lstm.get_parameter, names)
    h = LSTM.apply(inputs, *weights, rows, *(state or ()))  # type: ignore[no-untyped-call]
    return h.transpose(0, 1)


def predict(
    mdnrnn: MDNRNN,
    z: Float[Tensor, "B T_frames Z"],
    actions: Float[Tensor, "B T A"],
    first: Float[Tensor, "B T"],
    known: Bool[Tensor, "B T"],
    valid: Bool[Tensor, "B T"],
) -> Predicted:
    """What the loss needs of `mdnrnn(z, actions, first)`; the heads' products are float32."""
    h = states(mdnrnn, z[:, :-1], actions, first, valid=valid)
    plain = h.float()
    if mdnrnn.config.mixture == "joint":
        prediction = mdnrnn.predict(plain)
        nll = mixture_loss(prediction.mixture, z[:, 1:], known)
        return nll, prediction.reward, prediction.termination, h
    size = mixture_size(mdnrnn.latent_size, mdnrnn.config.num_mixtures)
    weight, bias = mdnrnn.head.weight, mdnrnn.head.bias
    seen, values = (present(part.transpose(0, 1), known.T) for part in (h, z[:, 1:]))
    shares = values.new_full([len(values)], 1 / max(values.numel(), 1))
    data = seen, weight[:size], bias[:size], values, shares
    nll = MixtureNLL.apply(*data)  # type: ignore[no-untyped-call]
    raw = functional.linear(plain, weight[size:], bias[size:])
    heads = list(raw.unbind(-1))
    termination = heads.pop() if mdnrnn.heads.termination else None
    return nll, heads.pop() if heads else None, termination, h
