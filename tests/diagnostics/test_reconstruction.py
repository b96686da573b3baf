"""What V keeps of frames: numbers by hand, and a picture of them."""

import cv2
import numpy as np
import pytest
import torch

from worldmodels.data.dataset import FrameBatch, some_frames
from worldmodels.data.episode import Episode
from worldmodels.diagnostics.reconstruction import SCALE, save_reconstructions
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.stages.train_vae import reconstruction_error

WHITE = 255


class Grey(VAE):
    """A V that answers everything with one grey, and whose first two latents alone are active."""

    def encode(self, images):
        mu = torch.zeros(len(images), self.config.latent_size)
        mu[:, :2] = torch.tensor([1.0, 2.0])
        return mu, torch.zeros_like(mu)

    def decode(self, z):
        return torch.full((len(z), 3, 64, 64), 0.5)


@pytest.fixture
def grey():
    return Grey(VAEConfig(latent_size=5, width=4))


def white(count):
    return torch.full((count, 64, 64, 3), WHITE, dtype=torch.uint8)


def test_numbers_by_hand(grey):
    frames, medians = white(2), white(2)
    frames[0, 0, 0] = torch.tensor([0, 51, WHITE], dtype=torch.uint8)
    found = reconstruction_error(grey, FrameBatch(frames, medians))
    assert (found["frames"], found["latents"], found["active"]) == (2, 5, 2)
    assert found["kl"] == pytest.approx(0.5 + 2.0)  # mu² / 2
    assert found["error"] == pytest.approx(0.25 - (0.25 - 0.09) / (2 * 64 * 64 * 3))
    assert found["moving_share"] == pytest.approx(1 / (2 * 64 * 64))
    assert found["moving_error"] == pytest.approx((0.25 + 0.09 + 0.25) / 3)
    assert found["median_error"] == pytest.approx((1.0 + 0.64) / 3)


def test_batches_make_no_difference(grey, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    frames, medians = (
        torch.randint(256, (7, 64, 64, 3), generator=generator).byte() for _ in range(2)
    )
    whole = reconstruction_error(grey, FrameBatch(frames, medians))
    monkeypatch.setattr("worldmodels.stages.train_vae.CHECKED", 3)
    parts = reconstruction_error(grey, FrameBatch(frames, medians))
    assert parts == pytest.approx(whole)


def test_where_nothing_moves(grey):
    found = reconstruction_error(grey, FrameBatch(white(1), white(1)))
    assert found["moving_share"] == 0
    assert np.isnan(found["moving_error"])
    assert np.isnan(found["median_error"])


def test_some_frames_of_each_episode(tmp_path):
    paths = [tmp_path / f"00_00000{i}.npz" for i in range(2)]
    for level, path in enumerate(paths):
        frames = np.full((45, 64, 64, 3), level, np.uint8)
        frames[:, 0, 0, 0] = np.arange(45)
        numbers, flags = np.zeros(44, np.float32), np.zeros(44, bool)
        Episode(frames, numbers[:, None], numbers, numbers, flags, flags).save(path)
    some = some_frames(paths, each=20)
    assert some.frames.shape == some.medians.shape == (30, 64, 64, 3)
    assert some.frames[:15, 0, 0, 0].tolist() == list(range(0, 45, 3))
    assert (some.medians[:, 1, 1, 1] == torch.arange(2).repeat_interleave(15)).all()
    assert len(some_frames(paths, each=1).frames) == 2


def test_frames_above_what_is_kept(grey, tmp_path):
    frames = np.zeros((9, 64, 64, 3), np.uint8)
    frames[8] = (WHITE, 0, 0)
    save_reconstructions(tmp_path / "a" / "frames.png", grey, frames)
    picture = cv2.imread(str(tmp_path / "a" / "frames.png"))[:, :, ::-1]
    row = picture.shape[0] // 2
    middle = SCALE * 32
    assert (picture[row + middle, middle] == (WHITE, 0, 0)).all()  # the ninth opens a second row
    assert (picture[row + middle + SCALE * 64, middle] == 128).all()
    assert (picture[row + middle + SCALE * 64, -middle] == 0).all()  # and is alone there
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["frames.png"]
