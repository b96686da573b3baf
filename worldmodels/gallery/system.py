"""What all systems of the gallery share: their command line, their files, their training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from worldmodels.artifacts import fill, naming
from worldmodels.command_line import keep, name_and_flags, parse
from worldmodels.errors import InputError
from worldmodels.files import load_tensors, save_json, save_tensors
from worldmodels.precision import Precision, get_precision, set_precision
from worldmodels.run import Metrics, Run
from worldmodels.seeding import seed_for
from worldmodels.stages.fit import FitConfig, Loss, fit
from worldmodels.versions import circumstances

NAMES = ("densities", "arcsine", "spiral", "walk", "handwriting", "kanji", "sketch_vae", "touch")

Model = TypeVar("Model", bound=nn.Module)

Numbers = Mapping[str, Any]
"""What a system measures, as results.json holds it."""


@dataclass(frozen=True)
class System:
    """One system of the gallery."""

    about: str
    """First line of its `--help`."""
    config: type[Any]
    """Dataclass of its fields and sections; `show` may change without a new training."""
    show: Callable[[Metrics, Any], Numbers]
    """Trains the networks that are not trained yet, measures, and draws the figures."""
    precision: Precision | None = None
    """Of large products in training; none: the process's setting."""


def system_of(name: str) -> System:
    """The system of a name.

    Raises:
        InputError: there is none.
    """
    if name not in NAMES:
        raise InputError(f"{name!r} is not in the gallery: name one of {', '.join(NAMES)}")
    found: System = import_module(f"worldmodels.gallery.{name}").SYSTEM
    return found


def show(argv: Sequence[str]) -> tuple[Run, Numbers]:
    """Runs a system's command line, `NAME ...`; writes its results.json.

    Without `--run` the run folder is runs/gallery/NAME.

    Raises:
        InputError: for a mistake in the arguments, the config or the data.
    """
    name, flags = name_and_flags(argv)
    if name is None:
        raise InputError(f"no system is named: worldmodels gallery NAME, one of {', '.join(NAMES)}")
    system = system_of(name)
    config, run = parse(system.config, system.about, flags, home=f"runs/gallery/{name}")
    new = not run.config_file.exists()
    keep(config, run, free=("show",))
    try:
        with Metrics(run, name) as metrics, _precision(system.precision):
            numbers = system.show(metrics, config)
    except InputError:
        if new and not any(run.folder.glob("*.safetensors")):
            run.config_file.unlink()  # nothing was trained with it: it may be corrected
        raise
    report = {
        "system": name,
        "numbers": numbers,
        "seed": config.seed,
        "seconds": sum(line["seconds"] for line in Metrics.ends(run)),
        **circumstances(),
    }
    save_json(run.folder / "results.json", report)
    return run, numbers


@contextmanager
def _precision(precision: Precision | None) -> Iterator[None]:
    before = get_precision()
    set_precision(precision or before)
    try:
        yield
    finally:
        set_precision(before)


def train(
    metrics: Metrics, name: str, model: nn.Module, config: FitConfig, loss: Callable[[int], Tensor]
) -> None:
    """Trains a model, continues its training, or reads it if it is trained: NAME.safetensors.

    Args:
        metrics: of the run that holds the file.
        name: of the file.
        model: is changed in place, and left in evaluation mode.
        config: steps, learning rate, clipping.
        loss: the loss of a step. Batch and noise depend on the step alone, so that a training
            that continues has the same ones.

    Raises:
        InputError: the loss is not finite, or a file belongs to another model.
    """

    def losses(start: int) -> Iterator[Loss]:
        return ((loss(step), {}) for step in count(start))

    result = metrics.run.folder / f"{name}.safetensors"
    if not result.exists():
        checkpoint = metrics.run.folder / f"{name}_checkpoint.safetensors"
        fit(model, losses, config, metrics, checkpoint, name, device=torch.device("cpu"))
        save_tensors(result, model.state_dict())
        checkpoint.unlink(missing_ok=True)
    tensors, _ = load_tensors(result)
    with naming(result):
        fill(model.eval(), tensors)


def two_layers(
    inputs: int,
    hidden: int,
    last: Callable[[], nn.Module],
    activation: Callable[[], nn.Module] = nn.Tanh,
) -> nn.Sequential:
    """Two hidden layers, and a last one that `last` makes."""
    first, second = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
    return nn.Sequential(first, activation(), second, activation(), last())


def initialised(seed: int, *name: int | str, make: Callable[[], Model]) -> Model:
    """A model whose initial weights depend on the seed and the name alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, *name))
        return make()
