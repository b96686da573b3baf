"""Mirror images of episodes, from which M learns too; `env.mirrored_actions` enables them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.world import EnvConfig

ITSELF, MIRRORED = "", "mirrored"
"""Views of an episode; also the folders of their latents."""


def views_of(world: EnvConfig) -> tuple[str, ...]:
    """The views of each episode that M learns from."""
    return (ITSELF, MIRRORED) if world.mirrored_actions else (ITSELF,)


def seen_as(world: EnvConfig, view: str, episode: Episode) -> Episode:
    """An episode in one of `views_of`. In a mirror sides are swapped, and so are the choices."""
    if view == ITSELF:
        return episode
    frames = np.ascontiguousarray(episode.frames[:, :, ::-1])
    return replace(episode, frames=frames, actions=episode.actions[:, list(world.mirrored_actions)])
