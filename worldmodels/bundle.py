"""The bundle: V, M, C and their world in one folder that rebuilds itself.

    bundle.json  weights.safetensors (float16)  starts.safetensors (float16)  README.md

Loading reads numbers and names only; nothing is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from worldmodels.data.starts import Starts
from worldmodels.errors import InputError
from worldmodels.files import load_json, load_tensors, save_json, save_tensors, save_text
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, ControllerConfig, controller_for
from worldmodels.models.mdnrnn import MDNRNN, Heads, MDNRNNConfig
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.run import Run
from worldmodels.trained import fill, part, save_model, section
from worldmodels.world import World

FORMAT = 1
"""Version of the bundle's layout."""
SHIPPED = Path(__file__).parent / "bundles"

Section = TypeVar("Section")


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
    raise InputError(f"{name} is no bundle (no bundle.json; {known}): run `scripts/evaluate.py`")


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
    """Makes a run of a bundle: its world, V, M, and where its dreams begin.

    In it other controllers can be evolved, studied and ranked, without the data V and M learnt.

    Raises:
        InputError: there is no such bundle, or the run has begun.
    """
    bundle = Bundle.load(name)
    if run.world_file.exists():
        raise InputError(f"{run.folder} has begun already: use another --run")
    V, M = bundle.vae.config, bundle.mdnrnn.config
    save_model(run.vae / "vae.safetensors", bundle.vae, {"vae": asdict(V)})
    about: dict[str, Any] = {"mdnrnn": asdict(M), "heads": asdict(bundle.mdnrnn.heads)}
    about |= {"latent_size": V.latent_size, "action_size": bundle.mdnrnn.action_size}
    save_model(run.mdnrnn / "mdnrnn.safetensors", bundle.mdnrnn, about)
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
