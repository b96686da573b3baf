"""One step of M in the dream for many lanes: compiled, or in plain PyTorch as the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional

from worldmodels.kernels.dream import gather, recurrence, sampler
from worldmodels.kernels.patches import bits
from worldmodels.models.controller import LATENT_BOUND
from worldmodels.models.mdnrnn import MDNRNN, State
from worldmodels.models.mixture import MAX_LOG_STD, MIN_LOG_STD
from worldmodels.precision import name_of

COLUMNS = 16
"""Products with a multiple of 16 columns are faster in float32."""

Outputs = dict[str, Float[Tensor, "n _"]]
"""The outputs of each head in float32, a row per lane that was stepped."""


@dataclass(frozen=True)
class DreamState:
    """The state of all lanes in float32. Engines write it in place, so views of it stay valid."""

    z: Float[Tensor, "E Z"]
    h: Float[Tensor, "E H"]
    c: Float[Tensor, "E H"]
    first: Float[Tensor, " E"]
    """1 where the next step opens an episode."""

    @classmethod
    def empty(cls, mdnrnn: MDNRNN, num_envs: int) -> DreamState:
        (h, c), zeros = mdnrnn.initial_state(num_envs), mdnrnn.head.weight.new_zeros
        return cls(zeros(num_envs, mdnrnn.latent_size), h, c, zeros(num_envs))

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.z, self.h, self.c, self.first


def dreamt(
    mdnrnn: MDNRNN,
    state: DreamState,
    actions: Float[Tensor, "E A"],
    noise: Float[Tensor, "E noise"],
    temperature: float,
) -> tuple[Float[Tensor, "E Z"], State, Outputs]:
    """A dreamt step of all lanes in PyTorch's own operations, on any device.

    Args:
        mdnrnn: M.
        state: before the step; it stays as it is.
        actions: actions a.
        noise: uniform numbers, then normal ones.
        temperature: τ.

    Returns:
        The next z, the next h and c, and the outputs of the heads.
    """
    after = mdnrnn.step(state.z, actions, state.first, (state.h, state.c))
    prediction = mdnrnn.predict(after[0])
    uniforms, normals = noise.split([mdnrnn.uniforms, mdnrnn.latent_size], dim=1)
    z = prediction.mixture.sample_from_noise(uniforms, normals, temperature)
    outputs = {head.name: prediction.outputs(head.name) for head in mdnrnn.heads}
    return z.clamp_(-LATENT_BOUND, LATENT_BOUND), after, outputs


class ReferenceEngine:
    """Plain PyTorch in float32: the oracle of tests."""

    name = "reference"

    def __init__(self, mdnrnn: MDNRNN) -> None:
        self.mdnrnn = mdnrnn

    def step(
        self,
        state: DreamState,
        lanes: Int64[np.ndarray, " n"],
        actions: Float32[np.ndarray, "E A"],
        tape: Float32[np.ndarray, "rows noise"],
        rows: Int64[np.ndarray, " n"],
        temperature: float,
    ) -> Outputs:
        """Dreams a step of some lanes: replaces their z, h and c by the next ones.

        Args:
            state: of all lanes.
            lanes: to step.
            actions: actions a of all lanes.
            tape: noise: in each row uniform numbers, then normal ones.
            rows: the tape's row for each of `lanes`.
            temperature: τ.
        """
        index = torch.from_numpy(lanes)
        before = DreamState(*(part[index] for part in state.parts))
        taken, noise = torch.from_numpy(actions)[index], torch.from_numpy(tape[rows])
        z, (h, c), outputs = dreamt(self.mdnrnn, before, taken, noise, temperature)
        state.z[index], state.h[index], state.c[index] = z, h, c
        return outputs


class CompiledEngine:
    """Two matrix products, and three compiled kernels around them that pass once over their arrays.

    Operands and results of the products are bfloat16 or float32. State, nonlinearities and sampling
    are float32.
    """

    def __init__(self, mdnrnn: MDNRNN, dtype: torch.dtype, num_envs: int) -> None:
        self.name = name_of(dtype)
        self._recurrent, self._head = (m.to(dtype).contiguous() for m in matrices(mdnrnn))
        biases = mdnrnn.lstm.get_parameter("bias_ih_l0"), mdnrnn.head.bias
        self._biases = [bias.detach().float().numpy() for bias in biases]
        parts = {head.name: mdnrnn.parts[head.name] for head in mdnrnn.heads}
        self._parts = {name: (part, mdnrnn.head.bias[part]) for name, part in parts.items()}
        shapes = (*self._recurrent.shape, *self._head.shape)
        self._buffers = [torch.zeros(num_envs, size, dtype=dtype) for size in shapes]
        self._views = [bits(buffer) for buffer in self._buffers]
        config, Z = mdnrnn.config, mdnrnn.latent_size
        self._recur = recurrence(config.hidden_size)
        self._sample = sampler(Z, config.num_mixtures, config.mixture == "joint")
        self._limits = tuple(np.float32(x) for x in (MIN_LOG_STD, MAX_LOG_STD, LATENT_BOUND))

    def step(
        self,
        state: DreamState,
        lanes: Int64[np.ndarray, " n"],
        actions: Float32[np.ndarray, "E A"],
        tape: Float32[np.ndarray, "rows noise"],
        rows: Int64[np.ndarray, " n"],
        temperature: float,
    ) -> Outputs:
        """As the reference's."""
        z, h, c, first = (t.numpy() for t in (state.z, state.h, state.c, state.first))
        inputs, gates, hidden, outputs = self._buffers
        read, n = self._views, len(lanes)
        gather(lanes, z, actions, first, h, read[0])
        torch.mm(inputs[:n], self._recurrent, out=gates[:n])
        self._recur(lanes, read[1], self._biases[0], h, c, read[2])
        torch.mm(hidden[:n], self._head, out=outputs[:n])
        noise = tape, rows, np.float32(temperature)
        self._sample(lanes, read[3], self._biases[1], *noise, self._limits, z)
        return {name: outputs[:n, p].float() + bias for name, (p, bias) in self._parts.items()}


Engine = ReferenceEngine | CompiledEngine


def matrices(mdnrnn: MDNRNN) -> tuple[Float[Tensor, "inputs gates"], Float[Tensor, "H outputs"]]:
    """The two weight matrices of a step, without their biases.

    [inputs h] times the first gives the gates i, f, g, o; h' times the second gives the outputs of
    the last layer, then zeros that fill a multiple of 16 columns.
    """
    names = "weight_ih_l0", "weight_hh_l0"
    recurrent = torch.cat([mdnrnn.lstm.get_parameter(name) for name in names], 1)
    head = mdnrnn.head.weight.detach()
    filled = functional.pad(head, (0, 0, 0, -len(head) % COLUMNS))
    return recurrent.detach().T, filled.T
