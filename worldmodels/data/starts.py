"""Where dreams start: moments of recorded episodes, and the windows of frames before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.errors import InputError
from worldmodels.seeding import numpy_generator

STARTS = 2000
"""Start windows of a run's dreams."""
FILES = 2000
"""Most episodes from which moments are sampled; their lengths have to be read."""

StartKind = Literal["windows", "moments", "rewarded_windows"]
"""One window of each sampled episode; windows that lead to any moments of the data, all equally
likely, so that long episodes have more of them; or those of the first kind that earn something."""


@dataclass(frozen=True)
class Starts:
    """N windows of W frames."""

    mu: Float[Tensor, "N W Z"]
    actions: Float[Tensor, "N W A"]
    first: Float[Tensor, " N"]
    """1 where the window opens an episode."""

    def __len__(self) -> int:
        return len(self.mu)

    def tensors(self) -> dict[str, Tensor]:
        """By their names in a file."""
        return {"mu": self.mu, "actions": self.actions, "first": self.first}


@dataclass(frozen=True)
class Moment:
    """The frame before an action of a recorded episode."""

    file: Path
    episode: LatentEpisode
    start: int
    """Steps before it: frame[start] is the last one seen, action[start] is still to come."""


def sample_starts(
    source: EpisodeSource, *, kind: StartKind, count: int = STARTS, window: int, seed: int
) -> Starts:
    """Samples start windows from the data.

    Args:
        source: latents.
        kind: which windows.
        count: windows.
        window: frames of each.
        seed: of the choice.

    Raises:
        InputError: no episode is as long as a window, or none earns anything.
    """
    if kind == "moments":
        moments = sample_moments(source, count=count, window=window, seed=seed)
    else:
        moments = list(_one_per_episode(source, count, window, seed))
    if kind == "rewarded_windows":
        moments = [moment for moment in moments if _earns(moment, window)]
    if not moments:
        raise InputError(
            f"no window of {window} steps will do: collect longer or better episodes, lower "
            "dream.warmup, or set dream.starts to windows"
        )
    return starts_of([moments[i % len(moments)] for i in range(count)], window)


def sample_moments(source: EpisodeSource, *, count: int, window: int, seed: int) -> list[Moment]:
    """Samples moments after `window` frames; all moments of all episodes are equally likely.

    Trap: one moment per episode would lie in short episodes too often, so nearer to the end than M
    can predict. With all moments equally likely the place in an episode says nothing of what comes.

    Args:
        source: latents; of more than FILES episodes so many are sampled.
        count: moments; there are none if all episodes are too short.
        window: frames; 1: only first frames.
        seed: of the choice.
    """
    earliest = window - 1
    generator = numpy_generator(seed, "moments")
    size = min(len(source.new) + len(source.old), FILES)
    paths = source.chunk(seed, "moments", 0, size)
    lengths = np.array([len(LatentEpisode.load(path)) for path in paths])
    places = np.minimum(1, lengths) if window == 1 else np.maximum(0, lengths - earliest)
    if not places.any():
        return []
    chosen = generator.choice(len(paths), size=count, p=places / places.sum())
    offsets = generator.integers(places[chosen])
    episodes = {index: LatentEpisode.load(paths[index]) for index in sorted(set(chosen.tolist()))}
    return [
        Moment(paths[index], episodes[index], earliest + int(offset))
        for index, offset in zip(chosen.tolist(), offsets, strict=True)
    ]


def starts_of(moments: Sequence[Moment], window: int) -> Starts:
    """The windows that lead to these moments."""
    windows = [(m.episode, slice(m.start - window + 1, m.start + 1)) for m in moments]
    mu = np.stack([episode.mu[span] for episode, span in windows]).astype(np.float32)
    actions = np.stack([episode.actions[span] for episode, span in windows]).astype(np.float32)
    first = torch.tensor([float(span.start == 0) for _, span in windows])
    return Starts(torch.from_numpy(mu), torch.from_numpy(actions), first)


def _one_per_episode(source: EpisodeSource, count: int, window: int, seed: int) -> Iterator[Moment]:
    """A moment after a window of each of `count` sampled episodes that is long enough."""
    generator = numpy_generator(seed, "starts")
    paths = source.chunk(seed, "starts", 0, count)
    episodes = {path: LatentEpisode.load(path) for path in dict.fromkeys(paths)}
    for path in paths:
        episode = episodes[path]
        places = len(episode) - window + 1
        if places > 0:
            begin = 0 if window == 1 else int(generator.integers(places))
            yield Moment(path, episode, begin + window - 1)


def _earns(moment: Moment, window: int) -> bool:
    """Whether the window holds a count or, if the environment has none, a positive reward."""
    episode, end = moment.episode, moment.start + 1
    earnings = episode.counts if episode.counts.any() else episode.rewards
    return bool(earnings[end - window : end].max() > 0)
