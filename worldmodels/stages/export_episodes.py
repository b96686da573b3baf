"""Export: writes the episodes of a run as a Minari data set, for other libraries."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from worldmodels.artifacts import load_world
from worldmodels.data.episode import Episode, episode_files
from worldmodels.data.readers import library
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.run import Run, progress, say


@dataclass(frozen=True, kw_only=True)
class ExportEpisodesOptions:
    """Where the data set goes."""

    out: str = ""
    """A new folder; ~/.minari/datasets/NAME-v0 is known to Minari as NAME-v0."""


def export_episodes(run: Run, out: Path) -> None:
    """Writes a Minari data set: the frames that V sees, and the environment's own actions.

    Pictures are kept without loss. Where an episode has no last picture it is black.

    Args:
        run: its episodes, or those of all its rounds.
        out: a new folder.

    Raises:
        InputError: there are no episodes, Minari is missing, or the folder exists.
    """
    minari = library("minari", out)
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    rounds = [Run(folder) for folder in sorted((run.folder / "rounds").glob("[0-9][0-9]"))]
    runs = rounds or [run]
    files = [path for one in runs for path in sorted(one.episodes.glob("*.npz"))]
    world = load_world(runs[0])
    files = files or episode_files(run.episodes)
    if out.exists():
        raise InputError(f"{out} exists already: name a new folder")
    actions, name = Actions.from_dict(world.action), out.name
    space = gymnasium.spaces.Box(0, 255, Episode.load(files[0]).frames.shape[1:], np.uint8)
    partial = out.with_name(f"{name}.exporting")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "data").mkdir(parents=True)
    try:
        storage = MinariStorage.new(
            partial / "data", space, actions.own_space, data_format="hdf5", jpeg_encoding=False
        )
        steps = world.config.action_repeat
        storage.update_metadata(
            {
                "dataset_id": name,
                "minari_version": minari.__version__,
                "description": f"{world.config.id}, a step of {steps} frames, by worldmodels",
            }
        )
        for path in progress(files, "export"):
            storage.update_episodes([EpisodeBuffer(**_parts(actions, Episode.load(path)))])
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"{len(files)} episodes in {out}: minari.MinariDataset('{out / 'data'}') reads them")


def _parts(actions: Actions, episode: Episode) -> dict[str, Any]:
    frames = episode.frames
    if len(frames) == len(episode):
        frames = np.concatenate([frames, np.zeros_like(frames[:1])])
    return {
        "observations": frames,
        "actions": actions.to_environment(episode.actions),
        "rewards": episode.rewards,
        "terminations": episode.terminated,
        "truncations": episode.truncated,
    }
