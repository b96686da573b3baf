"""What a run or a bundle has on disk: saves and loads V, M, C, world and bundles; links and hashes.

A checkpoint holds what rebuilds its model. Loading executes nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from worldmodels.command_line import validated
from worldmodels.data.starts import Starts
from worldmodels.errors import InputError
from worldmodels.files import (
    Name,
    file_hash,
    load_json,
    load_tensors,
    replacing,
    save_json,
    save_tensors,
    save_text,
)
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, ControllerConfig, controller_for
from worldmodels.models.heads.build import WorldMDNRNNConfig, mdnrnn_for
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.run import Run
from worldmodels.world import EnvConfig, RawPicture, World

Section = TypeVar("Section")
Model = TypeVar("Model", bound=nn.Module)

FORMAT = 1
"""Version of the bundle's layout."""
SHIPPED = Path(__file__).parent / "bundles"
"""Folder of the bundles that come with the package."""


def save_model(path: Path, model: nn.Module, about: Mapping[str, Any]) -> None:
    """Writes a checkpoint: the weights, and in the metadata what rebuilds the model."""
    _save_described(path, model.state_dict(), about)


def save_vae(run: Run, vae: VAE) -> None:
    """Writes the run's V."""
    save_model(run.vae / "vae.safetensors", vae, {"vae": asdict(vae.config)})


def save_mdnrnn(run: Run, mdnrnn: MDNRNN, world: World, latents: str | None = None) -> None:
    """Writes the run's M.

    Args:
        run: where.
        mdnrnn: M.
        world: M's heads fit it.
        latents: hash of the latents that M learnt from; None for an unpacked bundle.
    """
    about = {
        "mdnrnn": asdict(mdnrnn.config),
        "world": world.to_dict(),
        "latent_size": mdnrnn.latent_size,
        "latents": latents,
    }
    save_model(run.mdnrnn / "mdnrnn.safetensors", mdnrnn, about)


def load_vae(path: Path) -> VAE:
    """Reads V from its checkpoint, ready to encode.

    Raises:
        InputError: the file is missing, truncated or of another kind.
    """
    with _rebuilding(path):
        return _build_vae(_checkpoint(path, "vae"))


def load_mdnrnn(path: Path) -> MDNRNN:
    """Reads M from its checkpoint, ready to dream.

    Raises:
        InputError: the file is missing, truncated or of another kind.
    """
    with _rebuilding(path):
        return _build_mdnrnn(_checkpoint(path, "mdnrnn"))


@contextlib.contextmanager
def _rebuilding(path: Path) -> Iterator[None]:
    """Turns what a wrong description raises, which may be nearly anything, into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path} describes nothing that can be rebuilt ({type(error).__name__}: {reason}): "
            "make it again"
        ) from error


@dataclass(frozen=True)
class _Saved:
    """Weights beside the description that rebuilds their model: a checkpoint's or a bundle's."""

    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]
    weights_file: Path
    about_file: Path


def _save_described(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    metadata = {name: json.dumps(value, sort_keys=True) for name, value in about.items()}
    save_tensors(path, tensors, metadata)


def _load_described(path: Path) -> _Saved:
    tensors, metadata = load_tensors(path)
    try:
        about = {name: json.loads(value) for name, value in metadata.items()}
    except ValueError as error:
        raise InputError(f"{path}: the metadata are not JSON: make it again") from error
    return _Saved(tensors, about, path, path)


def _checkpoint(path: Path, name: str) -> _Saved:
    saved = _load_described(path)
    if name not in saved.about:
        raise InputError(f"{path} is not a {name} checkpoint: run `worldmodels train-{name}`")
    return saved


def _build_vae(saved: _Saved, prefix: str = "") -> VAE:
    config = section(VAEConfig, saved.about, "vae", saved.about_file)
    return _filled(lambda: VAE(config), prefix, saved)


def _build_mdnrnn(saved: _Saved, prefix: str = "") -> MDNRNN:
    config = section(WorldMDNRNNConfig, saved.about, "mdnrnn", saved.about_file)
    world = world_from(part(saved.about, "world", saved.about_file), saved.about_file)
    latent_size = saved.about["latent_size"]
    return _filled(lambda: mdnrnn_for(config, world, latent_size), prefix, saved)


def _filled(make: Callable[[], Model], prefix: str, saved: _Saved) -> Model:
    """Makes a model with saved weights, ready to use; memory is used only if they fit."""
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        fill(make(), prefix, saved.tensors, saved.weights_file)
    model = make()
    fill(model, prefix, saved.tensors, saved.weights_file)
    return model.eval()


def fill(model: nn.Module, prefix: str, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Gives a model the weights whose names begin with the prefix, and freezes it.

    Raises:
        InputError: they do not fit.
    """
    start = f"{prefix}." if prefix else ""
    chosen = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    try:
        model.load_state_dict(chosen)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{source}: the weights do not fit the config ({reason})") from error
    model.requires_grad_(False)


