"""Moments of recorded episodes, all of them equally likely."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.seeding import numpy_generator

FILES = 2000
"""Most episodes that are looked at; their lengths have to be read."""


@dataclass(frozen=True)
class Moment:
    """The frame before an action of a recorded episode, and the episode."""

    file: Path
    episode: LatentEpisode
    start: int
    """Steps taken before it: frame[start] is the last one seen, action[start] is still to come."""


def draw_moments(
    source: EpisodeSource, *, count: int, window: int, seed: int, first: int = 0
) -> list[Moment]:
    """`count` moments that `window` frames lead to; all moments of all episodes are equally likely.

    Trap: moments drawn episode by episode lie in short ones too often, nearer to the end than any
    foresight can know; with all moments equally likely what is left says nothing of what will come.

    Args:
        source: latents; of more than FILES episodes so many are drawn.
        count: moments; none where all episodes are too short.
        window: frames; 1 means first frames.
        seed: of the choice.
        first: steps before the earliest; where `collect` throws shorter episodes away, those that
            it keeps say nothing of the dangers before.
    """
    earliest = max(window - 1, first)
    generator = numpy_generator(seed, "moments")
    size = min(len(source.new) + len(source.old), FILES)
    paths = source.chunk(seed, "moments", 0, size)
    lengths = np.array([len(LatentEpisode.load(path)) for path in paths])
    places = np.minimum(1, lengths) if window == 1 else np.maximum(0, lengths - earliest)
    if not places.any():
        return []
    chosen = generator.choice(len(paths), size=count, p=places / places.sum())
    offsets = generator.integers(places[chosen])
    begin = 0 if window == 1 else earliest
    episodes = {index: LatentEpisode.load(paths[index]) for index in sorted(set(chosen.tolist()))}
    return [
        Moment(paths[index], episodes[index], begin + int(offset))
        for index, offset in zip(chosen.tolist(), offsets, strict=True)
    ]
