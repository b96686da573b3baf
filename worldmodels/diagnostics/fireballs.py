"""Doom's fireballs: does V see them? ViZDoom labels what it draws, and so knows where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from worldmodels.acting.policies import ExploreConfig
from worldmodels.diagnostics.policies import Exploring, begin
from worldmodels.envs.real import make_env, preprocess
from worldmodels.models.action import Actions
from worldmodels.seeding import numpy_generator
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import EnvConfig, World

FIREBALL = "DoomImpBall"
"""ViZDoom's name of what an imp throws."""
EPISODES = 4
"""Of a job."""
INSIDE, OUTSIDE = 100, 20
"""Of 255: a pixel whose mask is above belongs to a fireball; one below is clear of all."""
RING, FEWEST = np.ones((5, 5), np.uint8), 4
"""A fireball grown by two pixels, less what isn't clear, surrounds it: at least so many pixels."""
FAINTEST = 20.0
"""Of 255: fireballs that differ by less from what surrounds them are left out."""
SIZES = ((1, 4), (5, 9), (10, 30), (31, 4096))
"""Pixels, from and to."""


@dataclass(frozen=True)
class Labelled:
    """Frames that show fireballs."""

    frames: UInt8[np.ndarray, "N 64 64 3"]
    masks: UInt8[np.ndarray, "N 64 64"]
    """255 where a pixel is all fireball."""


@dataclass(frozen=True)
class Fireball:
    """One fireball in one frame: its brightness less that of what surrounds it, in 0 to 255."""

    pixels: int
    contrast: float
    reconstructed: float
    """In V's reconstruction, at the same pixels."""

    @property
    def recalled(self) -> bool:
        """Half of the contrast is left."""
        return self.reconstructed >= 0.5 * self.contrast


def has_labels(world: World) -> bool:
    """Whether the world is one of ViZDoom's, which can label what they draw."""
    return world.config.id.rpartition(":")[2].startswith("Vizdoom")


def label_frames(
    world: World, explore: ExploreConfig, seeds: Sequence[int], workers: WorkersConfig
) -> Labelled:
    """The frames with fireballs of one episode per seed, as V gets them.

    Args:
        world: one of ViZDoom's.
        explore: drives; random networks, which look, are replaced by random actions.
        seeds: of the environment, and of what is drawn.
        workers: where the episodes are played.
    """
    if explore.policy == "random_network":
        explore = replace(explore, policy="uniform")
    parts = [list(seeds[i : i + EPISODES]) for i in range(0, len(seeds), EPISODES)]
    jobs = [(world, explore, part) for part in parts]
    results = run_jobs(_label_job, jobs, workers, "reconstruction")
    return Labelled(*(np.concatenate(arrays) for arrays in zip(*results, strict=True)))


def _label_job(
    world: World, explore: ExploreConfig, seeds: list[int]
) -> tuple[UInt8[np.ndarray, "N 64 64 3"], UInt8[np.ndarray, "N 64 64"]]:
    """A game of its own: the others of a worker draw no labels."""
    config = replace(world.config, kwargs={**world.config.kwargs, "labels_buffer_enabled": True})
    env, actions = make_env(config, official=True), Actions.from_dict(world.action)
    frames, masks = np.zeros((0, 64, 64, 3), np.uint8), np.zeros((0, 64, 64), np.uint8)
    try:
        seen = [pair for seed in seeds for pair in _labelled(env, config, actions, explore, seed)]
    finally:
        env.close()
    if seen:
        frames, masks = (np.stack(arrays) for arrays in zip(*seen, strict=True))
    return frames, masks


def _labelled(
    env: Any, config: EnvConfig, actions: Actions, explore: ExploreConfig, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frame and mask at each step of an episode at which there is a fireball."""
    repeat = config.action_repeat
    generator = numpy_generator(seed, "reconstruction")
    act = begin(Exploring("explorer", explore), actions, [generator], repeat)
    observation, over = env.reset(seed=seed)[0], False
    while not over:
        mask = preprocess(replace(config, screen=None), _mask(env.unwrapped.state))[:, :, 0]
        frame = preprocess(config, observation)
        if (mask > INSIDE).any():
            yield frame, mask
        own = actions.to_environment(act(frame[None]))[0]
        observation, _, terminated, truncated, _ = env.hold(own, repeat)
        over = terminated or truncated


def _mask(state: Any) -> UInt8[np.ndarray, "height width"]:
    """255 where the screen shows a fireball."""
    values = [label.value for label in state.labels if label.object_name == FIREBALL]
    return np.where(np.isin(state.labels_buffer, values), 255, 0).astype(np.uint8)


def fireballs_in(
    labelled: Labelled, reconstructions: UInt8[np.ndarray, "N 64 64 3"]
) -> list[Fireball]:
    """The fireballs of some frames that stand out from what surrounds them."""
    pairs = zip(labelled.frames, labelled.masks, reconstructions, strict=True)
    return [fireball for each in pairs for fireball in _fireballs(*each)]


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
    """Mean brightness inside less that of the ring; fireballs are red and yellow."""
    brightness = picture[:, :, :2].mean(axis=2)
    return float(brightness[inside].mean() - brightness[ring].mean())


def recall_by_size(fireballs: Sequence[Fireball]) -> dict[str, Any]:
    """Share that is recalled, of all and by size; none of a size: null."""
    sizes = []
    for low, high in SIZES:
        mine = [one.recalled for one in fireballs if low <= one.pixels <= high]
        name = f"{low} to {high}" if high < SIZES[-1][1] else f"{low} and more"
        sizes.append({"pixels": name, "count": len(mine), "recall": _share(mine)})
    everyone = [one.recalled for one in fireballs]
    return {"count": len(everyone), "recall": _share(everyone), "sizes": sizes}


def _share(recalled: Sequence[bool]) -> float | None:
    return sum(recalled) / len(recalled) if recalled else None
