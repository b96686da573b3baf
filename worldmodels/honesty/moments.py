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
    """At most `count` moments that `window` frames lead to, at random places of the episodes.

    All episodes are used before one is used again. The place is drawn evenly and whatever comes
    after it, so that nothing is said of how soon the end is.

    Args:
        files: latents.
        count: tries; an episode that is too short gives none.
        window: frames; 1 means first frames.
        seed: of the choice.
        first: steps before the earliest; where `collect` throws shorter episodes away, those that
            it keeps say nothing of the dangers before.
    """
    earliest = max(window - 1, first)
    generator = numpy_generator(seed, "moments")
    moments = []
    for path in EpisodeSource(files).chunk(seed, "moments", 0, count):
        episode = LatentEpisode.load(path)
        if window == 1:
            moments.append(Moment(path, episode, 0))
        elif len(episode) > earliest:
            start = int(generator.integers(earliest, len(episode)))
            moments.append(Moment(path, episode, start))
    return moments


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