def part(data: Mapping[str, Any], name: str, source: Path) -> dict[str, Any]:
    """Returns a section of a file's JSON.

    Raises:
        InputError: it is missing.
    """
    found = data.get(name)
    if not isinstance(found, dict):
        raise InputError(f"{source}: section {name} is missing: make it again")
    return found


def section(kind: type[Section], data: Mapping[str, Any], name: str, source: Path) -> Section:
    """Returns the dataclass that a section of a file's JSON describes.

    Raises:
        InputError: it is missing, or a field is unknown, of a wrong type or out of range.
    """
    given = part(data, name, source)
    try:
        return validated(kind, given)
    except InputError as error:
        raise InputError(f"{source}: section {name} is wrong ({error})") from error


@dataclass(frozen=True)
class SavedController:
    """What evolution wrote of C."""

    config: ControllerConfig
    parameters: dict[str, Tensor]
    """(N,) each: `best`, the chosen one, and `last`, the mean of the last generation."""
    validation_return: float
    """Mean return of the best on real validation episodes; NaN where it was not validated."""
    real_steps: dict[str, int]
    """Steps in the real world to `validate` and to `evolve`."""


def save_controller(path: Path, saved: SavedController, mdnrnn: str) -> None:
    """Writes C.

    Args:
        path: the file.
        saved: C.
        mdnrnn: hash of the M that C was evolved in.
    """
    about = {
        "controller": asdict(saved.config),
        "mdnrnn": mdnrnn,
        "validation": saved.validation_return,
        "real_steps": saved.real_steps,
    }
    _save_described(path, saved.parameters, about)


def controller_file(run: Run) -> Path | None:
    """Returns the file of a run's C: evolution's, or else an unpacked bundle's."""
    files = run.controller / "controller.safetensors", run.controller / "unpacked.safetensors"
    return next((path for path in files if path.exists()), None)


def load_controller(run: Run) -> SavedController:
    """Reads a run's C.

    Raises:
        InputError: the file is missing or of another kind, or C was evolved in another M.
    """
    default = run.controller / "controller.safetensors"
    path = run.need(controller_file(run) or default, "worldmodels evolve")
    saved = _load_described(path)
    names = {"controller", "mdnrnn", "validation", "real_steps"}
    if not {"best", "last"} <= saved.tensors.keys() or not names <= saved.about.keys():
        raise InputError(f"{path} is not a controller: delete it and run `worldmodels evolve`")
    check_evolved_in(run, saved.about["mdnrnn"], path)
    config = section(ControllerConfig, saved.about, "controller", path)
    rest = saved.about["validation"], saved.about["real_steps"]
    return SavedController(config, dict(saved.tensors), *rest)


def check_evolved_in(run: Run, mdnrnn: str, path: Path) -> None:
    """Checks that a file of evolution belongs to the run's M, whose hash it holds.

    Raises:
        InputError: it belongs to another M.
    """
    if mdnrnn != file_hash(run.need(run.mdnrnn / "mdnrnn.safetensors", "worldmodels train-mdnrnn")):
        raise InputError(f"{path} was evolved in another M: delete {path.parent} and evolve again")


def load_world(run: Run) -> World:
    """Reads world.json of a run.

    Raises:
        InputError: nothing was collected yet.
    """
    path = run.need(run.world_file, "worldmodels collect")
    return world_from(load_json(path), path)


def world_from(data: Mapping[str, Any], source: Path) -> World:
    """Returns the world of a file's JSON.

    Raises:
        InputError: a field is missing, unknown, of a wrong type or out of range.
    """
    config = section(EnvConfig, data, "config", source)
    actions = section(Actions, data, "action", source)
    if not (isinstance(data.get("fps"), (int, float)) and data["fps"] > 0):
        raise InputError(f"{source}: fps is {data.get('fps')!r}: it must be a number above 0")
    return World(
        config,
        actions.to_dict(),
        float(data["fps"]),
        part(data, "versions", source),
        section(RawPicture, data, "picture", source),
    )


