"""What a run's stages leave behind: V, M, C, their world and latents, read back and checked.

Loading reads numbers and names only; nothing is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from worldmodels.errors import InputError
from worldmodels.files import file_hash, load_json, load_tensors, save_tensors
from worldmodels.models.controller import ControllerConfig
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
class Champion:
    """What evolution left of C."""

    config: ControllerConfig
    parameters: dict[str, Tensor]
    """`best`, the one that is kept, and `last`, where evolution ended: (N,) each."""
    validation: float
    """Mean return of the best on real validation episodes; NaN: it is the last, not validated."""
    real_steps: dict[str, int]
    """Steps taken in the real world to `validate` and to `evolve`."""


def load_champion(run: Run) -> Champion:
    """A run's C.

    Raises:
        InputError: the file is missing, foreign, or C was evolved in another M.
    """
    path = run.need(run.controller / "controller.safetensors", "scripts/evolve.py")
    tensors, metadata = load_tensors(path)
    about = {name: json.loads(value) for name, value in metadata.items()}
    if "best" not in tensors or "mdnrnn" not in about:
        raise InputError(f"{path} is no controller of ours: delete it and run `scripts/evolve.py`")
    check_evolved_in(run, about["mdnrnn"], path)
    config = section(ControllerConfig, about, "controller", path)
    return Champion(config, tensors, about["validation"], about["real_steps"])


def check_evolved_in(run: Run, mdnrnn: str, path: Path) -> None:
    """That a file of evolution belongs to the run's M, whose hash it holds.

    Raises:
        InputError: it belongs to another.
    """
    if mdnrnn != file_hash(run.need(run.mdnrnn / "mdnrnn.safetensors", "scripts/train_mdnrnn.py")):
        raise InputError(f"{path} was evolved in another M: delete {path.parent} and evolve again")


def load_world(run: Run) -> World:
    """world.json of a run.

    Raises:
        InputError: nothing was collected yet.
    """
    path = run.need(run.world_file, "scripts/collect.py")
    return World.from_dict(load_json(path), path)


def check_latents(run: Run) -> str:
    """The hash of the run's latents, once they are known to fit the run's V, and M if there is one.

    Raises:
        InputError: they are missing, or of another V; or M learnt from others.
    """
    index = load_json(run.need(run.latents / "index.json", "scripts/encode.py"))
    if index.get("vae") != file_hash(run.need(run.vae / "vae.safetensors", "scripts/train_vae.py")):
        raise InputError(f"{run.latents} was made by another V: run `scripts/encode.py` again")
    if index.get("hash") is None:
        raise InputError(f"{run.latents} is not complete: run `scripts/encode.py` again")
    made = run.mdnrnn / "mdnrnn.safetensors"
    if made.exists() and _checkpoint(made, "mdnrnn")[1].get("latents") != index["hash"]:
        raise InputError(
            f"{made} learnt from other latents: delete {run.mdnrnn} and {run.controller}, and run "
            "`scripts/train_mdnrnn.py` again"
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
            f"{path} is no {key} checkpoint of ours: train it with scripts/train_{key}.py"
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
    """The dataclass that a section describes.

    Raises:
        InputError: it is missing, or has other fields.
    """
    try:
        given = part(data, name, source)
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
    except TypeError as error:
        raise InputError(f"{source}: section {name} is wrong ({error})") from error
