"""Where training stands: weights, Adam's moments and the step, in one safetensors file."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from worldmodels.errors import InputError
from worldmodels.files import load_tensors, save_tensors
from worldmodels.precision import Precision, product_dtype


def best_device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def training_dtype(precision: Precision, stage: str, device: torch.device) -> torch.dtype:
    """Of a stage's large products; bfloat16 needs a CPU, whose kernels do the rest.

    Raises:
        InputError: bfloat16 is asked for where it can't be had.
    """
    if device.type == "cpu":
        return product_dtype(precision)
    if precision == "bfloat16":
        raise InputError(f"{stage}.precision: bfloat16 needs a CPU; set it to auto")
    return torch.float32


def adam(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Adam on the weights that are trained, each step one pass over them."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(trainable, learning_rate, fused=True)


def save_training(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Everything that the next step depends on."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    save_tensors(path, tensors, {"step": str(step)})


def load_training(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Puts a model and its optimizer back where they were; the step to go on with.

    Raises:
        InputError: the file is truncated or belongs to another model.
    """
    tensors, metadata = load_tensors(path)
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    try:
        model.load_state_dict(weights)
        _load_optimizer(optimizer, tensors)
        return int(metadata["step"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{path} belongs to another model: delete it to train anew") from error


def require_finite(loss: Tensor, model: str, stage: str, step: int, checkpoint: Path) -> None:
    """Stops a stage whose loss has left the finite numbers.

    Raises:
        InputError: names the step, the last good state and the field to change.
    """
    if not torch.isfinite(loss):
        kept = f"{checkpoint} is the last good state" if checkpoint.exists() else "nothing is lost"
        raise InputError(
            f"{model}'s loss is not finite at step {step} ({kept}): lower {stage}.learning_rate in "
            "the run's config.yaml, or look for broken data"
        )


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def annealed(start: float, end: float | None, done: float) -> float:
    """A learning rate after a share `done` of the steps: along a half cosine from start to end.

    Constant without an end. Source: Loshchilov & Hutter 2017, eq. 5.
    """
    return start if end is None else end + (start - end) * (1 + math.cos(math.pi * done)) / 2
