"""The number type of the operands of large products: one setting for the whole process.

Weights are kept in float32, and everything between the products is computed in float32.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Literal, get_args

import torch

from worldmodels.errors import InputError

Precision = Literal["auto", "float32", "bfloat16"]

VARIABLE = "WORLDMODELS_PRECISION"
"""The environment variable that holds the setting, so that child processes inherit it."""

CPU = torch.device("cpu")


def set_precision(precision: Precision) -> None:
    """Sets the precision of this process and of the processes that it starts.

    Args:
        precision: `float32`; `bfloat16`; or `auto`, bfloat16 where the processor multiplies it
            natively and float32 elsewhere. But for `float32`, a GPU of CUDA rounds the operands of
            products that stay float32 to TF32.

    Raises:
        InputError: the processor has no native bfloat16, or the name is unknown.
    """
    _check(precision)
    os.environ[VARIABLE] = precision
    if torch.cuda.is_available():
        tf32 = precision != "float32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32


def get_precision() -> Precision:
    """The setting of this process; `auto` where nothing was set.

    Raises:
        InputError: as `set_precision`, where the environment variable was set by hand.
    """
    return _check(os.environ.get(VARIABLE, "auto"))


def product_dtype(device: torch.device = CPU) -> torch.dtype:
    """The type of the operands of large products on a device; float32 on a GPU of an Apple chip."""
    if get_precision() == "float32":
        return torch.float32
    match device.type:
        case "cpu":
            native = multiplies_bfloat16()
        case "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        case _:
            native = False
    return torch.bfloat16 if native else torch.float32


def products(device: torch.device) -> AbstractContextManager[object]:
    """Within it PyTorch's own products have operands of `product_dtype`."""
    if product_dtype(device) == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def name_of(dtype: torch.dtype) -> str:
    """The dtype as configs name it."""
    return str(dtype).removeprefix("torch.")


@lru_cache(maxsize=1)
def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively and oneDNN may use that.

    AVX512-BF16 or AMX on x86, BF16 on ARM. Emulation is slower than float32.
    """
    return _processor_has_bfloat16() and _onednn_has_bfloat16()


def _processor_has_bfloat16() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    older = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch before 2.10, x86 only
    return any(hasattr(torch.cpu, name) and getattr(torch.cpu, name)() for name in older)


def _onednn_has_bfloat16() -> bool:
    """False too where ONEDNN_MAX_CPU_ISA forbids the instructions; true if oneDNN emulates."""
    if not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _check(precision: str) -> Precision:
    if precision not in get_args(Precision):
        names = ", ".join(get_args(Precision))
        raise InputError(f"precision is {precision!r}: it must be one of {names}")
    if precision == "bfloat16" and not multiplies_bfloat16():
        raise InputError(
            "precision is bfloat16, but this processor does not multiply bfloat16 natively "
            "(it needs AVX512-BF16, AMX or ARM's BF16): set precision to auto"
        )
    return precision  # type: ignore[return-value]
