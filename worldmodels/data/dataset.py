"""Batches of frames and of latent sequences, from files that do not all fit in memory.

A chunk is a few episodes, read ahead by a thread; each chunk serves a fixed number of batches. So
the batches of a step depend on nothing before it, and a resumed training has the same batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from worldmodels.data.episode import ENCODE, Episode, LatentEpisode, episode_files, numbers_of
from worldmodels.errors import InputError
from worldmodels.models.sequence import SequenceBatch
from worldmodels.run import Run
from worldmodels.seeding import numpy_generator

NEW_SHARE = 0.5
"""Share of the newest round's episodes in a chunk, or among the starts of dreams: it shows where
the last dream was wrong, and is small beside all rounds before."""

BATCHES_PER_CHUNK = 100
"""Batches from each chunk: enough that its loading, which runs beside them, takes no time."""

Chunk = TypeVar("Chunk")
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class EpisodeSource:
    """The files to sample from: those of the newest round, and older ones."""

    new: Sequence[Path]
    old: Sequence[Path] = ()

    def chunk(self, seed: int, name: str, index: int, size: int) -> list[Path]:
        """The episodes of chunk `index`: permutations of all, one after the other."""
        if not self.old:
            return _stream(self.new, (seed, name, "new"), index, size)
        fresh = max(round(size * NEW_SHARE), 1)
        new = _stream(self.new, (seed, name, "new"), index, fresh)
        return new + _stream(self.old, (seed, name, "old"), index, size - fresh)


def latent_source(run: Run, *, views: bool = False) -> EpisodeSource:
    """The run's latents: the newest round's as new, those of the rounds before as old.

    With `views` the other views of each episode too, which lie in folders among the latents.

    The top level of a run of several rounds has the latents of its best one, which may be any.
    """
    files = episode_files(run.need(run.latents, ENCODE), command=ENCODE)
    if views:
        folders = [run.latents, *sorted(path for path in run.latents.iterdir() if path.is_dir())]
        seen = (folder / path.name for path in files for folder in folders)
        files = [path for path in seen if path.exists()]
    newest = numbers_of(files[-1])[0]
    if newest < run.number:
        raise InputError(f"{run.latents} holds nothing of this round: run `{ENCODE}` again")
    new = [path for path in files if numbers_of(path)[0] == newest]
    return EpisodeSource(new, files[: len(files) - len(new)])


def _stream(files: Sequence[Path], key: tuple[int, str, str], index: int, size: int) -> list[Path]:
    """A part of an endless row of permutations of `files`."""
    seed, *name = key
    chosen: list[Path] = []
    for position in range(index * size, (index + 1) * size):
        turn, place = divmod(position, len(files))
        if not chosen or place == 0:
            order = numpy_generator(seed, *name, turn).permutation(len(files))
        chosen.append(files[order[place]])
    return chosen


@dataclass(frozen=True, kw_only=True)
class Batches(ABC, Generic[Chunk, Batch]):
    """Endless batches of a source."""

    source: EpisodeSource
    seed: int
    batch_size: int
    chunk_episodes: int
    """Episodes in memory at once."""
    batches_per_chunk: int = BATCHES_PER_CHUNK

    def starting(self, step: int) -> Iterator[Batch]:
        """All batches from a step on; a thread loads chunk i + 1 while chunk i is used."""
        index, skip = divmod(step, self.batches_per_chunk)
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.load, index)
            while True:
                chunk = ahead.result()
                ahead = pool.submit(self.load, index + 1)
                yield from islice(self.batches(chunk, index), skip, None)
                index, skip = index + 1, 0

    @abstractmethod
    def load(self, index: int) -> Chunk:
        """Reads a chunk."""

    @abstractmethod
    def batches(self, chunk: Chunk, index: int) -> Iterator[Batch]:
        """The `batches_per_chunk` batches of a chunk."""


@dataclass(frozen=True)
class FrameBatch:
    """Frames of several episodes."""

    frames: UInt8[Tensor, "B S S 3"]
    medians: UInt8[Tensor, "B S S 3"] | None = None
    """The median image of each frame's episode, where asked for."""

    def to(self, device: torch.device) -> FrameBatch:
        medians = None if self.medians is None else self.medians.to(device)
        return FrameBatch(self.frames.to(device), medians)


@dataclass(frozen=True)
class FrameChunk:
    """The frames of some episodes, each its own array: one array of all would need a copy."""

    episodes: list[UInt8[np.ndarray, "_ S S 3"]]
    medians: list[UInt8[np.ndarray, "S S 3"]] | None

    def batch(self, rows: Int64[np.ndarray, " B"], ends: Int64[np.ndarray, " N"]) -> FrameBatch:
        """The frames at `rows`, counted over all episodes, which end before `ends`."""
        owners = np.searchsorted(ends, rows, side="right")
        places = rows - ends[owners]  # counted from an episode's end
        frames = [self.episodes[e][t] for e, t in zip(owners, places, strict=True)]
        batch = torch.from_numpy(np.stack(frames))
        if self.medians is None:
            return FrameBatch(batch)
        return FrameBatch(batch, torch.from_numpy(np.stack([self.medians[e] for e in owners])))


