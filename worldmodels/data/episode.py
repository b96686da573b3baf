"""Episodes: the time alignment of everything recorded, and the files that hold it.

    frame[t], action[t]  ->  reward[t], count[t], terminated[t], truncated[t], frame[t+1]

T actions and T + 1 frames, or T frames where the environment has no last picture (ViZDoom returns
zeros at every end); that last transition trains the termination head and is masked in z's loss.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, TypeVar, get_type_hints

import numpy as np
from jaxtyping import Bool, Float16, Float32, UInt8, jaxtyped

from worldmodels.data.manifest import check_sizes, load_manifest
from worldmodels.errors import InputError
from worldmodels.files import load_arrays, pack_arrays, save_arrays

COLLECT, ENCODE = "worldmodels collect", "worldmodels encode"
"""The commands that make episodes and latents."""

Kind = TypeVar("Kind", bound="_Steps")


class _Steps:
    """Recorded steps: the first field has a row per frame, the others have a row per action."""

    actions: np.ndarray
    made_by: ClassVar[str]
    """The command that makes such files."""

    def __len__(self) -> int:
        return len(self.actions)

    def save(self, path: Path, **more: np.ndarray) -> None:
        """Writes the arrays, and `more` that a stage keeps for itself."""
        save_arrays(path, **self._arrays(), **more)

    def packed(self, **more: np.ndarray) -> bytes:
        """What `save` writes."""
        return pack_arrays(**self._arrays(), **more)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in self._names()}

    @classmethod
    def load(cls: type[Kind], path: Path) -> Kind:
        """Reads and checks a file.

        Raises:
            InputError: the file is truncated, is not an episode, differs from its folder's
                manifest, or its arrays are inconsistent.
        """
        entry = load_manifest(path.parent).get(path.name)
        names, arrays = cls._names(), load_arrays(path, cls.made_by, entry and entry["sha256"])
        again = f"delete it and run `{cls.made_by}` again"
        if missing := [name for name in names if name not in arrays]:
            raise InputError(f"{path} has no array `{missing[0]}`: {again}")
        hints = get_type_hints(cls)
        with jaxtyped("context"):  # an axis has one length in all arrays
            wrong = [n for n in names if not isinstance(arrays[n], hints[n])]
        wrong += [n for n in names if arrays[n].dtype.kind == "f" and not _is_finite(arrays[n])]
        if wrong:
            found = f"{arrays[wrong[0]].dtype} {arrays[wrong[0]].shape}"
            raise InputError(f"{path}: {wrong[0]} does not fit, is {found} or not finite: {again}")
        frames, actions = len(arrays[names[0]]), len(arrays["actions"])
        if actions < 1 or frames not in (actions, actions + 1):
            raise InputError(f"{path} holds {frames} frames for {actions} actions: {again}")
        return cls(**{name: arrays[name] for name in names})

    @classmethod
    def _names(cls) -> list[str]:
        return [f.name for f in fields(cls)]  # type: ignore[arg-type]


def _is_finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())


Frames = (
    UInt8[np.ndarray, "T_frames 64 64 3"]
    | UInt8[np.ndarray, "T_frames 96 96 3"]
    | UInt8[np.ndarray, "T_frames 128 128 3"]
)
"""Those of an episode, of a size that `env.size` offers."""


@dataclass(frozen=True)
class Episode(_Steps):
    """One real episode, as `collect` stores it."""

    frames: Frames
    actions: Float32[np.ndarray, "T A"]
    """a, not the environment's own actions."""
    rewards: Float32[np.ndarray, " T"]
    """The environment's rewards, summed over the frames of a step."""
    counts: Float32[np.ndarray, " T"]
    """The count of each step (tiles); zeros if the environment has none."""
    terminated: Bool[np.ndarray, " T"]
    truncated: Bool[np.ndarray, " T"]

    made_by: ClassVar[str] = COLLECT


@dataclass(frozen=True)
class LatentEpisode(_Steps):
    """An episode with the posterior of each frame in place of the frame."""

    mu: Float16[np.ndarray, "T_frames Z"]
    logvar: Float16[np.ndarray, "T_frames Z"]
    actions: Float32[np.ndarray, "T A"]
    rewards: Float32[np.ndarray, " T"]
    counts: Float32[np.ndarray, " T"]
    terminated: Bool[np.ndarray, " T"]
    truncated: Bool[np.ndarray, " T"]
    marked: Bool[np.ndarray, " T"]
    """Whether the step is marked, such as one that brings damage."""

    made_by: ClassVar[str] = ENCODE


def episode_files(*folders: Path, command: str = COLLECT) -> list[Path]:
    """The episode files of folders, in the order of their names.

    Raises:
        InputError: there is none, or one of a manifest is missing or has another size; `command`
            makes them.
    """
    files = [path for folder in folders for path in sorted(folder.glob("*.npz"))]
    if not files:
        raise InputError(f"{folders[-1]} holds no episodes: run `{command}` first")
    for folder in folders:
        check_sizes(folder, command)
    return files


def steps_of(folder: Path) -> int:
    """Steps of all episodes of a folder; a file that the manifest knows is not read."""
    known = load_manifest(folder)
    return sum(
        known[path.name]["steps"] if path.name in known else len(Episode.load(path))
        for path in folder.glob("*.npz")
    )


def numbers_of(path: Path) -> tuple[int, int]:
    """Round and number of an episode, from its file's name.

    >>> numbers_of(Path("latents/03_000017.npz"))
    (3, 17)
    """
    round_number, episode = path.stem.split("_")
    return int(round_number), int(episode)
