"""The device that trains V and M, encodes frames and dreams: one setting for the whole process.

Real environments, and V and M beside them, run on the CPU, whatever the setting.
"""

from __future__ import annotations

import os
from typing import Literal, get_args

import torch

from worldmodels.errors import InputError

Device = Literal["auto", "cpu", "cuda", "mps"]

VARIABLE = "WORLDMODELS_DEVICE"
"""The environment variable that holds the setting."""


def set_device(device: Device) -> None:
    """Sets the device of this process.

    Args:
        device: `cpu`; `cuda`, the first GPU of CUDA; `mps`, the GPU of an Apple chip; or `auto`,
            cuda where there is one and cpu elsewhere.

    Raises:
        InputError: this machine has no such device, or the name is unknown.
    """
    _found(device)
    os.environ[VARIABLE] = device


def get_device() -> torch.device:
    """The device of this process; that of `auto` where nothing was set.

    Raises:
        InputError: as `set_device`, where the environment variable was set by hand.
    """
    return _found(os.environ.get(VARIABLE, "auto"))


def _found(device: str) -> torch.device:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device not in get_args(Device):
        names = ", ".join(get_args(Device))
        raise InputError(f"device is {device!r}: it must be one of {names}")
    if not there.get(device, True):
        raise InputError(f"device is {device}, but PyTorch finds no such device: set it to auto")
    if device == "auto":
        device = "cuda" if there["cuda"] else "cpu"
    return torch.device(device)
