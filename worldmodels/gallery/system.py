"""What all systems of the gallery share: their command line, their files, their training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch
from torch import Tensor, nn

from worldmodels.artifacts import fill, naming
from worldmodels.command_line import check_own, keep, name_and_flags, parse
from worldmodels.errors import InputError
from worldmodels.files import file_hash, load_tensors, save_json, save_tensors
from worldmodels.precision import set_precision
from worldmodels.ranges import Seed
from worldmodels.run import Metrics, Run
from worldmodels.schema import load_like
from worldmodels.seeding import seed_for
from worldmodels.stages.fit import FitConfig, Loss, fit
from worldmodels.versions import circumstances

SYSTEMS = {
    "densities": "Densities",
    "arcsine": "Arcsine",
    "spiral": "Spiral",
    "walk": "Walk",
    "handwriting": "Handwriting",
    "kanji": "Kanji",
    "sketch_vae": "Sketches",
    "touch": "Touch",
}
"""The systems' classes; each is in the file of its system's name."""

DATA = "data.json"
"""Says which data a run was begun with."""


class _Data(TypedDict):
    sha256: str


Model = TypeVar("Model", bound=nn.Module)

Numbers = Mapping[str, Any]
"""What a system measures, as results.json holds it."""

falling = partial(FitConfig, final_learning_rate=1e-5)
"""A training whose learning rate falls along a half cosine."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One system: its fields are the options of its command line, its docstring is their title."""

    seed: Seed = 0
    """Of data, initial weights, batches and samples."""
    train: FitConfig = FitConfig()

    free = frozenset[str]()
    """Fields that may change without a new training."""
    float32 = False
    """Whether it trains in float32, whatever the process's precision is."""

    def show(self, metrics: Metrics) -> Numbers:
        """Trains the networks that are not trained yet, measures, and draws the figures."""
        raise NotImplementedError

    def trained(
        self,
        metrics: Metrics,
        make: Callable[[], Model],
        loss: Callable[[Model, int], Tensor],
        *name: int | str,
        config: FitConfig | None = None,
    ) -> Model:
        """The model of NAME.safetensors; without this file it is trained, or continued.

        Args:
            metrics: of the run that holds the file.
            make: makes the model.
            loss: of a model and a step. Batch and noise depend on the step alone, so that a
                training that continues has the same ones.
            name: of the file; initial weights depend on it and on the seed.
            config: of the training; none: `train`.

        Raises:
            InputError: the loss is not finite, or a file belongs to another model.
        """
        model, file = initialised(self.seed, *name, make=make), "_".join(map(str, name))

        def losses(start: int) -> Iterator[Loss]:
            return ((loss(model, step), {}) for step in count(start))

        result = metrics.run.folder / f"{file}.safetensors"
        if not result.exists():
            checkpoint = metrics.run.folder / f"{file}_checkpoint.safetensors"
            how = config or self.train
            fit(model, losses, how, metrics, checkpoint, file)
            save_tensors(result, model.state_dict())
            checkpoint.unlink(missing_ok=True)
        with naming(result):
            fill(model.eval(), load_tensors(result)[0])
        return model


def system_of(name: str) -> type[System]:
    """The system of a name.

    Raises:
        InputError: there is none.
    """
    if name not in SYSTEMS:
        raise InputError(f"{name!r} is not in the gallery: name one of {', '.join(SYSTEMS)}")
    found: type[System] = getattr(import_module(f"worldmodels.gallery.{name}"), SYSTEMS[name])
    return found


def show(argv: Sequence[str]) -> tuple[Run, Numbers]:
    """Runs a system's command line, `NAME ...`; writes its results.json.

    Without `--run` the run folder is runs/gallery/NAME.

    Raises:
        InputError: for a mistake in the arguments, the config or the data.
    """
    name, flags = name_and_flags(argv)
    if name is None:
        known = ", ".join(SYSTEMS)
        raise InputError(f"no system is named: worldmodels gallery NAME, one of {known}")
    kind = system_of(name)
    system, run = parse(kind, str(kind.__doc__), flags, home=f"runs/gallery/{name}")
    if system.float32:
        set_precision("float32")
    check_own(run)
    with run.lock():
        trained = any(run.folder.glob("*.safetensors"))
        keep(system, run, free=system.free, replace=not trained)  # until then it may be corrected
        if (data := getattr(system, "data", None)) is not None:
            _keep_hash(run, Path(data), replace=not trained)
        with Metrics(run, name) as metrics:
            numbers = system.show(metrics)
    report = {
        "system": name,
        "numbers": numbers,
        "seed": system.seed,
        "seconds": sum(line["seconds"] for line in Metrics.ends(run)),
        **circumstances(),
    }
    save_json(run.folder / "results.json", report)
    return run, numbers


def _keep_hash(run: Run, data: Path, *, replace: bool) -> None:
    """Keeps the hash of the data in the run, or compares it with the one that is kept.

    Args:
        run: where it is kept.
        data: a file or a folder.
        replace: does not compare.

    Raises:
        InputError: the data are missing, or are others than the run was begun with.
    """
    paths = sorted(path for path in data.rglob("*") if path.is_file()) if data.is_dir() else [data]
    found, file = file_hash(*paths), run.folder / DATA
    if file.exists() and not replace and load_like(file, _Data)["sha256"] != found:
        raise InputError(
            f"{data} is not what {run.folder} was trained on, it has changed since: restore it, "
            "or use another --run"
        )
    with run.lock():
        save_json(file, {"sha256": found})


def initialised(seed: int, *name: int | str, make: Callable[[], Model]) -> Model:
    """A model whose initial weights depend on the seed and the name alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, *name))
        return make()
