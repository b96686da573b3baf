"""What a run's stages leave behind: V, M, C, their world and latents, read back and checked.

Loading reads numbers and names only; nothing is executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from worldmodels.command_line import validated
from worldmodels.data.starts import Starts
from worldmodels.errors import InputError
from worldmodels.files import file_hash, load_json, load_tensors, save_json, save_tensors, save_text
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, ControllerConfig, controller_for
from worldmodels.models.mdnrnn import MDNRNN, Heads, MDNRNNConfig
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.run import Run
from worldmodels.world import World

Section = TypeVar("Section")


def save_model(path: Path, model: nn.Module, about: Mapping[str, Any]) -> None:
    """A run's own checkpoint: weights, and as metadata the config that rebuilds the model."""
    metadata = {name: json.dumps(value, sort_keys=True) for name, value in about.items()}
    save_tensors(path, model.state_dict(), metadata)


def load_vae(path: Path) -> VAE:
    """V from its checkpoint, ready to encode.

    Raises:
        InputError: the file is missing, truncated or foreign.
    """
    tensors, about = _checkpoint(path, "vae")
    vae = VAE(section(VAEConfig, about, "vae", path))
    fill(vae, "", tensors, path)
    return vae.eval()


def load_mdnrnn(path: Path) -> MDNRNN:
    """M from its checkpoint, ready to dream.

    Raises:
        InputError: the file is missing, truncated or foreign.
    """
    tensors, about = _checkpoint(path, "mdnrnn")
    config = section(MDNRNNConfig, about, "mdnrnn", path)
    heads = section(Heads, about, "heads", path)
    try:
        mdnrnn = MDNRNN(config, about["latent_size"], about["action_size"], heads)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: the metadata lack {error}: train M again") from error
    fill(mdnrnn, "", tensors, path)
    return mdnrnn.eval()


@dataclass(frozen=True)
class SavedController:
    """What evolution left of C."""

    config: ControllerConfig
    parameters: dict[str, Tensor]
    """`best`, the one that is kept, and `last`, where evolution ended: (N,) each."""
    validation: float
    """Mean return of the best on real validation episodes; NaN: it is the last, not validated."""
    real_steps: dict[str, int]
    """Steps taken in the real world to `validate` and to `evolve`."""


def controller_file(run: Run) -> Path | None:
    """The file of a run's C: the one that evolution wrote, or else an unpacked bundle's."""
    files = run.controller / "controller.safetensors", run.controller / "unpacked.safetensors"
    return next((path for path in files if path.exists()), None)


def load_controller(run: Run) -> SavedController:
    """A run's C.

    Raises:
        InputError: the file is missing, foreign, or C was evolved in another M.
    """
    default = run.controller / "controller.safetensors"
    path = run.need(controller_file(run) or default, "worldmodels evolve")
    tensors, metadata = load_tensors(path)
    about = {name: json.loads(value) for name, value in metadata.items()}
    if "best" not in tensors or "mdnrnn" not in about:
        raise InputError(f"{path} is no controller of ours: delete it and run `worldmodels evolve`")
    check_evolved_in(run, about["mdnrnn"], path)
    config = section(ControllerConfig, about, "controller", path)
    return SavedController(config, tensors, about["validation"], about["real_steps"])


def check_evolved_in(run: Run, mdnrnn: str, path: Path) -> None:
    """That a file of evolution belongs to the run's M, whose hash it holds.

    Raises:
        InputError: it belongs to another.
    """
    if mdnrnn != file_hash(run.need(run.mdnrnn / "mdnrnn.safetensors", "worldmodels train-mdnrnn")):
        raise InputError(f"{path} was evolved in another M: delete {path.parent} and evolve again")


def load_world(run: Run) -> World:
    """world.json of a run.

    Raises:
        InputError: nothing was collected yet.
    """
    path = run.need(run.world_file, "worldmodels collect")
    return World.from_dict(load_json(path), path)


