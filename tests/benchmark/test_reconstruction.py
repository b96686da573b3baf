"""The curve of V's reconstruction on held-out episodes."""

import numpy as np
import pytest
import torch

from worldmodels.benchmark import reconstruction
from worldmodels.benchmark.reconstruction import errors, reconstruction_curve, some_frames
from worldmodels.benchmark.training import write_episodes
from worldmodels.data.dataset import FrameBatch
from worldmodels.data.episode import episode_files
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.stages.train_vae import TrainVAEConfig


class Grey(VAE):
    """A V that answers everything with one grey."""

    def decode(self, z):
        return torch.full((len(z), 3, 64, 64), 0.5)


def test_errors_by_hand():
    frames = torch.full((2, 64, 64, 3), 255, dtype=torch.uint8)
    medians = frames.clone()
    frames[0, 0, 0] = torch.tensor([0, 51, 255], dtype=torch.uint8)
    squares, moving = errors(Grey(VAEConfig(width=1)), FrameBatch(frames, medians))
    assert squares == pytest.approx(0.25 * 3 * 64 * 64 - (0.25 - 0.09) / 2)
    assert moving == pytest.approx((0.25 + 0.09 + 0.25) / 3)


def test_some_frames_of_each_episode(tmp_path):
    write_episodes(tmp_path, 2, 45, distinct=2)
    some = some_frames(episode_files(tmp_path), each=20)
    assert some.frames.shape == some.medians.shape == (30, 64, 64, 3)
    assert torch.equal(some.medians[0], some.medians[14])
    assert not torch.equal(some.medians[14], some.medians[15])


def test_the_curve_goes_down_and_is_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruction, "DOOM", VAEConfig(latent_size=64, width=2))
    write_episodes(tmp_path, 10, 9, distinct=10)
    config = TrainVAEConfig(
        batch_size=8, learning_rate=1e-2, motion_weight=2.0, precision="float32"
    )
    first, second = (
        list(reconstruction_curve(episode_files(tmp_path), config, 160, points=2)) for _ in range(2)
    )
    assert first == second
    assert [point.images for point in first] == [80, 160]
    assert first[1].squares < first[0].squares
    assert np.isfinite(first[1].moving)
