"""The pointwise work of a step of the dream, compiled by Numba, in one pass over each array.

A row is a lane that is stepped; `lanes[row]` is its place in the state. Matrices of 16-bit integers
hold bfloat16. Sums and functions are float32. Sizes are constants of the compiled code: that is
five times as fast as sizes read from the arrays.

Trap: nothing here checks shapes. `DreamEnv` does, before it calls an engine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np

from worldmodels.kernels.fastmath import exp, kernel, narrowed, sigmoid, tanh, widened

F = np.float32


@kernel
@no_type_check
def gather(lanes, z, actions, first, h, inputs):
    """Fills the rows [z a h] of the product, or [z a first h] if they have room for the flag."""
    Z, A, H = z.shape[1], actions.shape[1], h.shape[1]
    flag = inputs.shape[1] - Z - A - H
    for row in range(lanes.size):
        lane = lanes[row]
        for j in range(Z):
            inputs[row, j] = narrowed(z[lane, j], inputs)
        for j in range(A):
            inputs[row, Z + j] = narrowed(actions[lane, j], inputs)
        if flag:
            inputs[row, Z + A] = narrowed(first[lane], inputs)
        for j in range(H):
            inputs[row, Z + A + flag + j] = narrowed(h[lane, j], inputs)


@functools.lru_cache
def recurrence(H: int) -> Callable[..., Any]:
    """The LSTM's pointwise half for H hidden units."""

    @kernel
    @no_type_check
    def recur(lanes, gates, bias, h, c, outputs):
        """c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c'), in place; h' into `outputs` too."""
        for row in range(lanes.size):
            lane = lanes[row]
            for j in range(H):
                i = sigmoid(widened(gates[row, j]) + bias[j])
                f = sigmoid(widened(gates[row, H + j]) + bias[H + j])
                g = tanh(widened(gates[row, 2 * H + j]) + bias[2 * H + j])
                o = sigmoid(widened(gates[row, 3 * H + j]) + bias[3 * H + j])
                cell = f * c[lane, j] + i * g
                out = o * tanh(cell)
                c[lane, j], h[lane, j] = cell, out
                outputs[row, j] = narrowed(out, outputs)

    return recur


@functools.lru_cache
def sampler(Z: int, K: int, joint: bool) -> Callable[..., Any]:
    """`Mixture.sample_from_noise` in one pass, for mixtures of K normals over Z dimensions."""
    U = 1 if joint else Z
    MEANS, LOG_STDS = K * U, K * (U + Z)

    @kernel
    @no_type_check
    def sample(lanes, head, bias, tape, noise, temperature, limits, z):
        """Samples z' of each lane.

        Args:
            lanes: (n,) rows of z.
            head: (n, O or more) outputs of the last layer without its bias: logits, means,
                log_stds.
            bias: (O,) of the last layer.
            tape: (rows, U + Z) noise, uniform numbers first.
            noise: (n,) rows of the tape.
            temperature: τ, float32.
            limits: lowest and highest log_std, and the bound of |z|, float32.
            z: (E, Z), written.
        """
        spread, calm = np.sqrt(temperature), F(1.0) / temperature
        lowest, highest, bound = limits
        running, threshold = np.empty((K, Z), F), np.empty(Z, F)
        top, mean, log_std = np.empty(Z, F), np.empty(Z, F), np.empty(Z, F)
        for row in range(lanes.size):
            lane, at_tape = lanes[row], noise[row]
            for k in range(K):
                for j in range(Z):
                    at = k if joint else k * Z + j
                    running[k, j] = widened(head[row, at]) + bias[at]
            for j in range(Z):
                top[j] = running[0, j]
            for k in range(1, K):
                for j in range(Z):
                    top[j] = max(top[j], running[k, j])
            for j in range(Z):
                running[0, j] = exp((running[0, j] - top[j]) * calm)
            for k in range(1, K):
                for j in range(Z):
                    running[k, j] = running[k - 1, j] + exp((running[k, j] - top[j]) * calm)
            for j in range(Z):
                threshold[j] = tape[at_tape, 0 if joint else j] * running[K - 1, j]
                mean[j] = widened(head[row, MEANS + j]) + bias[MEANS + j]
                log_std[j] = widened(head[row, LOG_STDS + j]) + bias[LOG_STDS + j]
            for k in range(1, K):  # the running sums rise: the last one passed stays
                for j in range(Z):
                    passed = running[k - 1, j] <= threshold[j]
                    at = MEANS + k * Z + j
                    mean[j] = widened(head[row, at]) + bias[at] if passed else mean[j]
                    at = LOG_STDS + k * Z + j
                    log_std[j] = widened(head[row, at]) + bias[at] if passed else log_std[j]
            for j in range(Z):
                std = exp(min(max(log_std[j], lowest), highest)) * spread
                value = mean[j] + std * tape[at_tape, U + j]
                z[lane, j] = min(max(value, -bound), bound)

    return sample
