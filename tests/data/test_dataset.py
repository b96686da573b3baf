"""Batches: the same from any start, and in step with the episodes that they come from."""

from itertools import islice

import numpy as np
import pytest
import torch

from worldmodels.data.dataset import (
    EpisodeSource,
    FrameBatches,
    SequenceBatches,
    collate,
    latent_source,
    median_image,
)
from worldmodels.data.episode import Episode, LatentEpisode
from worldmodels.errors import InputError
from worldmodels.run import Run

LENGTHS = (30, 4, 17, 9)
LAST_FRAME = (True, True, False, False)
LENGTH = 6


def latent_episode(number):
    """mu[t] is 100 number + t, and everything else says the same t in its own unit."""
    steps = LENGTHS[number]
    frames = steps + LAST_FRAME[number]
    code = 100 * number + np.arange(frames)
    t = code[:steps].astype(np.float32)
    mu = np.stack([code, -code], 1).astype(np.float16)
    ends = np.arange(steps) == steps - 1
    rest = 2 * t, 3 * t, ends, np.zeros(steps, bool), np.arange(steps) % 3 == 1
    return LatentEpisode(mu, mu / 4, t[:, None] + 0.5, *rest)


@pytest.fixture
def latents(tmp_path):
    paths = [tmp_path / f"{number}.npz" for number in range(len(LENGTHS))]
    for number, path in enumerate(paths):
        latent_episode(number).save(path)
    return EpisodeSource(paths)


@pytest.fixture
def pictures(tmp_path):
    """Every pixel of episode n's frame t is 16 n + t."""
    paths = [tmp_path / f"pictures{number}.npz" for number in range(4)]
    for number, path in enumerate(paths):
        frames = (
            np.full((6, 64, 64, 3), 16 * number, np.uint8)
            + np.arange(6, dtype=np.uint8)[:, None, None, None]
        )
        zeros, flags = np.zeros(5, np.float32), np.zeros(5, bool)
        Episode(frames, zeros[:, None], zeros, zeros, flags, flags).save(path)
    return EpisodeSource(paths)


def sequences(source, start=0, **options):
    sizes = {"batch_size": 8, "sequence_length": LENGTH, "chunk_episodes": 3}
    settings = {**sizes, "batches_per_chunk": 3, **options}
    return SequenceBatches(source=source, seed=5, **settings).starting(start)


@pytest.mark.parametrize("start", [1, 3, 7])
def test_a_stream_from_any_step_is_the_stream_from_zero(latents, pictures, start):
    for whole, later in (
        (sequences(latents), sequences(latents, start)),
        (frames_of(pictures), frames_of(pictures, start)),
    ):
        for expected, got in zip(islice(whole, start, start + 4), later, strict=False):
            tensors = vars(expected).values(), vars(got).values()
            assert all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))


def frames_of(source, start=0, medians=True):
    sizes = {"batch_size": 5, "chunk_episodes": 2, "batches_per_chunk": 2}
    return FrameBatches(source=source, seed=5, medians=medians, **sizes).starting(start)


def test_windows_are_in_step_with_their_episode(latents):
    for batch in islice(sequences(latents), 12):
        for row in range(8):
            steps = int(batch.valid[row].sum())
            assert batch.valid[row, :steps].all()  # the padding is at the end
            t = batch.mu[row, :steps, 0]
            number = int(t[0]) // 100
            assert torch.equal(t, t[0] + torch.arange(steps))
            assert torch.equal(batch.logvar[row, :steps, 0], t / 4)
            assert torch.equal(batch.actions[row, :steps, 0], t + 0.5)
            assert torch.equal(batch.rewards[row, :steps], 2 * t)
            assert torch.equal(batch.counts[row, :steps], 3 * t)
            last = 100 * number + LENGTHS[number] - 1
            assert torch.equal(batch.terminated[row, :steps], (t == last).float())
            marked = (torch.arange(steps) + t[0] - 100 * number) % 3 == 1
            assert torch.equal(batch.marked[row, :steps], marked.float())
            assert torch.equal(batch.first[row, :steps], (t == 100 * number).float())
            known = (t < last) | LAST_FRAME[number]
            assert torch.equal(batch.next_known[row, :steps], known)
            following = batch.mu[row, 1 : steps + 1, 0]
            assert torch.equal(following[known], t[known] + 1)
            for padded in (batch.actions, batch.rewards, batch.counts, batch.terminated):
                assert not padded[row, steps:].any()
            assert not batch.next_known[row, steps:].any()
            assert not batch.first[row, max(steps, 1) :].any()


def test_every_step_is_drawn_about_equally_often(tmp_path):
    path = tmp_path / "0.npz"
    latent_episode(0).save(path)
    seen = np.zeros(LENGTHS[0])
    for batch in islice(sequences(EpisodeSource([path]), batches_per_chunk=50), 250):
        steps = batch.mu[:, :-1, 0][batch.valid].int().numpy()
        seen += np.bincount(steps, minlength=len(seen))
    assert seen.min() > 0.4 * seen.mean()
    assert seen.max() < 1.6 * seen.mean()


