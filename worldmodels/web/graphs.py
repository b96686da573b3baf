"""V's decoder, M and C as ONNX graphs, traced from the models' own code.

Weights are float16 in the graphs, as in the bundle, and are cast to float32 before they are used.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from worldmodels.artifacts import Bundle
from worldmodels.errors import InputError, install
from worldmodels.models.controller import LATENT_BOUND, features
from worldmodels.models.mixture import Mixture
from worldmodels.models.vae import VAE, frames_of

SMALL = 64
"""Constants of fewer numbers stay float32."""


def graphs(bundle: Bundle) -> dict[str, bytes]:
    """The ONNX files of a bundle by their names: decoder, mdnrnn and controller.

    Raises:
        InputError: onnx or onnxscript is missing, or a graph cannot be traced.
    """
    M, lane = bundle.mdnrnn, torch.ones(1)
    z, (h, c) = torch.zeros(1, M.latent_size), M.initial_state(1)
    noise = torch.full((1, M.uniforms), 0.5), z.clone()
    step = z, h, c, lane, torch.zeros(1, M.action_size), *noise, lane.clone()
    names = ["next_z", "next_h", "next_c", "reward", "end", "entropy"]
    return {
        "decoder": _traced(Decoder(bundle.vae), (z,), ["frame"]),
        "mdnrnn": _traced(DreamStep(bundle), step, names),
        "controller": _traced(Agent(bundle), (z, h, c), ["action"]),
    }


class Decoder(nn.Module):
    """The picture of z."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, z: Float[Tensor, "1 Z"]) -> UInt8[Tensor, "S S 3"]:
        return frames_of(self.vae.decode(z))[0]


class DreamStep(nn.Module):
    """One step of the dream, as in `ReferenceEngine`, and M's predictions."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.mdnrnn = bundle.mdnrnn
        self.constant = bundle.world.config.reward_per_step

    def forward(
        self,
        z: Float[Tensor, "1 Z"],
        h: Float[Tensor, "1 H"],
        c: Float[Tensor, "1 H"],
        first: Float[Tensor, " 1"],
        action: Float[Tensor, "1 A"],
        uniforms: Float[Tensor, "1 U"],
        normals: Float[Tensor, "1 Z"],
        temperature: Float[Tensor, " 1"],
    ) -> tuple[Tensor, ...]:
        """The next z, h and c; the reward; the log-odds of the end; the mixture's entropy.

        The log-odds are those of the most certain head, -inf where no head ends a dream. The
        entropy is that of the choice of a component, a mean over z, in nats, at temperature 1.
        """
        M = self.mdnrnn
        h, c = M.step(z, action, first, (h, c))
        prediction = M.predict(h)
        z = _at(prediction.mixture, temperature).sample_from_noise(uniforms, normals)
        outputs = {head.name: prediction.outputs(head.name) for head in M.heads}
        pays = [head.pays(outputs[head.name]).float() for head in M.heads if head.does("pays")]
        ends = [head.ends(outputs[head.name]) for head in M.heads if head.does("ends")]
        reward = sum(pays, torch.full_like(first, self.constant))
        end = torch.stack(ends).amax(0) if ends else torch.full_like(first, -torch.inf)
        log_weights = prediction.mixture.log_weights
        entropy = -(log_weights.exp() * log_weights).sum(-2).mean(-1)
        return z.clamp(-LATENT_BOUND, LATENT_BOUND), h, c, reward, end, entropy


class Agent(nn.Module):
    """C: the action a of the present state."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.mdnrnn, self.controller = bundle.mdnrnn, bundle.controller
        self.actions, self.inputs = bundle.actions, bundle.controller.config.inputs
        self.parameters_of_c = nn.Parameter(bundle.parameters, requires_grad=False)

    def forward(
        self, z: Float[Tensor, "1 Z"], h: Float[Tensor, "1 H"], c: Float[Tensor, "1 H"]
    ) -> Float[Tensor, "1 A"]:
        seen = features(self.mdnrnn, z, h, c, self.inputs)
        return self.actions.bound(self.controller.act(self.parameters_of_c, seen))


def _at(mixture: Mixture, temperature: Tensor) -> Mixture:
    """The mixture whose samples are those of another at a temperature, which a graph is given."""
    return Mixture(
        mixture.logits / temperature, mixture.means, mixture.log_stds + temperature.log() / 2
    )


def _traced(model: nn.Module, arguments: tuple[Tensor, ...], outputs: list[str]) -> bytes:
    """The graph of a model; its inputs have the names of `forward`'s arguments."""
    try:
        with _silenced():
            program = torch.onnx.export(
                model.eval(), arguments, dynamo=True, verbose=False, output_names=outputs
            )
    except ModuleNotFoundError as error:
        raise InputError(f"exporting needs {error.name}: {install('web')}") from error
    assert program is not None
    graph = program.model_proto
    _halve(graph)
    return graph.SerializeToString()


@contextmanager
def _silenced() -> Iterator[None]:
    """Hides PyTorch's remarks on packages that no graph of ours needs."""
    with warnings.catch_warnings(action="ignore"):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _halve(model: Any) -> None:
    """Stores weights as float16, followed by a cast, where float16 holds them exactly."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in model.graph.initializer:
        single = numpy_helper.to_array(weight)
        if single.dtype != np.float32 or single.size < SMALL:
            continue
        with np.errstate(over="ignore"):
            half = single.astype(np.float16)
        if np.array_equal(half, single):
            name, stored = weight.name, f"{weight.name}.half"
            weight.CopyFrom(numpy_helper.from_array(half, stored))
            casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
