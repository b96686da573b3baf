"""Which number type large products are computed in: bfloat16 where the hardware multiplies it.

Weights are kept, and everything between products is computed, in float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def product_dtype(precision: Precision = "auto") -> torch.dtype:
    """The type of the operands of large products.

    Args:
        precision: `auto` is bfloat16 where this machine multiplies it natively, else float32.
    """
    if precision == "auto":
        return torch.bfloat16 if _multiplies_bfloat16() else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def name_of(dtype: torch.dtype) -> str:
    """As configs name it."""
    return str(dtype).removeprefix("torch.")


@lru_cache(maxsize=1)
def _multiplies_bfloat16() -> bool:
    """AVX512-BF16 or AMX (x86), bf16 (ARM), or a CUDA device with bfloat16; emulation is slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    older = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch before 2.10, x86 only
    return any(hasattr(torch.cpu, name) and getattr(torch.cpu, name)() for name in older)
