"""Moments of the recorded episodes from which dream and reality go on side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.data.starts import Starts
from worldmodels.honesty.survival import Course, Paid
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
    files: Sequence[Path], *, count: int, window: int, seed: int, first: int = 0
) -> list[Moment]:
    """`count` moments that `window` frames lead to; all moments of all episodes are equally likely.

    Trap: moments drawn episode by episode lie in short ones too often, nearer to the end than any
    foresight can know; with all moments equally likely what is left says nothing of what will come.

    Args:
        files: latents; of more than FILES so many are drawn.
        count: moments; none where all episodes are too short.
        window: frames; 1 means first frames.
        seed: of the choice.
        first: steps before the earliest; where `collect` throws shorter episodes away, those that
            it keeps say nothing of the dangers before.
    """
    earliest = max(window - 1, first)
    generator = numpy_generator(seed, "moments")
    paths = EpisodeSource(files).chunk(seed, "moments", 0, min(len(files), FILES))
    lengths = np.array([len(LatentEpisode.load(path)) for path in paths])
    places = np.minimum(1, lengths) if window == 1 else np.maximum(0, lengths - earliest)
    if not places.any():
        return []
    chosen = generator.choice(len(paths), size=count, p=places / places.sum())
    offsets = generator.integers(places[chosen])
    begin = 0 if window == 1 else earliest
    return [
        Moment(paths[index], LatentEpisode.load(paths[index]), begin + int(offset))
        for index, offset in zip(chosen, offsets, strict=True)
    ]


def places_of(moments: Sequence[Moment]) -> Int64[np.ndarray, " N"]:
    """Steps before each."""
    return np.array([moment.start for moment in moments], np.int64)


def starts_of(moments: Sequence[Moment], window: int) -> Starts:
    """The windows that lead to them, as dreams begin."""
    spans = [slice(m.start - window + 1, m.start + 1) for m in moments]
    mu, actions = (
        np.stack([getattr(m.episode, name)[s] for m, s in zip(moments, spans, strict=True)])
        for name in ("mu", "actions")
    )
    first = torch.tensor([float(span.start == 0) for span in spans])
    return Starts(torch.from_numpy(mu).float(), torch.from_numpy(actions).float(), first)


def recorded(moments: Sequence[Moment], horizon: int, paid: Paid) -> Course:
    """What was recorded after them."""
    return Course.joined([_recorded(moment, horizon, paid) for moment in moments])


def _recorded(moment: Moment, horizon: int, paid: Paid) -> Course:
    episode, span = moment.episode, slice(moment.start, moment.start + horizon)
    received = paid(episode.rewards[span], {"count": episode.counts[span]})
    rewards = np.zeros((1, horizon))
    rewards[0, : len(received)] = received
    ends = moment.start + len(received) == len(episode)
    died = ends and bool(episode.terminated[-1])
    cut = ends and not died
    return Course(rewards, np.array([len(received)]), np.array([died]), np.array([cut]))
