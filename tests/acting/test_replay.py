"""Replays: a dream that pays what reality paid shows no gap, one that pays more does."""

import numpy as np
import pytest

from worldmodels.acting.replay import recorded_returns
from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.data.starts import sample_replays
from worldmodels.world import EnvConfig, RawPicture, World

WORLD = World(
    EnvConfig(reward="count", count_attribute="tiles", reward_per_count=2.0, reward_per_frame=-0.1),
    {},
    50.0,
    {},
    RawPicture((96, 96, 3)),
)


@pytest.fixture
def source(tmp_path):
    """Two episodes with a count every other step; the second terminates."""
    files = []
    for index, length in enumerate((40, 20)):
        frames = np.arange(length + 1, dtype=np.float16)[:, None].repeat(2, axis=1)
        steps = np.zeros((length, 1), np.float32)
        flags = np.zeros(length, bool)
        counts = (np.arange(length) % 2).astype(np.float32)
        terminated = flags.copy()
        terminated[-1] = index == 1
        files.append(tmp_path / f"00_{index:06d}.npz")
        rest = steps, counts, counts, terminated, flags, flags
        LatentEpisode(frames, frames, *rest).save(files[-1])
    return EpisodeSource(files)


def test_what_is_replayed_follows_its_window(source):
    replays = sample_replays(source, count=20, window=4, horizon=12, seed=0)
    last = replays.starts.mu[:, -1, 0].numpy().astype(int)
    for row, now in enumerate(last):
        length = replays.lengths[row]
        np.testing.assert_array_equal(
            replays.counts[row, :length], np.arange(now, now + length) % 2
        )
        assert (replays.counts[row, length:] == 0).all()


def test_only_a_death_may_cut_a_replay(source):
    replays = sample_replays(source, count=40, window=4, horizon=12, seed=0)
    last = replays.starts.mu[:, -1, 0].numpy().astype(int)
    short = replays.lengths < 12
    assert short.any()
    np.testing.assert_array_equal(last[short] + replays.lengths[short], 20)


def test_recorded_returns_are_in_the_dreams_currency(source):
    replays = sample_replays(source, count=20, window=4, horizon=12, seed=0)
    expected = 2.0 * replays.counts.sum(axis=1) - 0.1 * replays.lengths
    np.testing.assert_allclose(recorded_returns(WORLD, replays), expected, rtol=1e-6)


def test_no_replay_where_no_episode_is_long_enough(source):
    alive = EpisodeSource(source.new[:1])
    assert sample_replays(alive, count=4, window=4, horizon=50, seed=0) is None
