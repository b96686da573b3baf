"""What a benchmark ran on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from worldmodels.run import cores
from worldmodels.versions import package_versions


def machine() -> dict[str, Any]:
    """Processor, cores, memory, number types and versions."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.cuda.is_available(),
        "python": platform.python_version(),
        "system": platform.system(),
        **package_versions(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    info = Path("/proc/meminfo")
    if not info.exists():
        return None
    return round(int(info.read_text(encoding="utf-8").split()[1]) / 2**20, 1)