def check_latents(run: Run) -> str:
    """Returns the hash of the run's latents, having checked that they belong to its V and M.

    Raises:
        InputError: they are missing or of another V, or M learnt from others.
    """
    index = load_json(run.need(run.latents / "index.json", "worldmodels encode"))
    if index.get("vae") != file_hash(
        run.need(run.vae / "vae.safetensors", "worldmodels train-vae")
    ):
        raise InputError(f"{run.latents} was made by another V: run `worldmodels encode` again")
    if index.get("hash") is None:
        raise InputError(f"{run.latents} is not complete: run `worldmodels encode` again")
    made = run.mdnrnn / "mdnrnn.safetensors"
    if made.exists() and _checkpoint(made, "mdnrnn").about.get("latents") != index["hash"]:
        raise InputError(
            f"{made} learnt from other latents: delete {run.mdnrnn} and {run.controller}, and run "
            "`worldmodels train-mdnrnn` again"
        )
    return str(index["hash"])


def check_dreams(run: Run) -> None:
    """Checks that dreams of the run can begin, in an unpacked bundle's windows or in its latents.

    Raises:
        InputError: there are neither, or the latents do not belong to V and M.
    """
    if not run.starts.exists():
        check_latents(run)


def link(source: Name, target: Name) -> None:
    """Puts a file at a second place: as a hard link, or a copy where the disk has no links."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


@dataclass(frozen=True)
class Bundle:
    """An agent and the dream it was evolved in."""

    world: World
    vae: VAE
    mdnrnn: MDNRNN
    controller: Controller
    parameters: Tensor
    """C's parameter vector (N,)."""
    starts: Starts
    """Windows from which dreams begin."""
    dream: dict[str, Any]
    """Temperature and horizon that C was evolved at."""
    about: dict[str, Any] = field(default_factory=dict)
    """How it was made: seed, command, scores."""

    @property
    def actions(self) -> Actions:
        return Actions.from_dict(self.world.action)

    def save(self, folder: Path) -> None:
        """Writes the folder, bundle.json last: a folder that has it is complete."""
        weights = {
            **{f"vae.{name}": tensor for name, tensor in self.vae.state_dict().items()},
            **{f"mdnrnn.{name}": tensor for name, tensor in self.mdnrnn.state_dict().items()},
            "controller": self.parameters,
        }
        _save_half(folder / "weights.safetensors", weights)
        _save_half(folder / "starts.safetensors", self.starts.tensors())
        save_text(folder / "README.md", self._card())
        save_json(folder / "bundle.json", self._description())

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "world": self.world.to_dict(),
            "vae": asdict(self.vae.config),
            "mdnrnn": asdict(self.mdnrnn.config),
            "controller": asdict(self.controller.config),
            "dream": self.dream,
            "about": self.about,
        }

    def _card(self) -> str:
        about = {name: value for name, value in self.about.items() if name != "scores"}
        if scores := self.about.get("scores"):
            about["score"] = _score_line(scores)
        lines = "\n".join(f"- {name}: {value}" for name, value in about.items())
        return (
            f"# A world model of {self.world.config.id}\n\n"
            f"V with {self.vae.config.latent_size} latents, M with "
            f"{self.mdnrnn.config.hidden_size} hidden units, C with {self.parameters.numel()} "
            f'parameters. Use it with `worldmodels.load("this folder")`.\n\n{lines}\n'
        )

    @classmethod
    def load(cls, name: str | Path) -> Bundle:
        """Reads a bundle: a shipped one by its name, a folder, or the bundle of a run folder.

        Raises:
            InputError: there is no such bundle, or it is truncated or of another kind.
        """
        folder = bundle_folder(name)
        file = folder / "bundle.json"
        description = load_json(file)
        if description.get("format") != FORMAT:
            raise InputError(f"{file}: format must be {FORMAT}: make it again")
        with _rebuilding(file):
            return cls._rebuilt(folder, description)

    @classmethod
    def _rebuilt(cls, folder: Path, description: Mapping[str, Any]) -> Bundle:
        file, source = folder / "bundle.json", folder / "weights.safetensors"
        world = world_from(part(description, "world", file), file)
        latent_size = section(VAEConfig, description, "vae", file).latent_size
        about = {**description, "latent_size": latent_size}
        saved = _Saved(_load_single(source), about, source, file)
        vae, mdnrnn = _build_vae(saved, "vae"), _build_mdnrnn(saved, "mdnrnn")
        controller = controller_for(section(ControllerConfig, about, "controller", file), mdnrnn)
        parameters = saved.tensors.get("controller", torch.empty(0))
        if parameters.shape != (controller.num_parameters,):
            raise InputError(f"{source} holds no controller that fits: make the bundle again")
        starts = load_starts(folder / "starts.safetensors")
        if (starts.mu.shape[2], starts.actions.shape[2]) != (latent_size, mdnrnn.action_size):
            raise InputError(f"{folder} holds no start windows that fit: make the bundle again")
        rest = part(description, "dream", file), part(description, "about", file)
        return cls(world, vae, mdnrnn, controller, parameters, starts, *rest)


