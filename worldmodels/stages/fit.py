"""The training loop of V, M and the gallery: Adam, checkpoints, and the same bits after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from worldmodels.errors import InputError
from worldmodels.files import load_tensors, save_tensors
from worldmodels.precision import CPU
from worldmodels.ranges import NonNegativeInt, PositiveFloat, PositiveInt
from worldmodels.run import Metrics, progress

LOG_EVERY = 50
"""Steps between two lines of metrics.jsonl."""

SHOWN = 4
"""How often a training is shown in pictures before its end."""

CHECKPOINT_SECONDS = 60.0
"""Time between two checkpoints, from which an interrupted training continues to the same bits."""

Loss = tuple[Tensor, Mapping[str, Tensor]]
"""The loss of one step, and its parts, which are logged."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a network is trained with Adam."""

    steps: PositiveInt = 2000
    """Training steps (batches)."""
    batch_size: PositiveInt = 100
    """Samples in a batch."""
    learning_rate: PositiveFloat = 1e-3
    """Adam's learning rate."""
    final_learning_rate: PositiveFloat | None = None
    """The learning rate falls to this along a half cosine; null: it is constant."""
    warmup_steps: NonNegativeInt = 0
    """Batches over which the learning rate rises from 0."""
    gradient_clip: PositiveFloat | None = None
    """Maximum norm of the gradient; null: no limit."""

    def rate(self, step: int) -> float:
        """The learning rate of a step: a linear warm-up, then a half cosine.

        Source: Loshchilov & Hutter 2017, eq. 5.
        """
        rising = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return rising * annealed(self.learning_rate, self.final_learning_rate, step / self.steps)


def fit(
    model: nn.Module,
    losses: Callable[[int], Iterator[Loss]],
    config: FitConfig,
    metrics: Metrics,
    checkpoint: Path,
    name: str,
    clip: Literal["norm", "value"] = "norm",
    device: torch.device = CPU,
    show: Callable[[int], None] | None = None,
) -> None:
    """Trains a model in place, or continues from its checkpoint.

    Args:
        model: moves to the device, and back to the CPU at the end.
        losses: `losses(step)` yields the losses of that step and of all later ones. Batch and
            noise depend on the step alone, so a training that continues has the same ones. Each
            loss is computed only when the weights of its step are in place.
        config: steps, learning rate, clipping.
        metrics: receive the loss and its parts.
        checkpoint: file of weights, Adam's moments and the step.
        name: what is trained, in messages and logged names; no prefix where it is the stage's.
        clip: whether `config.gradient_clip` limits the gradient's norm or each of its values.
        device: that of the losses.
        show: is called with the step some times during the training and at its end, to show
            what the model does.

    Raises:
        InputError: the loss is not finite, or the checkpoint belongs to another model.
    """
    optimizer = adam(model.train().to(device), config.learning_rate)
    start = load_training(checkpoint, model, optimizer) if checkpoint.exists() else 0
    bar = progress(range(start, config.steps), name, initial=start, total=config.steps)
    saved = time.monotonic()
    for step, (loss, parts) in zip(bar, losses(start), strict=False):
        require_finite(loss, name, step, checkpoint)
        if step > start and time.monotonic() - saved >= CHECKPOINT_SECONDS:
            save_training(checkpoint, model, optimizer, step)  # these weights gave a finite loss
            saved = time.monotonic()
        _descend(model, optimizer, loss, config, step, clip)
        if step % LOG_EVERY == 0:
            numbers = {"loss": loss.item(), **{key: part.item() for key, part in parts.items()}}
            bar.set_postfix({key: f"{number:.4g}" for key, number in numbers.items()})
            prefix = "" if name == metrics.stage else f"{name}_"
            metrics.log(step, **{prefix + key: number for key, number in numbers.items()})
        if show is not None and step % max(1, config.steps // SHOWN) == 0:
            show(step)
    model.cpu()
    if show is not None:
        show(config.steps)


def _descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    config: FitConfig,
    step: int,
    clip: Literal["norm", "value"],
) -> None:
    """One step of Adam."""
    for group in optimizer.param_groups:
        group["lr"] = config.rate(step)
    optimizer.zero_grad()
    loss.backward()
    if config.gradient_clip is not None and clip == "value":
        torch.nn.utils.clip_grad_value_(model.parameters(), config.gradient_clip)
    elif config.gradient_clip is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    optimizer.step()


def annealed(start: float, end: float | None, done: float) -> float:
    """The learning rate after a share `done` of the steps, on a half cosine from start to end."""
    return start if end is None else end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def adam(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Adam for the weights that are trained; a step is one pass over them."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(trainable, learning_rate, fused=True)


def require_finite(loss: Tensor, name: str, step: int, checkpoint: Path) -> None:
    """Stops a training whose loss is infinite or NaN.

    Raises:
        InputError: names the step, the last good state and the field to change.
    """
    if not torch.isfinite(loss):
        kept = f"{checkpoint} is the last good state" if checkpoint.exists() else "nothing is lost"
        raise InputError(
            f"{name}: the loss is not finite at step {step} ({kept}): lower its learning_rate in "
            "the run's config.yaml, or look for broken data"
        )


def save_training(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Writes everything that the next step depends on into one safetensors file."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    save_tensors(path, tensors, {"step": str(step)})


def load_training(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restores a model and its optimizer; returns the step to continue with.

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
        raise InputError(f"{path} belongs to another model: delete it to train again") from error


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
