"""Batches of frames and of latent sequences, from files that do not all fit in memory.

A chunk is some episodes, which a thread reads ahead; each chunk serves a fixed number of batches.
So step s belongs to chunk s // batches_per_chunk, whatever came before, and a training that
continues has the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

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

T = TypeVar("T")
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


@dataclass(frozen=True)
class FrameBatch:
    """Frames of several episodes."""

    frames: UInt8[Tensor, "B 64 64 3"]
    medians: UInt8[Tensor, "B 64 64 3"] | None = None
    """The median image of each frame's episode, where asked for."""

    def to(self, device: torch.device) -> FrameBatch:
        medians = None if self.medians is None else self.medians.to(device)
        return FrameBatch(self.frames.to(device), medians)


def frame_batches(
    source: EpisodeSource,
    *,
    seed: int,
    start: int,
    batch_size: int,
    chunk_episodes: int,
    batches_per_chunk: int,
    medians: bool = False,
) -> Iterator[FrameBatch]:
    """Endless batches of frames from step `start` on; `medians` also finds the median images."""

    def load(index: int) -> FrameChunk:
        files = source.chunk(seed, "frames", index, chunk_episodes)
        episodes = [Episode.load(path).frames for path in files]
        return FrameChunk(episodes, [median_image(e) for e in episodes] if medians else None)

    def batches(chunk: FrameChunk, index: int, skip: int) -> Iterator[FrameBatch]:
        generator = numpy_generator(seed, "frame batches", index)
        ends = np.cumsum([len(e) for e in chunk.episodes])
        for batch in range(batches_per_chunk):
            rows = generator.integers(ends[-1], size=batch_size)
            if batch >= skip:
                yield chunk.batch(rows, ends)

    yield from _chunks(load, batches, start, batches_per_chunk)


@dataclass(frozen=True)
class FrameChunk:
    """The frames of some episodes, each its own array: one array of all would need a copy."""

    episodes: list[UInt8[np.ndarray, "_ 64 64 3"]]
    medians: list[UInt8[np.ndarray, "64 64 3"]] | None

    def batch(self, rows: Int64[np.ndarray, " B"], ends: Int64[np.ndarray, " N"]) -> FrameBatch:
        """The frames at `rows`, counted over all episodes, which end before `ends`."""
        owners = np.searchsorted(ends, rows, side="right")
        places = rows - ends[owners]  # counted from an episode's end
        frames = [self.episodes[e][t] for e, t in zip(owners, places, strict=True)]
        batch = torch.from_numpy(np.stack(frames))
        if self.medians is None:
            return FrameBatch(batch)
        return FrameBatch(batch, torch.from_numpy(np.stack([self.medians[e] for e in owners])))


def median_image(frames: UInt8[np.ndarray, "T 64 64 3"]) -> UInt8[np.ndarray, "64 64 3"]:
    """The median of each number over up to 63 evenly spaced frames."""
    some = frames[:: max(1, len(frames) // 32)]
    return np.partition(some, len(some) // 2, axis=0)[len(some) // 2]


def sequence_batches(
    source: EpisodeSource,
    *,
    seed: int,
    start: int,
    batch_size: int,
    sequence_length: int,
    chunk_episodes: int,
    batches_per_chunk: int,
) -> Iterator[SequenceBatch]:
    """Endless batches of latent windows from step `start` on; all windows are equally likely."""

    def load(index: int) -> list[LatentEpisode]:
        files = source.chunk(seed, "sequences", index, chunk_episodes)
        return [LatentEpisode.load(path) for path in files]

    def batches(episodes: list[LatentEpisode], index: int, skip: int) -> Iterator[SequenceBatch]:
        generator = numpy_generator(seed, "sequence batches", index)
        places_of = np.array([len(e) + sequence_length // 2 for e in episodes])
        for batch in range(batches_per_chunk):
            chosen = generator.choice(len(episodes), size=batch_size, p=places_of / places_of.sum())
            places = generator.random(batch_size)
            if batch >= skip:
                windows = [
                    _window(episodes[e], place, sequence_length)
                    for e, place in zip(chosen, places, strict=True)
                ]
                windows.sort(key=lambda window: window[1] - window[2])  # M skips padding
                yield collate(windows, sequence_length)

    yield from _chunks(load, batches, start, batches_per_chunk)


def _chunks(
    load: Callable[[int], T],
    batches: Callable[[T, int, int], Iterator[Batch]],
    start: int,
    batches_per_chunk: int,
) -> Iterator[Batch]:
    """All batches from step `start` on; a thread loads chunk i + 1 while chunk i is used."""
    index, skip = divmod(start, batches_per_chunk)
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(load, index)
        while True:
            chunk = ahead.result()
            ahead = pool.submit(load, index + 1)
            yield from batches(chunk, index, skip)
            index, skip = index + 1, 0


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
        for target, name in ((actions, "actions"), (rewards, "rewards"), (counts, "counts")):
            target[row, :steps] = getattr(episode, name)[begin:end]
        terminated[row, :steps] = episode.terminated[begin:end]
        marked[row, :steps] = episode.marked[begin:end]
        first[row, 0] = begin == 0
        valid[row, :steps] = True
        known[row, : frames - 1] = True
    arrays = (mu, logvar, actions, rewards, counts, terminated, marked, first, valid, known)
    return SequenceBatch(*(torch.from_numpy(array) for array in arrays))
