"""The pointwise half of an LSTM's step and of its gradient, compiled by Numba.

Arrays of 16-bit integers hold bfloat16; sums and functions are float32. The size is a constant of
the compiled code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, no_type_check

from worldmodels.fastmath import kernel, narrowed, sigmoid, tanh, widened

Kernel = Callable[..., Any]


@functools.lru_cache
def stepping(H: int) -> Kernel:
    """One step forwards, of the first rows."""

    @kernel
    @no_type_check
    def step(t, rows, gates, bias, cells, states):
        """c[t+1] = σ(f) c[t] + σ(i) tanh(g), h[t+1] = σ(o) tanh(c[t+1])."""
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
    """One step backwards, of the first rows."""

    @kernel
    @no_type_check
    def step_back(t, rows, gates, bias, cells, outer, inner, to_cells):
        """The gradient of step t's gates, in their place; and of c[t], in that of c[t+1].

        h[t+1] gets `outer` from what is made of it, and `inner` from the next step.
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