def check_latents(run: Run) -> str:
    """The hash of the run's latents, once they are known to fit the run's V, and M if there is one.

    Raises:
        InputError: they are missing, or of another V; or M learnt from others.
    """
    index = load_json(run.need(run.latents / "index.json", "worldmodels encode"))
    vae = run.need(run.vae / "vae.safetensors", "worldmodels train-vae")
    if index.get("vae") != file_hash(vae):
        raise InputError(f"{run.latents} was made by another V: run `worldmodels encode` again")
    if index.get("hash") is None:
        raise InputError(f"{run.latents} is not complete: run `worldmodels encode` again")
    made = run.mdnrnn / "mdnrnn.safetensors"
    if made.exists() and _checkpoint(made, "mdnrnn")[1].get("latents") != index["hash"]:
        raise InputError(
            f"{made} learnt from other latents: delete {run.mdnrnn} and {run.controller}, and run "
            "`worldmodels train-mdnrnn` again"
        )
    return str(index["hash"])


def check_dreams(run: Run) -> None:
    """That dreams of the run can begin: in an unpacked bundle's windows, or in fitting latents.

    Raises:
        InputError: there are neither, or the latents are not those of V and M.
    """
    if not run.starts.exists():
        check_latents(run)


def _checkpoint(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, metadata = load_tensors(path)
    if key not in metadata:
        raise InputError(
            f"{path} is no {key} checkpoint of ours: train it with worldmodels train-{key}"
        )
    return tensors, {name: json.loads(value) for name, value in metadata.items()}


def fill(model: nn.Module, prefix: str, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Loads the weights whose names begin with the prefix; frozen from then on.

    Raises:
        InputError: they don't fit.
    """
    start = f"{prefix}." if prefix else ""
    chosen = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    try:
        model.load_state_dict(chosen)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{source}: the weights don't fit the config ({reason})") from error
    model.requires_grad_(False)


def part(data: Mapping[str, Any], name: str, source: Path) -> dict[str, Any]:
    """A section of a file's JSON.

    Raises:
        InputError: it is missing.
    """
    found = data.get(name)
    if not isinstance(found, dict):
        raise InputError(f"{source}: section {name} is missing: make it again")
    return found


def section(kind: type[Section], data: Mapping[str, Any], name: str, source: Path) -> Section:
    """The dataclass that a section of a file's JSON describes.

    Raises:
        InputError: it is missing, or a field is unknown, of a wrong type or out of range.
    """
    given = part(data, name, source)
    try:
        return validated(kind, given)
    except InputError as error:
        raise InputError(f"{source}: section {name} is wrong ({error})") from error


FORMAT = 1
"""Version of the bundle's layout."""
SHIPPED = Path(__file__).parent / "bundles"


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
        """Writes the folder; bundle.json last, so that a folder that has it is whole."""
        weights = {
            **_prefixed("vae", self.vae.state_dict()),
            **_prefixed("mdnrnn", self.mdnrnn.state_dict()),
            "controller": self.parameters,
        }
        save_tensors(folder / "weights.safetensors", _half(weights), None)
        save_tensors(folder / "starts.safetensors", _half(self.starts.tensors()), None)
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
            about["score"] = _told(scores)
        lines = "\n".join(f"- {name}: {value}" for name, value in about.items())
        return (
            f"# A world model of {self.world.config.id}\n\n"
            f"V with {self.vae.config.latent_size} latents, M with "
            f"{self.mdnrnn.config.hidden_size} hidden units, C with {self.parameters.numel()} "
            f'parameters. Use it with `worldmodels.load("this folder")`.\n\n{lines}\n'
        )

    @classmethod
    def load(cls, name: str | Path) -> Bundle:
        """Reads a folder, a run folder that has a bundle, or a shipped bundle by its name.

        Raises:
            InputError: there is no such bundle, or it is truncated or foreign.
        """
        folder = bundle_folder(name)
        file = folder / "bundle.json"
        description = load_json(file)
        if not isinstance(description, dict) or description.get("format") != FORMAT:
            raise InputError(f"{file}: format must be {FORMAT}: make it again")
        source = folder / "weights.safetensors"
        weights = _single(load_tensors(source)[0])
        world = World.from_dict(part(description, "world", file), file)
        vae = VAE(section(VAEConfig, description, "vae", file))
        config = section(MDNRNNConfig, description, "mdnrnn", file)
        action_size = Actions.from_dict(world.action).size
        mdnrnn = MDNRNN(config, vae.config.latent_size, action_size, Heads.of(config, world))
        fill(vae, "vae", weights, source)
        fill(mdnrnn, "mdnrnn", weights, source)
        settings = section(ControllerConfig, description, "controller", file)
        controller = controller_for(settings, mdnrnn)
        if weights.get("controller", torch.empty(0)).shape != (controller.num_parameters,):
            raise InputError(f"{source} holds no controller that fits: make the bundle again")
        starts = load_starts(folder / "starts.safetensors")
        if starts.mu.shape[2] != vae.config.latent_size or starts.actions.shape[2] != action_size:
            raise InputError(f"{folder} holds no start windows that fit: make the bundle again")
        rest = starts, part(description, "dream", file), part(description, "about", file)
        return cls(world, vae, mdnrnn, controller, weights["controller"], *rest)


def bundle_folder(name: str | Path) -> Path:
    """Where a bundle lies: shipped under that name, in that folder, or in that run's `bundle`."""
    for folder in (SHIPPED / str(name), Path(name), Path(name) / "bundle"):
        if (folder / "bundle.json").is_file():
            return folder
    shipped = sorted(p.name for p in SHIPPED.glob("*") if (p / "bundle.json").is_file())
    known = f"shipped are {', '.join(shipped)}" if shipped else "none is shipped"
    raise InputError(f"{name} is no bundle (no bundle.json; {known}): run `worldmodels evaluate`")


def load_starts(path: Path) -> Starts:
    """The windows of a file.

    Raises:
        InputError: there are none, or their shapes don't belong together.
    """
    tensors = _single(load_tensors(path)[0])
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    count, window, *_ = shapes.get("mu", (0, 0))
    leading = {"mu": (count, window), "actions": (count, window), "first": (count,)}
    if not count or {name: shape[:2] for name, shape in shapes.items()} != leading:
        raise InputError(f"{path} holds no start windows that fit: make the bundle again")
    return Starts(**tensors)


def unpack(name: str | Path, run: Run) -> None:
    """Makes a run of a bundle: its world, V, M, C, and where its dreams begin.

    In it other controllers can be evolved, studied and ranked, without the data V and M learnt.

    Raises:
        InputError: there is no such bundle, or the run has begun.
    """
    bundle = Bundle.load(name)
    if run.world_file.exists():
        raise InputError(f"{run.folder} has begun already: use another --run")
    with run.lock():
        _save_parts(bundle, run)


def _save_parts(bundle: Bundle, run: Run) -> None:
    V, M = bundle.vae.config, bundle.mdnrnn.config
    save_model(run.vae / "vae.safetensors", bundle.vae, {"vae": asdict(V)})
    about: dict[str, Any] = {"mdnrnn": asdict(M), "heads": asdict(bundle.mdnrnn.heads)}
    about |= {"latent_size": V.latent_size, "action_size": bundle.mdnrnn.action_size}
    save_model(run.mdnrnn / "mdnrnn.safetensors", bundle.mdnrnn, about)
    settings = asdict(bundle.controller.config)
    evolved = {"controller": settings, "mdnrnn": file_hash(run.mdnrnn / "mdnrnn.safetensors")}
    evolved |= {"validation": bundle.about.get("validation", math.nan), "real_steps": {}}
    kept = {"best": bundle.parameters, "last": bundle.parameters.clone()}
    metadata = {name: json.dumps(value, sort_keys=True) for name, value in evolved.items()}
    save_tensors(run.controller / "unpacked.safetensors", kept, metadata)
    save_tensors(run.starts, bundle.starts.tensors(), None)
    save_json(run.world_file, bundle.world.to_dict())


def _told(scores: Mapping[str, Any]) -> str:
    """Scores in a line: the agent's, and the means of the policies without eyes."""
    low, high = scores["ci95"]
    names = "split", "episodes", "seeds", "mean", "std", "ci95"
    blind = ", ".join(f"{k} {v:.1f}" for k, v in scores.items() if k not in names)
    return (
        f"{scores['mean']:.1f} ± {scores['std']:.1f}, 95% of the mean {low:.1f} to {high:.1f}, "
        f"over {scores['episodes']} {scores['split']} episodes of the official environment"
        + (f" ({blind})" if blind else "")
    )


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half() for name, tensor in tensors.items()}


def _single(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in tensors.items()}
