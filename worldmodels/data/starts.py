"""Where dreams begin: short windows of latents and actions from the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.errors import InputError
from worldmodels.seeding import numpy_generator

WINDOW = 16
"""Frames of a window: M is warmed on all but the last, from which the dream goes on."""

StartKind = Literal["windows", "moments", "rewarded_windows", "first_frames"]
"""One window of each drawn episode; windows whose last frames are any moments of the data, all
equally likely, so that long episodes have more of them; windows during which something was earned,
one of an episode; or first frames (the paper's way)."""


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
        return {"mu": self.mu, "actions": self.actions, "first": self.first}


@dataclass(frozen=True)
class Replays:
    """Start windows, and what was done and received in the steps after them."""

    starts: Starts
    actions: Float[np.ndarray, "N H A"]
    rewards: Float[np.ndarray, "N H"]
    counts: Float[np.ndarray, "N H"]
    lengths: Int[np.ndarray, " N"]
    """Steps until the recorded episode terminated; H where it didn't."""


_Row = tuple[np.ndarray, np.ndarray, bool]


def sample_starts(
    source: EpisodeSource, *, kind: StartKind, count: int, window: int, seed: int
) -> Starts:
    """Windows drawn from the data.

    Args:
        source: latents.
        kind: which.
        count: windows.
        window: frames of each.
        seed: of the choice.

    Raises:
        InputError: no episode is as long as a window.
    """
    if kind == "moments":
        moments = sample_moments(source, count=count, window=window, seed=seed)
        rows = [_leading_to(moment, window) for moment in moments]
    else:
        rows = list(_windows(source, kind, count, window, seed))
    if not rows:
        raise InputError(
            f"no window of {window} steps will do: collect longer or better episodes, lower "
            "dream.warmup, or set dream.starts to windows"
        )
    return _stack([rows[i % len(rows)] for i in range(count)])


def starts_of(moments: Sequence[Moment], window: int) -> Starts:
    """The windows that lead to these moments."""
    return _stack([_leading_to(moment, window) for moment in moments])


def _windows(
    source: EpisodeSource, kind: StartKind, count: int, window: int, seed: int
) -> Iterator[_Row]:
    """One of each episode that has one."""
    generator = numpy_generator(seed, "starts")
    for path in source.chunk(seed, "starts", 0, count):
        episode = LatentEpisode.load(path)
        if len(episode) >= window:
            begin = 0 if window == 1 else int(generator.integers(len(episode) - window + 1))
            if kind != "rewarded_windows" or _earned(episode, begin, window):
                yield _window(episode, begin, window)


def sample_replays(
    source: EpisodeSource, *, count: int, window: int, horizon: int, seed: int
) -> Replays | None:
    """Windows whose next `horizon` steps were recorded, or the episode's end; None without any."""
    generator = numpy_generator(seed, "replays")
    windows, nexts = [], []
    for path in source.chunk(seed, "replays", 0, count):
        episode = LatentEpisode.load(path)
        # an episode that only was cut must go on for the whole horizon
        last = len(episode) - (1 if episode.terminated[-1] else horizon) - window + 1
        if last >= 0:
            begin = 0 if window == 1 else int(generator.integers(last + 1))
            windows.append(_window(episode, begin, window))
            nexts.append(_padded(episode, begin + window - 1, horizon))
    if not windows:
        return None
    actions, rewards, counts, lengths = (np.array(part) for part in zip(*nexts, strict=True))
    return Replays(_stack(windows), actions, rewards, counts, lengths)


def _earned(episode: LatentEpisode, begin: int, window: int) -> bool:
    """Whether the window holds a count, or where the world has none, a positive reward."""
    earnings = episode.counts if episode.counts.any() else episode.rewards
    return bool(earnings[begin : begin + window].max() > 0)


def _window(episode: LatentEpisode, begin: int, window: int) -> _Row:
    span = slice(begin, begin + window)
    return episode.mu[span], episode.actions[span], begin == 0


def _leading_to(moment: Moment, window: int) -> _Row:
    return _window(moment.episode, moment.start - window + 1, window)


def _stack(rows: list[_Row]) -> Starts:
    mu, actions = (np.stack([row[i] for row in rows]).astype(np.float32) for i in (0, 1))
    first = np.array([row[2] for row in rows], np.float32)
    return Starts(torch.from_numpy(mu), torch.from_numpy(actions), torch.from_numpy(first))


def _padded(
    episode: LatentEpisode, begin: int, horizon: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Actions, rewards and counts of `horizon` steps from `begin`, zeros after the end."""
    steps = min(horizon, len(episode) - begin)
    padded = []
    for array in (episode.actions, episode.rewards, episode.counts):
        whole = np.zeros((horizon, *array.shape[1:]), np.float32)
        whole[:steps] = array[begin : begin + steps]
        padded.append(whole)
    return padded[0], padded[1], padded[2], steps


FILES = 2000
"""Most episodes that are looked at; their lengths have to be read."""


@dataclass(frozen=True)
class Moment:
    """The frame before an action of a recorded episode, and the episode."""

    file: Path
    episode: LatentEpisode
    start: int
    """Steps taken before it: frame[start] is the last one seen, action[start] is still to come."""


def sample_moments(
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
