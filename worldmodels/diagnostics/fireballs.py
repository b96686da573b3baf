"""How many of Doom's fireballs V's reconstruction keeps. ViZDoom's labels say where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from worldmodels.envs.picture import frame_of
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import World

FIREBALL = "DoomImpBall"
"""ViZDoom's name for what an imp throws."""
EPISODES = 4
"""Episodes of a job."""
INSIDE, OUTSIDE = 100, 20
"""Of 255: a pixel whose mask is above INSIDE belongs to a fireball; one below OUTSIDE to none."""
RING, FEWEST = np.ones((5, 5), np.uint8), 4
"""The surroundings of a fireball: the pixels within two of it that belong to no fireball. With
fewer than FEWEST of them it is left out."""
FAINTEST = 20.0
"""Of 255: a fireball that differs by less from its surroundings is left out."""
SIZES = ((1, 4), (5, 9), (10, 30), (31, 4096))
"""Pixels, from and to."""

Labelled = tuple[UInt8[np.ndarray, "N 64 64 3"], UInt8[np.ndarray, "N 64 64"]]
"""Frames, and their masks: 255 where all of a pixel shows a fireball."""


@dataclass(frozen=True)
class Fireball:
    """One fireball in one frame."""

    pixels: int
    contrast: float
    """Its brightness minus that of its surroundings, of 255."""
    reconstructed: float
    """The same in V's reconstruction, at the same pixels."""

    @property
    def recalled(self) -> bool:
        """The reconstruction keeps at least half of the contrast."""
        return self.reconstructed >= 0.5 * self.contrast


def has_labels(world: World) -> bool:
    """Whether the world is one of ViZDoom's, which can label the objects on the screen."""
    return world.config.id.rpartition(":")[2].startswith("Vizdoom")


def label_frames(
    world: World, files: Sequence[Path], seeds: Sequence[int], workers: WorkersConfig
) -> Labelled:
    """The frames with fireballs of recorded episodes, which are played once more on their seeds."""
    pairs = list(zip(files, seeds, strict=True))
    jobs = [(world, pairs[i : i + EPISODES]) for i in range(0, len(pairs), EPISODES)]
    frames, masks = zip(*run_jobs(_label_job, jobs, workers, "fireballs"), strict=True)
    return np.concatenate(frames), np.concatenate(masks)


def _label_job(world: World, episodes: list[tuple[Path, int]]) -> Labelled:
    config = replace(world.config, kwargs={**world.config.kwargs, "labels_buffer_enabled": True})
    with frame_env(replace(world, config=config), 1) as env:
        seen = [pair for path, seed in episodes for pair in _labelled(env, path, seed)]
    frames = np.array([frame for frame, _ in seen], np.uint8).reshape(-1, 64, 64, 3)
    return frames, np.array([mask for _, mask in seen], np.uint8).reshape(-1, 64, 64)


def _labelled(env: FrameEnv, path: Path, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frame and mask at each step of an episode at which there is a fireball."""
    actions = Episode.load(path).actions
    doom: Any = env.envs.envs[0].unwrapped
    frames, _ = env.reset(seed=[seed])
    taken = steps(env, Recorded([actions]), frames, max_steps=len(actions) - 1)
    for seen in chain([frames], (step.observations for step in taken)):
        mask = frame_of(_mask(doom.state), env.envs.world.config.crop)[:, :, 0]
        if (mask > INSIDE).any():
            yield seen[0], mask


def _mask(state: Any) -> UInt8[np.ndarray, "height width"]:
    """255 where the screen shows a fireball."""
    values = [label.value for label in state.labels if label.object_name == FIREBALL]
    return np.where(np.isin(state.labels_buffer, values), 255, 0).astype(np.uint8)


def fireballs_in(
    labelled: Labelled, reconstructions: UInt8[np.ndarray, "N 64 64 3"]
) -> list[Fireball]:
    """The fireballs of some frames that stand out from their surroundings."""
    rows = zip(*labelled, reconstructions, strict=True)
    return [fireball for row in rows for fireball in _fireballs(*row)]


def _fireballs(
    frame: UInt8[np.ndarray, "64 64 3"],
    mask: UInt8[np.ndarray, "64 64"],
    reconstruction: UInt8[np.ndarray, "64 64 3"],
) -> Iterator[Fireball]:
    count, labels = cv2.connectedComponents((mask > INSIDE).astype(np.uint8))
    for label in range(1, count):
        inside = labels == label
        ring = (cv2.dilate(inside.astype(np.uint8), RING) > 0) & (mask < OUTSIDE)
        if ring.sum() >= FEWEST:
            contrast = _contrast(frame, inside, ring)
            if contrast >= FAINTEST:
                there = _contrast(reconstruction, inside, ring)
                yield Fireball(int(inside.sum()), contrast, there)


def _contrast(
    picture: UInt8[np.ndarray, "64 64 3"],
    inside: Bool[np.ndarray, "64 64"],
    ring: Bool[np.ndarray, "64 64"],
) -> float:
    """Mean brightness inside minus that of the ring; fireballs are red and yellow."""
    brightness = picture[:, :, :2].mean(axis=2)
    return float(brightness[inside].mean() - brightness[ring].mean())


def recall_by_size(fireballs: Sequence[Fireball]) -> dict[str, Any]:
    """Recalled share of all fireballs and by size; None for a size without any."""
    sizes = []
    for low, high in SIZES:
        mine = [one.recalled for one in fireballs if low <= one.pixels <= high]
        name = f"{low} to {high}" if high < SIZES[-1][1] else f"{low} and more"
        sizes.append({"pixels": name, "count": len(mine), "recall": _share(mine)})
    everyone = [one.recalled for one in fireballs]
    return {"count": len(everyone), "recall": _share(everyone), "sizes": sizes}


def _share(recalled: Sequence[bool]) -> float | None:
    return sum(recalled) / len(recalled) if recalled else None
