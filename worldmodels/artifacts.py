"""What a run or a bundle has on disk: saves and loads V, M, C, world and bundles.

A checkpoint holds weights and the description that rebuilds their model. Loading executes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import worldmodels
from worldmodels.data.recording import Recording, load_recordings, save_recordings
from worldmodels.data.starts import Starts
from worldmodels.errors import InputError
from worldmodels.files import (
    CHANGED,
    COPY_AGAIN,
    Name,
    file_hash,
    load_json,
    load_tensors,
    plain,
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
from worldmodels.schema import checked
from worldmodels.world import SIZES, World

Model = TypeVar("Model", bound=nn.Module)

OLDEST, WITH_SUMS, FORMAT = 1, 2, 2
"""Versions of the bundle's layout: the oldest that is read, the first with checksums, ours."""
RECORDINGS = "recordings.safetensors"
"""A bundle's short real episodes; a bundle may lack them."""
FILM, CARD = "dream.webp", "README.md"
"""The film on a bundle's card, by `watch`; a bundle may lack it."""
SHIPPED = Path(__file__).parent / "bundles"
"""Folder of the bundles that come with the package."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets the errors of a block name the file that it rebuilds.

    Raises:
        InputError: for any error, since a wrong description raises nearly anything.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path} describes nothing that can be rebuilt ({type(error).__name__}: {reason}): "
            "make it again"
        ) from error


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives a model its weights, and freezes it.

    Raises:
        InputError: they do not fit.
    """
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"the weights do not fit the config ({reason})") from error
    model.requires_grad_(False)


def _filled(make: Callable[[], Model], tensors: Mapping[str, Tensor]) -> Model:
    """Makes a model with saved weights, ready to use; memory is used only if they fit."""
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        fill(make(), tensors)
    model = make()
    fill(model, tensors)
    return model.eval()


def _with_action(world: World) -> World:
    """A world from a file, whose action is checked too."""
    with naming(Path("action")):
        return replace(world, action=checked(Actions, world.action).to_dict())


def _checkpoint(run: Run, name: str) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """The file of a run's V or M, its weights and its description."""
    command = f"worldmodels train-{name}"
    path = run.need(run.folder / name / f"{name}.safetensors", command)
    tensors, about = load_tensors(path)
    if name not in about:
        raise InputError(f"{path} is not a {name} checkpoint: run `{command}`")
    check_finite(path, tensors)
    return path, tensors, about


def save_vae(run: Run, vae: VAE) -> None:
    """Writes the run's V."""
    about = {"vae": asdict(vae.config), "size": vae.size}
    save_tensors(run.vae / "vae.safetensors", vae.state_dict(), about)


def load_vae(run: Run) -> VAE:
    """Reads the run's V, ready to encode.

    Raises:
        InputError: the file is missing, truncated or of another kind.
    """
    path, tensors, about = _checkpoint(run, "vae")
    with naming(path):
        if (size := about.get("size", 64)) not in SIZES:
            raise InputError(f"size is {size}: it must be one of {SIZES}")
        return _filled(partial(VAE, checked(VAEConfig, about["vae"]), size), tensors)


def save_mdnrnn(run: Run, mdnrnn: MDNRNN, world: World, latents: str | None = None) -> None:
    """Writes the run's M.

    Args:
        run: where.
        mdnrnn: M.
        world: M's heads fit it.
        latents: hash of the latents that M learned from; None for an unpacked bundle.
    """
    about = {
        "mdnrnn": asdict(mdnrnn.config),
        "world": world.to_dict(),
        "latent_size": mdnrnn.latent_size,
        "latents": latents,
    }
    save_tensors(run.mdnrnn / "mdnrnn.safetensors", mdnrnn.state_dict(), about)


def load_mdnrnn(run: Run) -> MDNRNN:
    """Reads the run's M, ready to dream.

    Raises:
        InputError: the file is missing, truncated or of another kind.
    """
    path, tensors, about = _checkpoint(run, "mdnrnn")
    with naming(path):
        config = checked(WorldMDNRNNConfig, about["mdnrnn"])
        world = _with_action(checked(World, about["world"]))
        latent_size = checked(int, about["latent_size"])
        return _filled(partial(mdnrnn_for, config, world, latent_size), tensors)