def bundle_folder(name: str | Path) -> Path:
    """Returns the folder of a bundle: a shipped one's name, a folder, or a run folder.

    Raises:
        InputError: there is none.
    """
    for folder in (SHIPPED / str(name), Path(name), Path(name) / "bundle"):
        if (folder / "bundle.json").is_file():
            return folder
    shipped = sorted(p.name for p in SHIPPED.glob("*") if (p / "bundle.json").is_file())
    raise InputError(
        f"{name} is no bundle: name a shipped one ({', '.join(shipped)}), a bundle's folder, or a "
        "run in which `worldmodels evaluate` has written one"
    )


def load_starts(path: Path) -> Starts:
    """Reads the start windows of a file.

    Raises:
        InputError: there are none, or their shapes do not belong together.
    """
    tensors = _load_single(path)
    sizes = [tensors[name].shape for name in ("mu", "actions", "first") if name in tensors]
    if [len(size) for size in sizes] != [3, 3, 1] or len(tensors) != 3:
        raise InputError(f"{path} holds no start windows: make the bundle again")
    mu, actions, first = sizes
    if not mu[0] or mu[:2] != actions[:2] or mu[:1] != first:
        raise InputError(f"{path} holds no start windows that fit: make the bundle again")
    return Starts(**tensors)


def unpack(name: str | Path, run: Run) -> None:
    """Makes a run of a bundle: its world, V, M, C and start windows.

    Other controllers can then be evolved, studied and ranked in it without episodes.

    Raises:
        InputError: there is no such bundle, or the run has begun.
    """
    bundle = Bundle.load(name)
    with run.lock():
        if run.world_file.exists():
            raise InputError(f"{run.folder} has begun already: use another --run")
        _save_parts(bundle, run)


def _save_parts(bundle: Bundle, run: Run) -> None:
    save_vae(run, bundle.vae)
    save_mdnrnn(run, bundle.mdnrnn, bundle.world)
    parameters = {"best": bundle.parameters, "last": bundle.parameters.clone()}
    validation = bundle.about.get("validation", math.nan)
    evolved = SavedController(bundle.controller.config, parameters, validation, {})
    mdnrnn = file_hash(run.mdnrnn / "mdnrnn.safetensors")
    save_controller(run.controller / "unpacked.safetensors", evolved, mdnrnn)
    save_tensors(run.starts, bundle.starts.tensors(), None)
    save_json(run.world_file, bundle.world.to_dict())


def _score_line(scores: Mapping[str, Any]) -> str:
    """Scores in one line: the agent's, and the means of the open-loop baselines."""
    low, high = scores["ci95"]
    names = "split", "episodes", "seeds", "mean", "std", "ci95"
    baselines = ", ".join(f"{k} {v:.1f}" for k, v in scores.items() if k not in names)
    return (
        f"{scores['mean']:.1f} ± {scores['std']:.1f}, 95% of the mean {low:.1f} to {high:.1f}, "
        f"over {scores['episodes']} {scores['split']} episodes of the official environment"
        + (f" ({baselines})" if baselines else "")
    )


def _save_half(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_tensors(path, {name: tensor.half() for name, tensor in tensors.items()})


def _load_single(path: Path) -> dict[str, Tensor]:
    tensors = {name: tensor.float() for name, tensor in load_tensors(path)[0].items()}
    if wrong := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise InputError(f"{path}: {wrong[0]} is not finite: make the bundle again")
    return tensors
