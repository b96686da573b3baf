"""Moments: at any place of any episode, and what was recorded after them."""

import numpy as np
import pytest
import torch

from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.data.starts import sample_moments, starts_of
from worldmodels.diagnostics.moments import places_of, recorded


@pytest.fixture
def files(tmp_path):
    """In episode n mu[t] = action[t] = reward[t] = 100 n + t; the first one terminates."""
    paths = [tmp_path / f"00_00000{n}.npz" for n in range(3)]
    for n, (path, steps) in enumerate(zip(paths, (30, 20, 5), strict=True)):
        code = 100 * n + np.arange(steps + 1, dtype=np.float32)
        mu, ends = code[:, None].astype(np.float16), np.arange(steps) == steps - 1
        t, dies = code[:-1], n == 0
        flags = ends & dies, ends & (not dies), ends & dies
        LatentEpisode(mu, mu, t[:, None], t, 3 * t, *flags).save(path)
    return paths


def rewards(received, infos):
    return received


def test_moments_lie_anywhere(files):
    moments = sample_moments(EpisodeSource(files), count=600, window=4, seed=0)
    places = {n: set() for n in range(3)}
    for moment in moments:
        places[int(moment.file.stem[-1])].add(moment.start)
    for n, steps in enumerate((30, 20)):
        assert (min(places[n]), max(places[n])) == (3, steps - 1)
        assert len(places[n]) > 0.8 * (steps - 3)
    assert places[2] == {3, 4}
    assert len(moments) == 600
    shares = [np.mean([m.file == path for m in moments]) for path in files]
    assert shares == pytest.approx([27 / 46, 17 / 46, 2 / 46], abs=0.07)  # all moments alike


def test_moments_that_no_window_leads_to_are_left_out(files):
    moments = sample_moments(EpisodeSource(files), count=30, window=4, seed=0, first=18)
    assert len(moments) == 30
    assert places_of(moments).min() >= 18
    assert {len(moment.episode) for moment in moments} == {30, 20}


def test_no_moments_where_all_episodes_are_too_short(files):
    assert sample_moments(EpisodeSource(files), count=5, window=40, seed=0) == []


def test_first_frames(files):
    moments = sample_moments(EpisodeSource(files), count=6, window=1, seed=0)
    assert places_of(moments).tolist() == [0] * 6
    starts = starts_of(moments, 1)
    assert starts.first.all()
    assert starts.mu.shape == (6, 1, 1)


def test_windows_end_at_their_moment(files):
    moments = sample_moments(EpisodeSource(files), count=60, window=4, seed=0)
    starts = starts_of(moments, 4)
    now = torch.tensor([float(m.episode.mu[m.start, 0]) for m in moments])
    assert torch.equal(starts.mu[:, :, 0], now[:, None] + torch.arange(-3, 1))
    assert torch.equal(starts.actions, starts.mu)
    assert torch.equal(starts.first, torch.tensor([float(m.start == 3) for m in moments]))


def test_what_was_recorded_after_them(files):
    moments = sample_moments(EpisodeSource(files), count=60, window=4, seed=0)
    found = recorded(moments, 10, rewards)
    for i, moment in enumerate(moments):
        left = len(moment.episode) - moment.start
        steps = min(left, 10)
        assert found.lengths[i] == steps
        expected = float(moment.episode.rewards[moment.start]) + np.arange(steps)
        np.testing.assert_array_equal(found.rewards[i], np.r_[expected, np.zeros(10 - steps)])
        dies = len(moment.episode) == 30
        assert found.terminated[i] == (left <= 10 and dies)
        assert found.truncated[i] == (left <= 10 and not dies)