@dataclass(frozen=True)
class SavedController:
    """What evolution wrote of C."""

    config: ControllerConfig
    best: Tensor
    """The chosen parameters (N,)."""
    last: Tensor
    """The average of means that evolution ended with (N,)."""
    validation_return: float
    """Mean return of the best on real validation episodes; NaN where it was not validated."""
    real_steps: dict[str, int]
    """Steps in the real environment to `validate` and to `evolve`."""


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
    save_tensors(path, {"best": saved.best, "last": saved.last}, about)


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
    tensors, about = load_tensors(path)
    names = {"controller", "mdnrnn", "validation", "real_steps"}
    if not {"best", "last"} <= tensors.keys() or not names <= about.keys():
        raise InputError(f"{path} is not a controller: delete it and run `worldmodels evolve`")
    check_evolved_in(run, about["mdnrnn"], path)
    with naming(path):
        config = checked(ControllerConfig, about["controller"])
    rest = about["validation"], about["real_steps"]
    return SavedController(config, tensors["best"], tensors["last"], *rest)


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
        InputError: nothing was collected yet, or a part is missing, unknown or out of range.
    """
    path = run.need(run.world_file, "worldmodels collect")
    data = load_json(path)
    with naming(path):
        return _with_action(checked(World, data))


def check_latents(run: Run) -> str:
    """Returns the hash of the run's latents, having checked that they belong to its V and M.

    Raises:
        InputError: they are missing or of another V, or M learned from others.
    """
    index = load_json(run.need(run.latents / "index.json", "worldmodels encode"))
    if index.get("vae") != file_hash(
        run.need(run.vae / "vae.safetensors", "worldmodels train-vae")
    ):
        raise InputError(f"{run.latents} was made by another V: run `worldmodels encode` again")
    if index.get("hash") is None:
        raise InputError(f"{run.latents} is not complete: run `worldmodels encode` again")
    made = run.mdnrnn / "mdnrnn.safetensors"
    if made.exists() and _checkpoint(run, "mdnrnn")[2].get("latents") != index["hash"]:
        raise InputError(
            f"{made} learned from other latents: delete {run.mdnrnn} and {run.controller}, and run "
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


def link_all(source: Path, target: Path) -> None:
    """`link` of a file, or of all files of a folder."""
    for path in source.rglob("*") if source.is_dir() else [source]:
        if path.is_file():
            link(path, target / path.relative_to(source))


def unlink_all(source: Path, target: Path) -> None:
    """Removes what `link_all` put into a folder; other files stay."""
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).unlink(missing_ok=True)


def has_film(bundle: Path) -> bool:
    """Whether a bundle's card shows its film; the card is written after it."""
    card = bundle / CARD
    return (bundle / FILM).exists() and card.exists() and FILM in card.read_text(encoding="utf-8")


def claim(index: Path, key: str) -> dict[str, Any]:
    """Returns what the index of a folder says, nothing for a new folder.

    Args:
        index: a JSON file in the folder.
        key: that an index of ours has.

    Raises:
        InputError: there are files in the folder, but no such index.
    """
    folder = index.parent
    known = load_json(index) if index.exists() else {}
    if key not in known and folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} was not made by worldmodels: move it to another place")
    return known


