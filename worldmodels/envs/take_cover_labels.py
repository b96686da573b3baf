"""Labels of TakeCover's episodes for M: damage, and mirror images.

`encode` calls these functions for every environment; `env.damage_redness` and
`env.mirrored_actions` enable them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, UInt8

from worldmodels.data.episode import Episode
from worldmodels.world import EnvConfig

ITSELF, MIRRORED = "", "mirrored"
"""Views of an episode; also the folders of their latents."""


def marked_steps(world: EnvConfig, episode: Episode) -> Bool[np.ndarray, " T"]:
    """Steps of an episode that bring damage."""
    if world.damage_redness is None:
        return np.zeros(len(episode), bool)
    return reddened(episode.frames, world.damage_redness, len(episode))


def reddened(
    frames: UInt8[np.ndarray, "T_frames S S 3"], rise: float, steps: int
) -> Bool[np.ndarray, " {steps}"]:
    """Steps after which the picture is redder than before by more than `rise` of 255, on average.

    Redness is red less the mean of green and blue. Doom's picture reddens when a shot hits.
    """
    found = np.zeros(steps, bool)
    red, green, blue = frames[:, ::2, ::2].mean((1, 2), dtype=np.float64).T
    rises = np.diff(red - (green + blue) / 2) > rise
    found[: len(rises)] = rises
    return found


def views_of(world: EnvConfig) -> tuple[str, ...]:
    """The views of each episode that M learns from."""
    return (ITSELF, MIRRORED) if world.mirrored_actions else (ITSELF,)


def seen_as(world: EnvConfig, view: str, episode: Episode) -> Episode:
    """An episode in one of `views_of`. In a mirror sides are swapped, and so are the choices."""
    if view == ITSELF:
        return episode
    frames = np.ascontiguousarray(episode.frames[:, :, ::-1])
    return replace(episode, frames=frames, actions=episode.actions[:, list(world.mirrored_actions)])
