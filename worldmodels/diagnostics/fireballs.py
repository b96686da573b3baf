"""How many of Doom's fireballs V's reconstruction keeps. ViZDoom's labels say where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from worldmodels.acting.environments import FrameEnv, frame_env
from worldmodels.acting.policies import Recorded
from worldmodels.acting.rollout import steps
from worldmodels.data.episode import Episode
from worldmodels.diagnostics.inspection import Inspection, Rows
from worldmodels.diagnostics.reconstruction import reconstructed, save_reconstructions
from worldmodels.envs.picture import frame_of
from worldmodels.run import say
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import World

FIREBALL = "DoomImpBall"
"""ViZDoom's name for what an imp throws."""
LABELLED, EPISODES = 40, 4
"""Episodes that are played again with ViZDoom's labels, and those of a job."""
INSIDE, OUTSIDE = 100, 20
"""Of 255: a pixel whose mask is above INSIDE belongs to a fireball; one below OUTSIDE to none."""
RING, FEWEST = np.ones((5, 5), np.uint8), 4
"""The surroundings of a fireball: the pixels within two of it that belong to no fireball. With
fewer than FEWEST of them it is left out."""
FAINTEST = 20.0
"""Of 255: a fireball that differs by less from its surroundings is left out."""
SIZES = (
    *((1, 4, "1 to 4"), (5, 9, "5 to 9"), (10, 30, "10 to 30"), (31, 4096, "31 and more")),
    (1, 4096, "all"),
)
"""Pixels, from and to."""

Labelled = tuple[UInt8[np.ndarray, "N S S 3"], UInt8[np.ndarray, "N S S"]]
"""Frames, and their masks: 255 where all of a pixel shows a fireball."""


def fireballs(inspection: Inspection) -> Rows:
    """V's recall of fireballs by size, in ViZDoom's environments; writes fireballs.png too."""
    world, recorded = inspection.world, inspection.recorded
    if not has_labels(world):
        return []
    some = np.linspace(0, len(recorded) - 1, min(LABELLED, len(recorded))).astype(int)
    workers = inspection.config.workers
    frames, masks = label_frames(world, [recorded[i] for i in some], workers)
    if not len(frames):
        say("the episodes show no fireballs: V's recall of them is not measured")
        return []
    save_reconstructions(inspection.folder / "fireballs.png", inspection.vae, frames)
    found = fireballs_in(frames, masks, reconstructed(inspection.vae, frames))
    return recall_by_size(found)


def has_labels(world: World) -> bool:
    """Whether the environment is ViZDoom's, which can label the objects on the screen."""
    return world.config.id.rpartition(":")[2].startswith("Vizdoom")


def label_frames(
    world: World, episodes: Sequence[tuple[Path, int]], workers: WorkersConfig
) -> Labelled:
    """The frames with fireballs of recorded episodes, which are played once more on their seeds."""
    played = [(Episode.load(path).actions, seed) for path, seed in episodes]
    jobs = [(world, played[i : i + EPISODES]) for i in range(0, len(played), EPISODES)]
    frames, masks = zip(*run_jobs(_label_job, jobs, workers, "fireballs"), strict=True)
    return np.concatenate(frames), np.concatenate(masks)


def _label_job(world: World, episodes: Sequence[tuple[np.ndarray, int]]) -> Labelled:
    config = replace(world.config, kwargs={**world.config.kwargs, "labels_buffer_enabled": True})
    with frame_env(replace(world, config=config), 1) as env:
        seen = [pair for actions, seed in episodes for pair in _labelled(env, actions, seed)]
    size = world.config.size
    frames = np.array([frame for frame, _ in seen], np.uint8).reshape(-1, size, size, 3)
    return frames, np.array([mask for _, mask in seen], np.uint8).reshape(-1, size, size)


def _labelled(
    env: FrameEnv, actions: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frame and mask at each step of an episode at which there is a fireball."""
    doom: Any = env.envs.envs[0].unwrapped
    frames, _ = env.reset(seed=[seed])  # type: ignore[arg-type]
    taken = steps(env, Recorded([actions]), frames, max_steps=len(actions) - 1)
    for seen in chain([frames], (step.observations for step in taken)):
        mask = frame_of(_mask(doom.state), env.envs.world.config)[:, :, 0]
        if (mask > INSIDE).any():
            yield seen[0], mask


def _mask(state: Any) -> UInt8[np.ndarray, "height width"]:
    """255 where the screen shows a fireball."""
    values = [label.value for label in state.labels if label.object_name == FIREBALL]
    return np.where(np.isin(state.labels_buffer, values), 255, 0).astype(np.uint8)


def fireballs_in(
    frames: UInt8[np.ndarray, "N S S 3"],
    masks: UInt8[np.ndarray, "N S S"],
    reconstructions: UInt8[np.ndarray, "N S S 3"],
) -> list[tuple[int, float]]:
    """The fireballs of some frames that stand out from their surroundings.

    Returns:
        Of each its pixels, and the share of its contrast that the reconstruction keeps.
    """
    rows = zip(frames, masks, reconstructions, strict=True)
    return [fireball for row in rows for fireball in _fireballs(*row)]


def _fireballs(
    frame: UInt8[np.ndarray, "S S 3"],
    mask: UInt8[np.ndarray, "S S"],
    reconstruction: UInt8[np.ndarray, "S S 3"],
) -> Iterator[tuple[int, float]]:
    count, labels = cv2.connectedComponents((mask > INSIDE).astype(np.uint8))
    for label in range(1, count):
        inside = labels == label
        ring = (cv2.dilate(inside.astype(np.uint8), RING) > 0) & (mask < OUTSIDE)
        if ring.sum() >= FEWEST:
            contrast = _contrast(frame, inside, ring)
            if contrast >= FAINTEST:
                yield int(inside.sum()), _contrast(reconstruction, inside, ring) / contrast


def _contrast(
    picture: UInt8[np.ndarray, "S S 3"],
    inside: Bool[np.ndarray, "S S"],
    ring: Bool[np.ndarray, "S S"],
) -> float:
    """Mean brightness inside minus that of the ring; fireballs are red and yellow."""
    brightness = picture[:, :, :2].mean(axis=2)
    return float(brightness[inside].mean() - brightness[ring].mean())


def recall_by_size(fireballs: Sequence[tuple[int, float]]) -> Rows:
    """The share of fireballs that keep at least half of their contrast; NaN without any."""
    rows = []
    for low, high, name in SIZES:
        mine = [kept >= 0.5 for pixels, kept in fireballs if low <= pixels <= high]
        recall = float(np.mean(mine)) if mine else np.nan
        rows.append({"pixels": name, "count": len(mine), "recall": recall})
    return rows
