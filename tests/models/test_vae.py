"""V: the paper's sizes, its loss by hand, and the one border between uint8 and float."""

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl
from torch.nn.functional import conv_transpose2d

from worldmodels.models.vae import (
    VAE,
    VAEConfig,
    frames_of,
    images_of,
    kl_divergence,
    moving,
    vae_loss,
)


@pytest.mark.parametrize(("latent_size", "parameters"), [(32, 4_348_547), (64, 4_446_915)])
def test_parameter_counts_are_the_papers(latent_size, parameters):
    vae = VAE(VAEConfig(latent_size=latent_size))
    assert sum(p.numel() for p in vae.parameters()) == parameters


@pytest.mark.parametrize("size", [64, 96])
def test_the_decoders_first_layer_is_a_transposed_convolution(size):
    layer = VAE(VAEConfig(latent_size=3, width=2), size).decoder[1]
    side = size // 16 - 3
    found = torch.randn(2, 64, side, side, requires_grad=True)
    wanted = found.detach().clone().requires_grad_()
    ours = layer(found)
    slope = torch.randn(ours.shape)
    ours.backward(slope)
    grads = [weight.grad.clone() for weight in layer.parameters()]
    layer.zero_grad()
    theirs = conv_transpose2d(wanted, layer.weight, layer.bias, stride=2)
    theirs.backward(slope)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(found.grad, wanted.grad)
    torch.testing.assert_close(grads, [weight.grad for weight in layer.parameters()])


@pytest.mark.parametrize("size", [64, 96, 128])
def test_encodes_and_decodes_with_the_noise_given(float32, size):
    vae = VAE(VAEConfig(latent_size=3, width=4), size)
    frames, noise = torch.randint(256, (2, size, size, 3), dtype=torch.uint8), torch.randn(2, 3)
    images, reconstruction, mu, logvar = vae(frames, noise)
    assert torch.equal(images, images_of(frames))
    for ours, again in zip((mu, logvar), vae.encode(frames), strict=True):
        assert ours.shape == (2, 3)
        torch.testing.assert_close(ours, again, rtol=1e-5, atol=1e-6)
        assert ours.requires_grad
        assert not again.requires_grad
    torch.testing.assert_close(reconstruction, vae.decode(mu + (0.5 * logvar).exp() * noise))
    assert reconstruction.shape == (2, 3, size, size)
    assert reconstruction.min() > 0
    assert reconstruction.max() < 1


@pytest.mark.parametrize(
    "frames",
    [
        torch.zeros(2, 64, 64, 3),
        torch.zeros(2, 64, 64, 4, dtype=torch.uint8),
        torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        torch.zeros(64, 64, 3, dtype=torch.uint8),
    ],
)
def test_frames_of_another_shape_or_type_are_refused(frames, no_type_checks):
    vae = VAE(VAEConfig(latent_size=3, width=4))
    fault = rf"^frames are {frames.dtype} of shape \({frames.shape[0]}, .*\(B, 64, 64, 3\)$"
    for method in (vae.encode, lambda f: vae(f, torch.zeros(2, 3))):
        with pytest.raises(ValueError, match=fault):
            method(frames)
    with pytest.raises(ValueError, match=r"noise has shape \(2, 4\).*\(2, 3\)"):
        vae(torch.zeros(2, 64, 64, 3, dtype=torch.uint8), torch.zeros(2, 4))


@pytest.mark.parametrize("size", [64, 96, 128])
def test_he_weights_keep_the_size_of_signals(size):
    spreads = {}
    for kind in ("torch", "he"):
        torch.manual_seed(0)
        vae = VAE(VAEConfig(latent_size=64, first_weights=kind), size)
        signal, sizes = vae.decoder_input(torch.randn(32, 64)), []
        for layer in list(vae.decoder)[:-1]:
            signal = layer(signal)
            sizes.append(signal.square().mean().sqrt().item())
        spreads[kind] = max(sizes) / min(sizes)
    assert spreads["he"] < 2.5
    assert spreads["torch"] > 20


def test_kl_is_torchs():
    mu, logvar = torch.randn(5, 4), torch.randn(5, 4)
    expected = torch_kl(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mu, logvar), expected)


def test_the_loss_by_hand():
    images = torch.zeros(2, 3, 64, 64)
    reconstruction = torch.zeros(2, 3, 64, 64)
    reconstruction[0, :, :2, :2] = 0.5  # 12 squares of 1/4: 3, and 0 for the other image
    mu = torch.tensor([[2.0, 0.0], [0.0, 0.0]])  # KL 2 and 0
    logvar = torch.zeros(2, 2)
    loss, parts = vae_loss(images, reconstruction, mu, logvar, free_nats=0.0)
    assert loss.item() == pytest.approx(1.5 + 1.0)
    assert parts["reconstruction"].item() == pytest.approx(1.5)
    assert parts["kl"].item() == pytest.approx(1.0)
    # the floor of 0.5 nats a latent holds image by image: max(2, 1) and max(0, 1)
    loss, _ = vae_loss(images, reconstruction, mu, logvar, free_nats=0.5)
    assert loss.item() == pytest.approx(1.5 + 1.5)


def test_weights_count_in_the_loss_alone():
    images, reconstruction = torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, 64, 64)
    reconstruction[:, 0, 3, :4] = 0.5  # one: 4 squares of 1/4 an image
    weights = torch.ones(2, 1, 64, 64)
    weights[0, 0, 3, 0] = 5.0
    nothing = torch.zeros(2, 1)
    loss, parts = vae_loss(images, reconstruction, nothing, nothing, 0.0, weights)
    assert loss.item() == pytest.approx((2.0 + 1.0) / 2)
    assert parts["reconstruction"].item() == pytest.approx(1.0)


def test_moving_is_far_from_the_median_in_some_channel():
    medians = torch.full((1, 64, 64, 3), 100, dtype=torch.uint8)
    frames = medians.clone()
    frames[0, 0, 0, 1], frames[0, 0, 1, 2], frames[0, 0, 2] = 131, 69, 130
    found = moving(frames, medians)
    assert found[0, 0, :2].all()
    assert found.sum() == 2


def test_below_the_floor_the_kl_has_no_gradient():
    mu = torch.full((1, 2), 0.1, requires_grad=True)
    picture = torch.zeros(1, 3, 64, 64)
    vae_loss(picture, picture, mu, torch.zeros(1, 2), free_nats=0.5)[0].backward()
    assert not mu.grad.any()


def test_frames_survive_the_way_to_images_and_back():
    frames = torch.arange(256, dtype=torch.uint8).repeat(48).view(1, 64, 64, 3)
    images = images_of(frames)
    assert images.is_contiguous()
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert images[0, 2, 5, 7] == frames[0, 5, 7, 2] / 255
    back = frames_of(images)
    assert back.is_contiguous()
    assert torch.equal(back, frames)


def test_frames_are_rounded_and_clamped():
    values = torch.tensor([-0.1, 0.4 / 255, 0.6 / 255, 1.2])
    images = values.repeat(3072).view(1, 3, 64, 64)
    assert frames_of(images)[0, 0, :4, 0].tolist() == [0, 0, 1, 255]