@dataclass(frozen=True, kw_only=True)
class FrameBatches(Batches[FrameChunk, FrameBatch]):
    """Batches of frames."""

    medians: bool = False
    """Find the median images too."""

    def load(self, index: int) -> FrameChunk:
        files = self.source.chunk(self.seed, "frames", index, self.chunk_episodes)
        episodes = [Episode.load(path).frames for path in files]
        return FrameChunk(episodes, [median_image(e) for e in episodes] if self.medians else None)

    def batches(self, chunk: FrameChunk, index: int) -> Iterator[FrameBatch]:
        generator = numpy_generator(self.seed, "frame batches", index)
        ends = np.cumsum([len(e) for e in chunk.episodes])
        for _ in range(self.batches_per_chunk):
            yield chunk.batch(generator.integers(ends[-1], size=self.batch_size), ends)


def median_image(frames: UInt8[np.ndarray, "T S S 3"]) -> UInt8[np.ndarray, "S S 3"]:
    """The median of each number over up to 63 evenly spaced frames."""
    some = frames[:: max(1, len(frames) // 32)]
    return np.partition(some, len(some) // 2, axis=0)[len(some) // 2]


def some_frames(files: Sequence[Path], each: int) -> FrameBatch:
    """At most `each` frames of each episode, evenly spaced, and the episodes' median images."""
    frames, medians = [], []
    for path in files:
        episode = Episode.load(path).frames
        frames.append(episode[:: -(-len(episode) // each)])
        medians.append(median_image(episode)[None].repeat(len(frames[-1]), 0))
    return FrameBatch(*(torch.from_numpy(np.concatenate(parts)) for parts in (frames, medians)))


@dataclass(frozen=True, kw_only=True)
class SequenceBatches(Batches[list[LatentEpisode], SequenceBatch]):
    """Batches of latent windows; all windows are equally likely."""

    sequence_length: int

    def load(self, index: int) -> list[LatentEpisode]:
        files = self.source.chunk(self.seed, "sequences", index, self.chunk_episodes)
        episodes = {path: LatentEpisode.load(path) for path in dict.fromkeys(files)}
        return [episodes[path] for path in files]

    def batches(self, chunk: list[LatentEpisode], index: int) -> Iterator[SequenceBatch]:
        generator, length = (
            numpy_generator(self.seed, "sequence batches", index),
            self.sequence_length,
        )
        places_of = np.array([len(e) + length // 2 for e in chunk])
        shares = places_of / places_of.sum()
        for _ in range(self.batches_per_chunk):
            chosen = generator.choice(len(chunk), size=self.batch_size, p=shares)
            places = generator.random(self.batch_size)
            windows = [_window(chunk[e], p, length) for e, p in zip(chosen, places, strict=True)]
            windows.sort(key=lambda window: window[1] - window[2])  # M skips padding
            yield collate(windows, length)


Window = tuple[LatentEpisode, int, int]


def _window(episode: LatentEpisode, place: float, length: int) -> Window:
    """An episode, and where a window of it begins and ends.

    A place may lie up to half a window before the episode; then the window begins with the episode.
    So first steps are sampled often.

    Trap: windows begin anywhere up to the last step. If all began well before the end, M would
    learn that no episode ends soon after a window begins, which is where dreams begin.
    """
    before = length // 2
    begin = max(int(place * (len(episode) + before)) - before, 0)
    return episode, begin, min(begin + length, len(episode))


def collate(windows: list[Window], length: int) -> SequenceBatch:
    """One padded batch of windows."""
    size, latent, action = len(windows), windows[0][0].mu.shape[1], windows[0][0].actions.shape[1]
    mu, logvar = (np.zeros((size, length + 1, latent), np.float32) for _ in range(2))
    actions = np.zeros((size, length, action), np.float32)
    rewards, counts, terminated, marked, first = np.zeros((5, size, length), np.float32)
    valid, known = (np.zeros((size, length), bool) for _ in range(2))
    for row, (episode, begin, end) in enumerate(windows):
        steps = end - begin
        frames = min(steps + 1, len(episode.mu) - begin)
        mu[row, :frames] = episode.mu[begin : begin + frames]
        logvar[row, :frames] = episode.logvar[begin : begin + frames]
        actions[row, :steps] = episode.actions[begin:end]
        rewards[row, :steps] = episode.rewards[begin:end]
        counts[row, :steps] = episode.counts[begin:end]
        terminated[row, :steps] = episode.terminated[begin:end]
        marked[row, :steps] = episode.marked[begin:end]
        first[row, 0] = begin == 0
        valid[row, :steps] = True
        known[row, : frames - 1] = True
    flags = terminated, marked, first, valid, known
    return SequenceBatch(
        *(torch.from_numpy(array) for array in (mu, logvar, actions, rewards, counts, *flags))
    )