@dataclass(frozen=True)
class _Description:
    """bundle.json."""

    format: int
    world: World
    vae: VAEConfig
    mdnrnn: WorldMDNRNNConfig
    controller: ControllerConfig
    dream: dict[str, Any]
    about: dict[str, Any]
    version: str = ""
    """That of the package that wrote it."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Of each file with tensors, and of all else in bundle.json: see `_digest`."""


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
    recordings: tuple[Recording, ...] = ()
    """Short real episodes, to show beside the dream."""

    @property
    def actions(self) -> Actions:
        return Actions.from_dict(self.world.action)

    def save(self, folder: Path) -> None:
        """Writes the folder, bundle.json last: a folder that has it whole is complete.

        Raises:
            InputError: the folder has files that are no bundle's.
        """
        file = folder / "bundle.json"
        if not claim(file, "format"):
            save_json(file, {"format": None})  # ours from now on, and incomplete
        weights = {
            **{f"vae.{name}": tensor for name, tensor in self.vae.state_dict().items()},
            **{f"mdnrnn.{name}": tensor for name, tensor in self.mdnrnn.state_dict().items()},
            "controller": self.parameters,
        }
        path = folder / "weights.safetensors"
        before = file_hash(path) if path.exists() else None
        _save_half(path, weights)
        if file_hash(path) != before:
            (folder / FILM).unlink(missing_ok=True)  # it shows another agent
        _save_half(folder / "starts.safetensors", self.starts.tensors())
        if self.recordings:
            save_recordings(folder / RECORDINGS, self.recordings)
        else:
            (folder / RECORDINGS).unlink(missing_ok=True)
        self.save_card(folder)
        configs = self.vae.config, self.mdnrnn.config, self.controller.config
        made_by = self.dream, self.about, worldmodels.__version__
        description = plain(asdict(_Description(FORMAT, self.world, *configs, *made_by)))  # type: ignore[arg-type]
        names = "weights.safetensors", "starts.safetensors", RECORDINGS
        sums = {name: file_hash(folder / name) for name in names if (folder / name).exists()}
        description["sha256"] = sums
        save_json(file, description | {"sha256": sums | {file.name: _digest(description)}})

    def save_card(self, folder: Path) -> None:
        """Writes the card of the bundle in a folder."""
        about = {name: value for name, value in self.about.items() if name != "scores"}
        if scores := self.about.get("scores"):
            about["score"] = _score_line(scores)
        lines = "\n".join(f"- {name}: {value}" for name, value in about.items())
        text = (
            f"# A world model of {self.world.config.id}\n\n"
            f"V with {self.vae.config.latent_size} latents, M with "
            f"{self.mdnrnn.config.hidden_size} hidden units, C with {self.parameters.numel()} "
            f'parameters. Use it with `worldmodels.load("this folder")`.\n\n'
        )
        if (folder / FILM).exists():
            text += f"![Reality, V's reconstruction of it, and M's dream]({FILM})\n\n"
        save_text(folder / CARD, f"{text}{lines}\n")

    @classmethod
    def load(cls, name: str | Path) -> Bundle:
        """Reads a bundle: a shipped one by its name, a folder, or the bundle of a run folder.

        Raises:
            InputError: there is no such bundle, or it is truncated or of another kind.
        """
        folder = bundle_folder(name)
        file = folder / "bundle.json"
        description = _description(file)
        tensors = _load_single(folder / "weights.safetensors", description)
        if "controller" not in tensors:
            raise InputError(f"{folder / 'weights.safetensors'} is not of a bundle: make it again")
        starts = _starts_of(folder / "starts.safetensors", description)
        with naming(file):
            bundle = cls._rebuilt(description, tensors, starts)
        if not (folder / RECORDINGS).exists():
            return bundle
        M, path = bundle.mdnrnn, folder / RECORDINGS
        sizes = M.latent_size, M.config.hidden_size, M.action_size
        return replace(bundle, recordings=load_recordings(path, *sizes, _sum(path, description)))

    @classmethod
    def _rebuilt(cls, one: _Description, tensors: dict[str, Tensor], starts: Starts) -> Bundle:
        world, latent_size = _with_action(one.world), one.vae.latent_size
        vae = _filled(partial(VAE, one.vae, world.config.size), _under("vae.", tensors))
        make_mdnrnn = partial(mdnrnn_for, one.mdnrnn, world, latent_size)
        mdnrnn = _filled(make_mdnrnn, _under("mdnrnn.", tensors))
        controller = controller_for(one.controller, mdnrnn)
        parameters = tensors["controller"]
        if parameters.shape != (controller.num_parameters,):
            raise InputError("the weights hold no controller that fits: make the bundle again")
        if (starts.mu.shape[2], starts.actions.shape[2]) != (latent_size, mdnrnn.action_size):
            raise InputError("there are no start windows that fit: make the bundle again")
        return cls(world, vae, mdnrnn, controller, parameters, starts, one.dream, one.about)


