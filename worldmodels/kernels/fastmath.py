"""Elementary functions for kernels, and the decorators with which Numba compiles kernels.

In a compiled loop `math.exp` is one call per number. The functions here are polynomials in float32;
the compiler computes eight or sixteen at a time. Their relative errors are below 4e-7.

A compiled kernel checks no index: an array that is too small is read and written beyond its end. So
the functions in models/ and envs/ that call kernels check shapes and dtypes first.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.extending import intrinsic, overload

from worldmodels.run import cores

F = np.float32
LOG2E, LN2_HIGH, LN2_LOW = F(1.44269504), F(0.693359375), F(-2.12194440e-4)
SQRT_HALF = F(0.70710678)

# LLVM inlines: to the same code as Numba's `inline="always"`, in a fraction of the time
INLINED = {"forceinline": True, "fastmath": True}
inlined = numba.njit(forceinline=True, fastmath=True, error_model="numpy")
kernel = numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)
"""Compiles a loop for one thread, without the interpreter's lock.

Sums may be reordered, so the bits are the same on one type of machine only. Mark the function with
`typing.no_type_check` too: a type checker's wrapper cannot be compiled. Trap: Numba keeps machine
code on disk and notices changes in the kernel's own file only, not in this one.
"""


def on_threads(rows: int, call: Callable[[slice], Any]) -> None:
    """Calls a kernel with slices of the rows, on as many threads as torch uses.

    A loop over `numba.prange` compiles twice as long. Waking threads takes about 50 µs, so this is
    for work of a millisecond or more.
    """
    count = max(1, min(torch.get_num_threads(), rows))
    ends = [rows * part // count for part in range(count + 1)]
    here, *others = (slice(*part) for part in pairwise(ends))
    running = [_threads(os.getpid()).submit(call, part) for part in others]
    call(here)
    for each in running:
        each.result()


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """Threads of a process: a fork has none of its parent's."""
    return ThreadPoolExecutor(cores())


@intrinsic
@no_type_check
def _float_of(typing, bits):
    """The float32 of these 32 bits."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.float32(numba.int32), codegen


@intrinsic
@no_type_check
def _bits_of(typing, number):
    """The 32 bits of a float32, as an int32."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return numba.int32(numba.float32), codegen


@inlined
@no_type_check
def exp(x):
    """e^x, x clamped to [-87, 88]. Source: Cephes, expf."""
    x = min(max(x, F(-87.0)), F(88.0))
    n = np.floor(x * LOG2E + F(0.5))
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = F(1.9875691500e-4) * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    return (p * r * r + r + F(1.0)) * _float_of((np.int32(n) + np.int32(127)) << np.int32(23))


@inlined
@no_type_check
def log(x):
    """ln x of a normal positive x. Source: Cephes, logf."""
    bits = _bits_of(x)
    exponent = F((bits >> np.int32(23)) - np.int32(126))
    m = _float_of((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000))  # in [1/2, 1)
    small = m < SQRT_HALF
    exponent = exponent - F(1.0) if small else exponent
    r = m + m - F(1.0) if small else m - F(1.0)
    p = F(7.0376836292e-2) * r - F(1.1514610310e-1)
    p = p * r + F(1.1676998740e-1)
    p = p * r - F(1.2420140846e-1)
    p = p * r + F(1.4249322787e-1)
    p = p * r - F(1.6668057665e-1)
    p = p * r + F(2.0000714765e-1)
    p = p * r - F(2.4999993993e-1)
    p = p * r + F(3.3333331174e-1)
    square = r * r
    y = p * r * square + exponent * LN2_LOW - F(0.5) * square
    return r + y + exponent * LN2_HIGH


@inlined
@no_type_check
def sigmoid(x):
    """1 / (1 + e^-x)."""
    return F(1.0) / (F(1.0) + exp(-x))


@inlined
@no_type_check
def tanh(x):
    """2 σ(2x) - 1."""
    return F(1.0) - F(2.0) / (F(1.0) + exp(x + x))


def widened(number: Any) -> Any:
    """A number as float32; a uint16 holds the bits of a bfloat16. For use in kernels only."""
    raise NotImplementedError


@overload(widened, jit_options=INLINED)
@no_type_check
def _widened(number):
    if number == numba.uint16:
        return lambda number: _float_of(np.int32(number) << np.int32(16))
    return lambda number: number


def narrowed(number: Any, like: Any) -> Any:
    """A float32 in the type of the array `like`; bfloat16 is rounded to nearest, ties to even."""
    raise NotImplementedError


@overload(narrowed, jit_options=INLINED)
@no_type_check
def _narrowed(number, like):
    if like.dtype == numba.uint16:
        return lambda number, like: _bfloat16_bits(number)
    return lambda number, like: number


@inlined
@no_type_check
def _bfloat16_bits(number):
    bits = _bits_of(number)
    odd = (bits >> np.int32(16)) & np.int32(1)
    return np.uint16((bits + np.int32(0x7FFF) + odd) >> np.int32(16))
