"""The kernels' elementary functions against NumPy in double precision, bfloat16 against torch."""

from typing import no_type_check

import numpy as np
import pytest
import torch

from worldmodels.kernels import fastmath
from worldmodels.kernels.fastmath import kernel, narrowed, widened


@kernel
@no_type_check
def all_functions(x, out):
    for i in range(x.size):
        out[0, i] = fastmath.exp(x[i])
        out[1, i] = fastmath.log(abs(x[i]) + np.float32(1e-30))
        out[2, i] = fastmath.sigmoid(x[i])
        out[3, i] = fastmath.tanh(x[i])


@kernel
@no_type_check
def to_bfloat16_and_back(x, bits, back):
    for i in range(x.size):
        bits[i] = narrowed(x[i], bits)
        back[i] = widened(bits[i])


def test_functions_are_float32_exact_to_a_few_units():
    tails = np.logspace(-20, 1.9, 2000)
    x = np.concatenate([np.linspace(-86, 87, 20_001), tails, -tails]).astype(np.float32)
    out = np.empty((4, x.size), np.float32)
    all_functions(x, out)
    wide = x.astype(np.float64)
    expected = np.exp(wide), 1 / (1 + np.exp(-wide)), np.tanh(wide)
    assert out[0] == pytest.approx(expected[0], rel=4e-7)
    assert out[2] == pytest.approx(expected[1], rel=4e-7, abs=1e-37)
    assert out[3] == pytest.approx(expected[2], abs=4e-7)
    logs = np.log(np.abs(x) + np.float32(1e-30), dtype=np.float64)
    assert out[1] == pytest.approx(logs, rel=4e-7, abs=4e-7)


def test_extreme_numbers_saturate():
    x = np.array([-1e30, -200, 200, 1e30], np.float32)
    out = np.empty((4, x.size), np.float32)
    all_functions(x, out)
    assert np.isfinite(out).all()
    assert out[2] == pytest.approx([0, 0, 1, 1], abs=4e-7)
    assert out[3] == pytest.approx([-1, -1, 1, 1], abs=4e-7)


def test_bfloat16_rounds_as_torch_does():
    generator = np.random.default_rng(0)
    ties = np.uint32(0x3F808000) + np.arange(64, dtype=np.uint32) * np.uint32(0x10000)
    x = np.concatenate([generator.standard_normal(10_000).astype(np.float32), ties.view("f4"), [0]])
    x = x.astype(np.float32)
    bits, back = np.empty(x.size, np.uint16), np.empty(x.size, np.float32)
    to_bfloat16_and_back(x, bits, back)
    rounded = torch.from_numpy(x).bfloat16()
    np.testing.assert_array_equal(bits, rounded.view(torch.uint16).numpy())
    np.testing.assert_array_equal(back, rounded.float().numpy())
