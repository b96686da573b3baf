"""Where dreams begin: short windows of latents and actions from the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.data.moments import Moment, draw_moments
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


def draw_starts(
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
        moments = draw_moments(source, count=count, window=window, seed=seed)
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


def draw_replays(
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
