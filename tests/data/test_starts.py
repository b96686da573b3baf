"""Where dreams begin: windows cut from the data, and what happened after them."""

import numpy as np
import pytest
import torch

from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.data.starts import sample_starts
from worldmodels.errors import InputError


def source(folder, *lengths, terminated=True):
    """In episode n mu[t] = action[t] = reward[t] = 100 n + t, and count[t] three times that."""
    paths = [folder / f"{n}.npz" for n in range(len(lengths))]
    for n, (path, steps) in enumerate(zip(paths, lengths, strict=True)):
        code = 100 * n + np.arange(steps + 1, dtype=np.float32)
        t, ends = code[:-1], np.arange(steps) == steps - 1
        mu = code[:, None].astype(np.float16)
        flags = (ends, ~ends, ends) if terminated else (0 * ends > 0, ends, ends)
        LatentEpisode(mu, mu, t[:, None], t, 3 * t, *flags).save(path)
    return EpisodeSource(paths)


def test_windows_are_consecutive_and_know_their_beginning(tmp_path):
    starts = sample_starts(source(tmp_path, 9, 5, 30), kind="windows", count=60, window=4, seed=0)
    assert starts.mu.shape == (60, 4, 1)
    begin = starts.mu[:, 0, 0]
    assert torch.equal(starts.mu[:, :, 0], begin[:, None] + torch.arange(4))
    assert torch.equal(starts.actions, starts.mu)
    assert torch.equal(starts.first, (begin % 100 == 0).float())
    assert {int(b) // 100 for b in begin} == {0, 1, 2}
    assert {int(b) for b in begin if b >= 100 and b < 200} == {100, 101}  # 5 steps hold 2 windows


def test_one_frame_means_first_frames(tmp_path):
    starts = sample_starts(source(tmp_path, 9, 5), kind="windows", count=8, window=1, seed=0)
    assert set(starts.mu.flatten().tolist()) == {0, 100}
    assert starts.first.all()


def test_draws_follow_the_seed(tmp_path):
    data = source(tmp_path, 40)
    for kind in ("windows", "moments"):
        first, again, other = (
            sample_starts(data, kind=kind, count=9, window=4, seed=s).mu for s in (1, 1, 2)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_moments_are_equally_likely(tmp_path):
    starts = sample_starts(source(tmp_path, 9, 33), kind="moments", count=3600, window=4, seed=0)
    last = starts.mu[:, -1, 0]
    assert torch.equal(starts.mu[:, :, 0], last[:, None] + torch.arange(-3.0, 1.0))
    counts = np.unique(last.numpy(), return_counts=True)[1]
    assert len(counts) == 6 + 30  # 9 steps hold 6 windows
    assert counts == pytest.approx(np.full(36, 100), abs=50)  # 5 deviations


def test_short_episodes_are_left_out(tmp_path):
    starts = sample_starts(source(tmp_path, 3, 8), kind="windows", count=10, window=4, seed=0)
    assert len(starts) == 10
    assert (starts.mu >= 100).all()
    with pytest.raises(InputError, match=r"no window of 20 steps.*dream\.warmup"):
        sample_starts(source(tmp_path, 3, 8), kind="windows", count=10, window=20, seed=0)
    with pytest.raises(InputError, match=r"no window of 20 steps"):
        sample_starts(source(tmp_path, 3, 8), kind="moments", count=10, window=20, seed=0)


def test_windows_may_have_to_be_rewarded(tmp_path):
    data = source(tmp_path, 9, 5)  # the first frame of episode 0 is the only one that earns nothing
    starts = sample_starts(data, kind="rewarded_windows", count=8, window=1, seed=0)
    assert set(starts.mu.flatten().tolist()) == {100}