def bundle_folder(name: str | Path) -> Path:
    """Returns the folder of a bundle: a shipped one's name, a folder, or a run folder.

    Raises:
        InputError: there is none.
    """
    if isinstance(name, (str, os.PathLike)):
        for folder in (SHIPPED / name, Path(name), Path(name) / "bundle"):
            with contextlib.suppress(OSError):  # such as a name that is too long
                if (folder / "bundle.json").is_file():
                    return folder
    shipped = sorted(p.name for p in SHIPPED.glob("*") if (p / "bundle.json").is_file())
    raise InputError(
        f"{name} is not a bundle: name a shipped one ({', '.join(shipped)}), a bundle's folder, or "
        "a run in which `worldmodels evaluate` has written one"
    )


def load_starts(path: Path) -> Starts:
    """Reads the start windows of a file.

    Raises:
        InputError: there are none, or their shapes do not belong together.
    """
    return _starts_of(path)


def _starts_of(path: Path, description: _Description | None = None) -> Starts:
    tensors = _load_single(path, description)
    sizes = [tensors[name].shape for name in ("mu", "actions", "first") if name in tensors]
    if [len(size) for size in sizes] != [3, 3, 1] or len(tensors) != 3:
        raise InputError(f"{path} holds no start windows: make the bundle again")
    mu, actions, first = sizes
    if not mu[0] or mu[:2] != actions[:2] or mu[:1] != first:
        raise InputError(f"{path} holds no start windows that fit: make the bundle again")
    return Starts(**tensors)


def unpack(bundle: Bundle, run: Run) -> None:
    """Makes a run of a bundle: its world, V, M, C and start windows.

    Other controllers can then be evolved, studied and ranked in it without episodes.

    Raises:
        InputError: the run has begun.
    """
    with run.lock():
        if run.world_file.exists():
            raise InputError(f"{run.folder} has already begun: use another --run")
        save_vae(run, bundle.vae)
        save_mdnrnn(run, bundle.mdnrnn, bundle.world)
        c = bundle.controller.config, bundle.parameters, bundle.parameters.clone()
        evolved = SavedController(*c, bundle.about.get("validation", math.nan), {})
        mdnrnn = file_hash(run.mdnrnn / "mdnrnn.safetensors")
        save_controller(run.controller / "unpacked.safetensors", evolved, mdnrnn)
        save_tensors(run.starts, bundle.starts.tensors())
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


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _save_half(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_tensors(path, {name: tensor.half() for name, tensor in tensors.items()})


def _load_single(path: Path, description: _Description | None = None) -> dict[str, Tensor]:
    """Tensors in float32, which are finite and, in a bundle, those that it was written with."""
    loaded = load_tensors(path, _sum(path, description))[0]
    check_finite(path, loaded)
    return {name: tensor.float() for name, tensor in loaded.items()}


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Checks that the weights of a file are numbers.

    Raises:
        InputError: one is NaN or infinite.
    """
    if wrong := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise InputError(f"{path}: {wrong[0]} is not finite: make the file again")


def _description(file: Path) -> _Description:
    """Reads bundle.json.

    Raises:
        InputError: it is of another format, was changed, or describes no bundle.
    """
    data = load_json(file)
    if data.get("format") not in range(OLDEST, FORMAT + 1):
        raise InputError(
            f"{file} has format {data.get('format')}, written by version "
            f"{str(data.get('version') or 'unknown')[:20]} of worldmodels-dream; version "
            f"{worldmodels.__version__} reads {OLDEST} to {FORMAT}: update, or make it again"
        )
    with naming(file):
        found = checked(_Description, data)
    if found.format >= WITH_SUMS and found.sha256.get(file.name) != _digest(data):
        raise InputError(f"{file} {CHANGED}: {COPY_AGAIN}")
    return found


def _digest(description: Mapping[str, Any]) -> str:
    """SHA-256 of all that bundle.json says beside this very sum, whatever its order and spaces."""
    sums = description.get("sha256", {})
    others = {name: value for name, value in sums.items() if name != "bundle.json"}
    rest = {**description, "sha256": others}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _sum(path: Path, description: _Description | None) -> str | None:
    """The checksum that a bundle states for a file; None: it has none, or is of an old format."""
    if description is None or description.format < WITH_SUMS:
        return None
    return description.sha256.get(path.name, "none")
