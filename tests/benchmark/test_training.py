"""The benchmark of training compares like with like, and its reader walks over many chunks."""

import numpy as np
import pytest
import torch
from benchmark import training
from benchmark.training import memory_row, pictures, write_episodes
from benchmark.untrained import CAR_RACING, TAKE_COVER

from worldmodels.data.episode import Episode, episode_files
from worldmodels.stages.train_mdnrnn import TrainMDNRNNConfig, mdnrnn_loss


@pytest.mark.parametrize("size", [CAR_RACING, TAKE_COVER])
def test_the_plain_loop_has_the_stages_loss(size, monkeypatch, float32):
    monkeypatch.setattr(training, "WINDOWS", 2)
    monkeypatch.setattr(training, "STEPS", 5)
    mdnrnn, batch = training.untrained_mdnrnn(size), training.sequences(size)
    plain = training.plain_mdnrnn_loss(mdnrnn, batch, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    loss, _ = mdnrnn_loss(mdnrnn, batch, TrainMDNRNNConfig(), generator)
    torch.testing.assert_close(plain, loss)


def test_episodes_are_linked_to_a_few(tmp_path):
    write_episodes(tmp_path, 5, 3, distinct=2)
    files = episode_files(tmp_path)
    assert len(files) == 5
    frames = [Episode.load(path).frames for path in files]
    assert np.array_equal(frames[0], frames[4])
    assert not np.array_equal(frames[0], frames[1])
    assert np.array_equal(frames[1], pictures(3, 1))


def test_peak_memory_is_a_processs_own(monkeypatch):
    monkeypatch.setattr(training, "write_episodes", lambda f, *_, **__: write_episodes(f, 3, 4, 2))
    monkeypatch.setattr(training, "MEMORY_STEPS", 20)
    row = memory_row(quick=True)
    assert 0.1 < row["value"] < row["at_most"]
