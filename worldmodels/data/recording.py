"""Short real episodes in a bundle, to show beside a dream that starts at the same moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from worldmodels.errors import InputError
from worldmodels.files import load_tensors, save_tensors
from worldmodels.film import pictures_of, sheet
from worldmodels.world import SIZES

AXES = {"z": 1, "h": 1, "c": 1, "actions": 2, "rewards": 1, "ended": 1}
"""Axes of a recording's tensors in float16."""


@dataclass(frozen=True)
class Recording:
    """T real steps in which the agent acted."""

    z: Float[Tensor, " Z"]
    """Of the first frame."""
    h: Float[Tensor, " H"]
    """M's state before the first action, which has seen the episode up to there; so has c."""
    c: Float[Tensor, " H"]
    actions: Float[Tensor, "T A"]
    rewards: Float[Tensor, " T"]
    """The environment's rewards."""
    ended: Float[Tensor, " 1"]
    """1 where the last step ended the episode."""
    film: UInt8[Tensor, " bytes"]
    """The frames before each action, as one WebP picture: see `film.sheet`."""

    def __len__(self) -> int:
        return len(self.actions)

    @cached_property
    def frames(self) -> UInt8[Tensor, "T S S 3"]:
        """The decoded film.

        Raises:
            InputError: the film is broken, or shows too few frames.
        """
        return torch.from_numpy(pictures_of(self.film.numpy().tobytes(), len(self), SIZES))

    @classmethod
    def of(
        cls,
        state: Sequence[Tensor],
        actions: Tensor,
        rewards: Tensor,
        frames: UInt8[Tensor, "T S S 3"],
        *,
        ended: bool,
    ) -> Recording:
        """Makes one of frames; `state` is z, h and c at the first."""
        film = torch.frombuffer(bytearray(sheet(frames.numpy())), dtype=torch.uint8)
        z, h, c = state
        return cls(z, h, c, actions, rewards, torch.tensor([float(ended)]), film)


def save_recordings(path: Path, recordings: Sequence[Recording]) -> None:
    """Writes the file of a bundle; films as they are, all else in float16."""
    tensors = dict[str, Tensor]()
    for place, one in enumerate(recordings):
        tensors |= {f"{place}.{name}": getattr(one, name).half() for name in AXES}
        tensors[f"{place}.film"] = one.film
    save_tensors(path, tensors)


def load_recordings(
    path: Path, latent_size: int, hidden_size: int, action_size: int, sha256: str | None = None
) -> tuple[Recording, ...]:
    """Reads the file of a bundle, with numbers in float32; films are decoded when asked for.

    Raises:
        InputError: it holds no recordings, or not those of this V and M, or has another `sha256`.
    """
    tensors, _ = load_tensors(path, sha256)
    count = len(tensors) // (len(AXES) + 1)
    shape = {"z": latent_size, "h": hidden_size, "c": hidden_size, "actions": action_size}
    try:
        parts = [
            {name: tensors[f"{place}.{name}"] for name in (*AXES, "film")} for place in range(count)
        ]
        for part in parts:
            _check(part, shape)
    except (KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} holds no recordings that fit ({reason}): delete it") from error
    return tuple(
        Recording(**{name: part[name].float() for name in AXES}, film=part["film"])
        for part in parts
    )


def _check(part: Mapping[str, Tensor], shape: Mapping[str, int]) -> None:
    """Raises a ValueError for a recording whose tensors do not belong together."""
    for name, axes in AXES.items():
        tensor = part[name]
        if tensor.ndim != axes or not tensor.isfinite().all():
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, or is not finite")
        if name in shape and tensor.shape[-1] != shape[name]:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}")
    if not 0 < len(part["actions"]) == len(part["rewards"]) or len(part["ended"]) != 1:
        raise ValueError("actions and rewards differ in number")
    if part["film"].dtype != torch.uint8 or part["film"].ndim != 1:
        raise ValueError("film is not a picture")
