"""V's encoder for inference: the number type changes z by far less than its own noise."""

import pytest
import torch

from worldmodels.models.encoder import Encoder
from worldmodels.models.vae import VAE, VAEConfig, images_of
from worldmodels.seeding import torch_generator


@pytest.fixture(scope="module")
def vae():
    """The paper's, its posterior as wide and as sharp as a trained one's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = VAE(VAEConfig()).requires_grad_(False)
    vae.posterior.weight.mul_(50)
    vae.posterior.bias[32:] -= 4.0
    return vae


@pytest.fixture(scope="module")
def frames():
    """Smooth blobs: noise alone would average out."""
    coarse = torch.rand(6, 3, 5, 5, generator=torch_generator(0, "blobs")) * 255
    fine = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")
    return fine.byte().permute(0, 2, 3, 1).contiguous()


def test_float32_is_v_itself(vae, frames, float32):
    expected = vae.encode(images_of(frames))
    for mine, theirs in zip(Encoder(vae)(frames), expected, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.bfloat16
@pytest.mark.parametrize("fused", [True, False])
def test_bfloat16_agrees_within_a_tenth_of_sigma(vae, frames, fused, monkeypatch):
    if not fused:
        monkeypatch.setattr("worldmodels.models.encoder._is_fused", lambda weight: False)
    mu, logvar = vae.encode(images_of(frames))
    sigma = torch.exp(0.5 * logvar)
    assert mu.std() > 3 * sigma.mean()  # else any mu would do
    mine, spread = Encoder(vae)(frames)
    assert mine.dtype == spread.dtype == torch.float32
    errors = (mine - mu).abs() / sigma
    assert errors.max() < 0.1
    assert errors.mean() < 0.02
    assert errors.max() > 0
    assert (spread - logvar).abs().max() < 0.1


def test_an_image_is_encoded_alike_in_any_batch(vae, frames):
    encoder = Encoder(vae)
    alone = torch.cat([encoder(frame[None])[0] for frame in frames])
    torch.testing.assert_close(alone, encoder(frames)[0], rtol=1e-4, atol=1e-4)