def test_random_ends_do_not_depend_on_where_a_window_begins(tmp_path):
    """Where each step is the last with probability 1/20, it is so at each place in a window."""
    lengths = np.random.default_rng(0).geometric(0.05, 1000)
    paths = [tmp_path / f"{number}.npz" for number in range(len(lengths))]
    for path, length in zip(paths, lengths, strict=True):
        zeros = np.zeros(length, np.float32)
        ends = np.arange(length) == length - 1
        mu = np.zeros((length, 1), np.float16)
        LatentEpisode(mu, mu, zeros[:, None], zeros, zeros, ends, ends, ends).save(path)
    sizes = {"batch_size": 200, "sequence_length": 32, "chunk_episodes": len(paths)}
    lived, died = np.zeros((2, 32)), np.zeros((2, 32))
    for batch in islice(sequences(EpisodeSource(paths), batches_per_chunk=50, **sizes), 50):
        opens = batch.first[:, 0].bool()
        for kind, rows in enumerate((opens, ~opens)):
            lived[kind] += batch.valid[rows].sum(0).numpy()
            died[kind] += batch.terminated[rows].sum(0).numpy()
    hazard = died.reshape(2, 4, 8).sum(-1) / lived.reshape(2, 4, 8).sum(-1)
    np.testing.assert_allclose(hazard, lengths.size / lengths.sum(), rtol=0.2)


def test_an_episode_that_a_chunk_holds_twice_is_in_memory_once(latents):
    sizes = {"batch_size": 8, "sequence_length": LENGTH, "chunk_episodes": 2 * len(LENGTHS)}
    chunk = SequenceBatches(source=latents, seed=5, **sizes).load(0)
    assert len(chunk) == 2 * len(LENGTHS)
    assert len({id(episode) for episode in chunk}) == len(LENGTHS)


def test_frames_come_from_the_chunks_episodes(pictures):
    batches = list(islice(frames_of(pictures, medians=False), 40))
    assert all(batch.medians is None for batch in batches)
    values = [batch.frames[:, 0, 0, 0] for batch in batches]
    assert all(v.dtype == torch.uint8 for v in values)
    # a chunk of two batches holds two episodes; all 24 frames turn up in the end
    for chunk in range(20):
        assert len({int(v) // 16 for v in torch.cat(values[2 * chunk : 2 * chunk + 2])}) <= 2
    assert len(set(torch.cat(values).tolist())) == 24


def test_medians_are_those_of_the_frames_episodes(pictures):
    for batch in islice(frames_of(pictures), 10):
        assert torch.equal(batch.medians, batch.frames // 16 * 16 + 3)


def test_median_of_a_long_episode_is_about_the_median():
    frames = np.random.default_rng(0).integers(0, 50, (400, 64, 64, 3)).astype(np.uint8)
    frames[:, 5, 6] = np.where(np.arange(400) % 5, 200, 10)[:, None]
    found = median_image(frames)
    assert found.dtype == np.uint8
    assert (found[5, 6] == 200).all()
    assert abs(found.astype(float).mean() - np.median(frames)) < 1


def test_each_turn_takes_every_episode_once(latents):
    turns = [path for i in range(4) for path in latents.chunk(1, "a", i, 3)]
    for turn in range(3):
        assert sorted(turns[4 * turn : 4 * turn + 4]) == sorted(latents.new)
    assert turns != [path for i in range(4) for path in latents.chunk(2, "a", i, 3)]


@pytest.mark.parametrize(("size", "fresh"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_old_rounds_are_mixed_in(latents, size, fresh):
    new, old = latents.new[:2], latents.new[2:]
    chosen = EpisodeSource(new, old).chunk(0, "a", 3, size)
    assert len(chosen) == size
    assert sum(path in set(new) for path in chosen) == fresh


def test_one_window_by_hand():
    batch = collate([(latent_episode(3), 4, 9)], LENGTH)
    assert batch.mu[0, :, 0].tolist() == [304, 305, 306, 307, 308, 0, 0]
    assert batch.valid[0].tolist() == [True] * 5 + [False]
    assert batch.next_known[0].tolist() == [True] * 4 + [False] * 2  # no picture after the end
    assert batch.terminated[0].tolist() == [0, 0, 0, 0, 1, 0]
    assert not batch.first.any()


@pytest.fixture
def rounds(tmp_path):
    """Names of the new and the old files of a run whose latents come from some rounds."""

    def names(folder, *present):
        run = Run(tmp_path / folder)
        run.latents.mkdir(parents=True)
        for number in present:
            for episode in range(2):
                (run.latents / f"{number:02d}_{episode:06d}.npz").touch()
        source = latent_source(run)
        return [path.name for path in source.new], [path.name for path in source.old]

    return names


def test_the_newest_round_of_a_run(rounds):
    first, second = ([f"0{number}_00000{i}.npz" for i in range(2)] for number in range(2))
    assert rounds("run", 0) == (first, [])
    assert rounds("run/rounds/01", 0, 1) == (second, first)


def test_the_top_level_has_the_best_rounds_latents(rounds):
    new, old = rounds("run", 0, 1, 2)
    assert new == ["02_000000.npz", "02_000001.npz"]
    assert len(old) == 4


def test_a_round_without_latents_of_its_own(rounds):
    with pytest.raises(InputError, match=r"nothing of this round: run `worldmodels encode` again"):
        rounds("run/rounds/02", 0, 1)


def test_other_views_are_sampled_where_they_are_asked_for(tmp_run):
    for folder in (tmp_run.latents, tmp_run.latents / "mirrored"):
        folder.mkdir(parents=True)
        for number in range(2):
            latent_episode(number).save(folder / f"00_{number:06d}.npz")
    plain, both = (latent_source(tmp_run, views=flag) for flag in (False, True))
    assert [path.parent.name for path in plain.new] == ["latents"] * 2
    assert [path.parent.name for path in both.new] == ["latents", "mirrored"] * 2
    assert sorted({path.name for path in both.new}) == ["00_000000.npz", "00_000001.npz"]
