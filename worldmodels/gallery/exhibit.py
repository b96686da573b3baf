"""What all exhibits share: their command line, their files, and their training loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from worldmodels.artifacts import fill, save_model
from worldmodels.command_line import CONFIGS, keep, leading, parse
from worldmodels.errors import InputError, check_above_zero, check_at_least
from worldmodels.files import load_tensors, save_json
from worldmodels.run import Metrics, Run, cores, progress
from worldmodels.seeding import seed_for
from worldmodels.stages.fit import (
    adam,
    annealed,
    load_training,
    require_finite,
    save_training,
)
from worldmodels.versions import package_versions

NAMES = ("densities", "arcsine", "spiral", "walk", "handwriting", "kanji", "sketch_vae", "touch")

Model = TypeVar("Model", bound=nn.Module)

Numbers = Mapping[str, Any]
"""What an exhibit measures, as results.json holds it."""


@dataclass(frozen=True)
class Exhibit:
    """One system: what it is, its config, and the function that trains, measures and draws it."""

    about: str
    """First line of its `--help`."""
    config: type[Any]
    """Dataclass of its sections; `show` may change without training anew."""
    show: Callable[[Metrics, Any], Numbers]
    """Trains what isn't trained, measures and draws, into the run of the metrics."""


def exhibit_of(name: str) -> Exhibit:
    """The exhibit of a name.

    Raises:
        InputError: there is none.
    """
    if name not in NAMES:
        raise InputError(f"{name!r} is not in the gallery: name one of {', '.join(NAMES)}")
    found: Exhibit = import_module(f"worldmodels.gallery.{name}").EXHIBIT
    return found


def show(argv: Sequence[str]) -> tuple[Run, Numbers]:
    """Runs an exhibit's command line, `NAME ...`; writes its results.json.

    Without `--run` its folder is runs/gallery/NAME; a new run without `--config` follows
    configs/gallery/NAME.yaml.

    Raises:
        InputError: for a mistake in the arguments, the config or the data.
    """
    name, flags = leading(argv)
    if name is None:
        raise InputError(f"no exhibit is named: worldmodels gallery NAME, of {', '.join(NAMES)}")
    exhibit = exhibit_of(name)
    config, run = parse(exhibit.config, exhibit.about, _completed(name, flags))
    new = not run.config_file.exists()
    keep(config, run, free=("show",))
    try:
        with Metrics(run, name) as metrics:
            numbers = exhibit.show(metrics, config)
    except InputError:
        if new and not any(run.folder.glob("*.safetensors")):
            run.config_file.unlink()  # nothing was learnt by it: it may be corrected
        raise
    report = {
        "exhibit": name,
        "numbers": numbers,
        "seed": config.seed,
        "seconds": sum(line["seconds"] for line in Metrics.ends(run)),
        "cores": cores(),
        "command": " ".join(sys.argv),
        "versions": package_versions(),
    }
    save_json(run.folder / "results.json", report)
    return run, numbers


def _completed(name: str, flags: list[str]) -> list[str]:
    """The flags with the run and the config that are meant where none is named."""
    run = [flag for flag in flags if flag.split("=")[0] == "--run"]
    if not run:
        flags = [f"--run=runs/gallery/{name}", *flags]
    stated = {flag.split("=")[0] for flag in flags} & {"--config", "-h", "--help"}
    folder = next((f.partition("=")[2] for f in flags if f.startswith("--run=")), None)
    folder = folder or flags[flags.index("--run") + 1]
    file = CONFIGS / "gallery" / f"{name}.yaml"
    if not stated and not Run(folder).config_file.exists() and file.exists():
        flags = [f"--config={file}", *flags]
    return flags


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network learns: Adam."""

    steps: int = 2000
    """Batches."""
    batch_size: int = 100
    """Points or sequences in a batch."""
    learning_rate: float = 1e-3
    final_learning_rate: float | None = None
    """Fall to it along a cosine; none: constant."""
    gradient_clip: float | None = None
    """Largest norm of the gradient; none: any."""
    checkpoint_every: int = 250
    """Batches after which training can go on after a kill."""

    def __post_init__(self) -> None:
        check_at_least("train", self, 1, "steps", "batch_size", "checkpoint_every")
        check_above_zero("train", self, "learning_rate", "final_learning_rate", "gradient_clip")


def train(
    metrics: Metrics,
    name: str,
    model: nn.Module,
    config: TrainConfig,
    loss: Callable[[int], Tensor],
    watch: Callable[[int], Mapping[str, float]] | None = None,
) -> None:
    """Trains a model, or goes on with it, or reads it if it is trained; NAME.safetensors.

    Args:
        metrics: of the run in which its files lie.
        name: its files'.
        model: is changed in place; frozen and in evaluation mode afterwards.
        config: steps, rates.
        loss: of a step; the step alone decides the batch and the noise, so that a resumed training
            has the same.
        watch: numbers to log of a checkpoint's step.

    Raises:
        InputError: the loss is not finite, or a file belongs to another model.
    """
    result = metrics.run.folder / f"{name}.safetensors"
    if not result.exists():
        _descend(metrics, name, model, config, loss, watch)
        save_model(result, model, {})
    fill(model.eval(), "", load_tensors(result)[0], result)


def _descend(
    metrics: Metrics,
    name: str,
    model: nn.Module,
    config: TrainConfig,
    loss: Callable[[int], Tensor],
    watch: Callable[[int], Mapping[str, float]] | None,
) -> None:
    optimizer = adam(model.train(), config.learning_rate)
    checkpoint = metrics.run.folder / f"{name}_checkpoint.safetensors"
    start = load_training(checkpoint, model, optimizer) if checkpoint.exists() else 0
    bar = progress(range(start, config.steps), name, initial=start, total=config.steps)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = annealed(
                config.learning_rate, config.final_learning_rate, step / config.steps
            )
        value = loss(step)
        require_finite(value, name, step, checkpoint)
        if step % config.checkpoint_every == 0 and step > start:
            save_training(checkpoint, model, optimizer, step)
            bar.set_postfix(loss=f"{value.item():.3f}")
            numbers = {"loss": value.item(), **(watch(step) if watch else {})}
            metrics.log(step, **{f"{name}_{key}": number for key, number in numbers.items()})
        optimizer.zero_grad()
        value.backward()
        if config.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        optimizer.step()
    checkpoint.unlink(missing_ok=True)


def drawn(seed: int, *name: int | str, make: Callable[[], Model]) -> Model:
    """A model whose first weights come from the seed and the name alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, *name))
        return make()
