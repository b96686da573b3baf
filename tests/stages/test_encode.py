"""Encoding files to files: each frame's posterior, beside all that its episode holds."""

import numpy as np
import pytest
import torch

from worldmodels.data.episode import Episode, LatentEpisode
from worldmodels.envs.mirror import MIRRORED
from worldmodels.errors import InputError
from worldmodels.models.vae import VAE, VAEConfig, images_of
from worldmodels.precision import set_precision
from worldmodels.stages.encode import encode_episodes
from worldmodels.world import EnvConfig


@torch.no_grad()
def plain(vae, frames):
    return vae.posterior(vae.encoder(images_of(frames))).chunk(2, dim=-1)


LENGTHS = (5, 3, 9, 1, 4, 7)


@pytest.fixture
def files(tmp_path):
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.npz" for index in range(len(LENGTHS))]
    for path, length in zip(paths, LENGTHS, strict=True):
        frames = generator.integers(0, 256, (length + 1, 64, 64, 3)).astype(np.uint8)
        steps = np.arange(length, dtype=np.float32)
        Episode(frames, steps[:, None], steps, steps, steps > 1, steps > 2).save(path)
    return paths


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("float32", 1e-3), pytest.param("bfloat16", 0.02, marks=pytest.mark.bfloat16)],
)
def test_each_episode_becomes_its_latents(files, tmp_path, monkeypatch, precision, tolerance):
    vae = VAE(VAEConfig(latent_size=3, width=4)).requires_grad_(False)
    set_precision(precision)
    monkeypatch.setattr("worldmodels.stages.encode.BATCH", 4)
    folder = tmp_path / "latents"
    assert encode_episodes(vae, files, folder, EnvConfig()) == sum(LENGTHS) + len(LENGTHS)
    for path in files:
        episode, latents = Episode.load(path), LatentEpisode.load(folder / path.name)
        mu, logvar = plain(vae, torch.from_numpy(episode.frames))
        np.testing.assert_allclose(latents.mu, mu, atol=tolerance)
        np.testing.assert_allclose(latents.logvar, logvar, atol=tolerance)
        assert np.array_equal(latents.actions, episode.actions)
        assert np.array_equal(latents.terminated, episode.terminated)


def test_a_broken_file_stops_it_and_those_before_are_kept(files, tmp_path):
    files[4].write_bytes(b"nothing")
    vae = VAE(VAEConfig(latent_size=3, width=4))
    with pytest.raises(InputError, match=r"4\.npz"):
        encode_episodes(vae, files, tmp_path / "latents", EnvConfig())
    assert len(list((tmp_path / "latents").glob("*.npz"))) == 4


def test_no_files_are_no_work(tmp_path):
    assert encode_episodes(VAE(VAEConfig()), [], tmp_path, EnvConfig()) == 0


def test_damage_and_mirror_images(tmp_path, float32):
    frames = np.random.default_rng(1).integers(0, 60, (5, 64, 64, 3)).astype(np.uint8)
    steps, flags = np.zeros(4, np.float32), np.zeros(4, bool)
    damage = np.float32([0, 0, 21, 0])
    actions = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]
    Episode(frames, actions, steps, damage, flags, flags).save(tmp_path / "00_000000.npz")
    vae = VAE(VAEConfig(latent_size=3, width=4))
    files, folder = [tmp_path / "00_000000.npz"], tmp_path / "latents"
    hurts = {"reward": "constant", "count_attribute": "damage_taken"}
    world = EnvConfig(**hurts, mirrored_actions=(0, 2, 1))
    encode_episodes(vae, files, folder, world, MIRRORED)
    latents = LatentEpisode.load(folder / "00_000000.npz")
    flipped = torch.from_numpy(frames[:, :, ::-1].copy())
    np.testing.assert_allclose(latents.mu, plain(vae, flipped)[0], atol=1e-3)
    assert latents.actions.argmax(1).tolist() == [0, 2, 1, 2]
    assert latents.marked.tolist() == [False, False, True, False]
    assert not latents.counts.any()  # dreams that start where something is counted start elsewhere
    for other in (EnvConfig(), EnvConfig(reward="count", count_attribute="tiles")):
        (folder / "00_000000.npz").unlink()
        encode_episodes(vae, files, folder, other)
        latents = LatentEpisode.load(folder / "00_000000.npz")
        assert not latents.marked.any()
        assert latents.counts.tolist() == damage.tolist()
