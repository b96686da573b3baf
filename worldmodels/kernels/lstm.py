"""An LSTM over whole sequences, with products in bfloat16 or float32 and cells in float32.

Time is the first axis, (T, B, ...), so that a step is contiguous in memory. The operand of step t
is [h x 1 0...]: the state before it, its input, and a 1 whose weight is 0. The bias is added in
float32, and its gradient is the 1's column of the weight's gradient. Zeros pad the operand to a
multiple of 32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from worldmodels.kernels.fastmath import kernel, narrowed, sigmoid, tanh, widened
from worldmodels.kernels.patches import bits

MULTIPLE = 32
"""Products whose inner size is a multiple of this are up to a quarter faster."""


class LSTM(torch.autograd.Function):
    """All h, and the last c, from a first state or from zeros. It can be differentiated once.

    i, f, g, o = W [h x] + b;  c' = σ(f) c + σ(i) tanh(g);  h' = σ(o) tanh(c').

    `rows` says how many first rows are computed at each step, never more than before; the h of the
    others is zero. The last c has no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Float[Tensor, "T B I"],
        weight_x: Float[Tensor, "gates I"],
        weight_h: Float[Tensor, "gates H"],
        bias: Float[Tensor, " gates"],
        rows: Sequence[int],
        dtype: torch.dtype,
        first_h: Float[Tensor, "B H"] | None = None,
        first_c: Float[Tensor, "B H"] | None = None,
    ) -> tuple[Float[Tensor, "T B H"], Float[Tensor, "B H"]]:
        (steps, batch, ctx.inputs), hidden = inputs.shape, weight_h.shape[1]
        operands, weight = _operands(inputs, hidden, dtype), _weight(weight_h, weight_x, dtype)
        gates = torch.zeros(steps, batch, 4 * hidden, dtype=dtype)
        cells = torch.zeros(steps + 1, batch, hidden)
        if first_h is not None and first_c is not None:
            operands[0, :, :hidden], cells[0] = first_h, first_c
        arrays = bits(gates), bits(bias), bits(cells), bits(operands)
        step = stepping(hidden)
        for t, n in enumerate(rows):
            torch.mm(operands[t, :n], weight.T, out=gates[t, :n])
            step(t, n, *arrays)
        ctx.rows = rows
        ctx.save_for_backward(operands, gates, cells, weight_x, weight_h, bias)
        last = cells[-1].clone()
        ctx.mark_non_differentiable(last)
        return operands[1:, :, :hidden], last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        # `gates` is overwritten, so a second backward pass needs a new forward pass
        operands, gates, cells, weight_x, weight_h, bias = ctx.saved_tensors
        hidden, weight = weight_h.shape[1], weight_h.to(gates.dtype)
        inner, to_cells = torch.zeros_like(slope[0]).contiguous(), torch.zeros_like(cells[0])
        arrays = bits(gates), bits(bias), bits(cells), bits(slope.contiguous())
        step_back, later = stepping_back(hidden), (bits(inner), bits(to_cells))
        for t, n in reversed(list(enumerate(ctx.rows))):
            step_back(t, n, *arrays, *later)
            torch.mm(gates[t, :n], weight, out=inner[:n])
        reached = torch.arange(gates.shape[1]) < torch.tensor(ctx.rows)[:, None]
        if reached.all():  # nothing to leave out: no copies
            to_weight = (gates.flatten(0, 1).T @ operands[:-1].flatten(0, 1)).float()
        else:
            to_weight = (gates[reached].T @ operands[:-1][reached]).float()
        to_h, to_x, to_bias, _ = to_weight.tensor_split(
            [hidden, hidden + ctx.inputs, hidden + ctx.inputs + 1], dim=1
        )
        to_inputs = (gates @ weight_x.to(gates.dtype)).float() if ctx.needs_input_grad[0] else None
        to_first = (inner.float(), to_cells) if any(ctx.needs_input_grad[6:]) else (None, None)
        return to_inputs, to_x, to_h, to_bias.squeeze(1), None, None, *to_first


def _operands(inputs: Tensor, hidden: int, dtype: torch.dtype) -> Tensor:
    """The operands of all steps and of one more; h is 0 where it is not computed yet."""
    steps, batch, size = inputs.shape
    width = (hidden + size) // MULTIPLE * MULTIPLE + MULTIPLE
    operands = torch.zeros(steps + 1, batch, width, dtype=dtype)
    operands[:-1, :, hidden : hidden + size] = inputs
    operands[:-1, :, hidden + size] = 1
    return operands


def _weight(weight_h: Tensor, weight_x: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight of the operands."""
    weight = torch.cat([weight_h, weight_x], 1).to(dtype)
    return functional.pad(weight, (0, MULTIPLE - weight.shape[1] % MULTIPLE))


Kernel = Callable[..., Any]


@functools.lru_cache
def stepping(H: int) -> Kernel:
    """The kernel of a forward step for H hidden units."""

    @kernel
    @no_type_check
    def step(t, rows, gates, bias, cells, states):
        """c[t+1] = σ(f) c[t] + σ(i) tanh(g), h[t+1] = σ(o) tanh(c[t+1]), of the first rows."""
        for row in range(rows):
            for j in range(H):
                i = sigmoid(widened(gates[t, row, j]) + bias[j])
                f = sigmoid(widened(gates[t, row, H + j]) + bias[H + j])
                g = tanh(widened(gates[t, row, 2 * H + j]) + bias[2 * H + j])
                o = sigmoid(widened(gates[t, row, 3 * H + j]) + bias[3 * H + j])
                cell = f * cells[t, row, j] + i * g
                cells[t + 1, row, j] = cell
                states[t + 1, row, j] = narrowed(o * tanh(cell), states)

    return step


@functools.lru_cache
def stepping_back(H: int) -> Kernel:
    """The kernel of a backward step for H hidden units."""

    @kernel
    @no_type_check
    def step_back(t, rows, gates, bias, cells, outer, inner, to_cells):
        """Replaces step t's gates by their gradient, and the gradient of c[t+1] by that of c[t].

        The gradient of h[t+1] is `outer`, from the outputs, plus `inner`, from the next step.
        """
        for row in range(rows):
            for j in range(H):
                i = sigmoid(widened(gates[t, row, j]) + bias[j])
                f = sigmoid(widened(gates[t, row, H + j]) + bias[H + j])
                g = tanh(widened(gates[t, row, 2 * H + j]) + bias[2 * H + j])
                o = sigmoid(widened(gates[t, row, 3 * H + j]) + bias[3 * H + j])
                bent = tanh(cells[t + 1, row, j])
                to_h = widened(outer[t, row, j]) + widened(inner[row, j])
                to_c = to_cells[row, j] + to_h * o * (1 - bent * bent)
                gates[t, row, j] = narrowed(to_c * g * i * (1 - i), gates)
                gates[t, row, H + j] = narrowed(to_c * cells[t, row, j] * f * (1 - f), gates)
                gates[t, row, 2 * H + j] = narrowed(to_c * i * (1 - g * g), gates)
                gates[t, row, 3 * H + j] = narrowed(to_h * bent * o * (1 - o), gates)
                to_cells[row, j] = to_c * f

    return step_back
