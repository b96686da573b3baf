"""The compiled V is the plain one up to rounding, learns as well and encodes with its weights."""

import copy

import pytest
import torch

from worldmodels.data.dataset import FrameBatch
from worldmodels.kernels.vae import reconstruct
from worldmodels.models.vae import VAE, VAEConfig, images_of
from worldmodels.precision import set_precision
from worldmodels.seeding import torch_generator
from worldmodels.stages.fit import adam
from worldmodels.stages.train_vae import TrainVAEConfig, frames_loss

SMALL = VAEConfig(latent_size=4, width=4)


def small(seed=0):
    torch.manual_seed(seed)
    return VAE(SMALL)


def squares(count, seed, size=64):
    """Frames with a bright square somewhere."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.full((count, size, size, 3), 60, dtype=torch.uint8)
    corners = torch.randint(48, (count, 2), generator=generator).tolist()
    for frame, (y, x) in zip(frames, corners, strict=True):
        frame[y : y + 16, x : x + 16] = torch.tensor([250, 120, 10], dtype=torch.uint8)
    return frames


@pytest.fixture(scope="module")
def blobs():
    """Smooth pictures: in noise alone errors would average out."""
    coarse = torch.rand(6, 3, 5, 5, generator=torch_generator(0, "blobs")) * 255
    fine = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")
    return fine.byte().permute(0, 2, 3, 1).contiguous()


@pytest.fixture(scope="module")
def sharp():
    """The paper's V, its posterior as wide and as sharp as a trained one's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = VAE(VAEConfig()).requires_grad_(False)
    vae.posterior.weight.mul_(50)
    vae.posterior.bias[32:] -= 4.0
    return vae


class PlainVAE(VAE):
    """Layer by layer, as PyTorch computes it."""

    def forward(self, frames, noise):
        images = images_of(frames)
        mu, logvar = self.posterior(self.encoder(images)).chunk(2, dim=-1)
        return images, self.decode(mu + torch.exp(0.5 * logvar) * noise), mu, logvar


def plain_of(vae):
    plain = PlainVAE(vae.config, vae.size)
    plain.load_state_dict(vae.state_dict())
    return plain


TOLERANCES = {"float32": 1e-4, "bfloat16": 0.02}
both_precisions = pytest.mark.parametrize(
    "precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16)]
)


@both_precisions
@pytest.mark.parametrize("size", [64, 96, 128])
def test_the_pass_and_its_gradients_are_the_plain_ones(precision, size):
    set_precision(precision)
    torch.manual_seed(0)
    vae, noise = VAE(SMALL, size), torch.randn(6, 4)
    target = 0.3 * torch.rand(6, 3, size, size)  # darker: slopes of both signs cancel in the biases
    frames = squares(6, 0, size)

    def outputs_and_gradients(vae, pass_of):
        outputs = pass_of(vae, frames, noise)
        loss = (outputs[1] - target).square().sum()
        return outputs, torch.autograd.grad(loss, list(vae.parameters()))

    outputs, gradients = outputs_and_gradients(vae, reconstruct)
    expected, theirs = outputs_and_gradients(plain_of(vae), PlainVAE.forward)
    tolerance = TOLERANCES[precision]
    assert torch.equal(outputs[0], expected[0])
    for a, b in zip(outputs, expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    assert not torch.equal(outputs[1], expected[1])
    for a, b in zip(gradients, theirs, strict=True):
        assert torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 1 - tolerance / 2


def learned(vae):
    """V's error on other frames after some training."""
    config = TrainVAEConfig(motion_weight=3.0)
    median = torch.full((64, 64, 3), 60, dtype=torch.uint8)
    optimizer = adam(vae, 3e-3)
    for step in range(150):
        frames = squares(16, step)
        noise = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        batch = FrameBatch(frames, median.expand_as(frames))
        frames_loss(vae, batch, noise, config)[0].backward()
        optimizer.step()
    parts = frames_loss(vae, FrameBatch(squares(64, 999)), torch.zeros(64, 4), config)[1]
    return parts["reconstruction"].item()


@pytest.fixture(scope="module")
def learned_plainly():
    return learned(plain_of(small(1)))


@both_precisions
def test_it_learns_as_well_as_the_plain_one(precision, learned_plainly):
    set_precision(precision)
    assert learned(small(1)) == pytest.approx(learned_plainly, rel=0.1)


@both_precisions
@pytest.mark.parametrize("fused", [True, False])
def test_encoding_agrees_within_a_tenth_of_sigma(sharp, blobs, precision, fused, monkeypatch):
    set_precision(precision)
    monkeypatch.setattr("worldmodels.kernels.vae._is_fused", lambda: fused)
    vae = copy.deepcopy(sharp)  # whose weights nobody has copied yet
    mine, spread = vae.encode(blobs)
    _, _, mu, logvar = plain_of(vae)(blobs, torch.zeros(len(blobs), 32))
    sigma = torch.exp(0.5 * logvar)
    assert mu.std() > 3 * sigma.mean()  # else any mu would do
    assert mine.dtype == spread.dtype == torch.float32
    errors = (mine - mu).abs() / sigma
    assert errors.max() < 0.1
    assert errors.mean() < 0.02
    assert errors.max() > 0
    assert (spread - logvar).abs().max() < 0.1


def test_a_frame_is_encoded_alike_in_any_batch(sharp, blobs):
    alone = torch.cat([sharp.encode(frame[None])[0] for frame in blobs])
    torch.testing.assert_close(alone, sharp.encode(blobs)[0], rtol=1e-4, atol=1e-4)
    assert sharp.encode(blobs[:0])[0].shape == (0, 32)


def trained_on(vae, frames):
    """A step of Adam as in training, which moves no version counter."""
    optimizer = adam(vae, 1e-3)
    loss, _ = frames_loss(vae, FrameBatch(frames), torch.zeros(len(frames), 4), TrainVAEConfig())
    loss.backward()
    optimizer.step()


def loaded(vae, _):
    vae.load_state_dict(small(7).state_dict())


def touched(vae, _):
    with torch.no_grad():
        vae.encoder[4].weight[3, 2, 1, 0] += 100


def replaced(vae, _):
    vae.encoder[0].weight.data = vae.encoder[0].weight.data * 2


@pytest.mark.parametrize("change", [trained_on, loaded, touched, replaced])
def test_encoding_follows_weights_that_change(change):
    vae, frames = small(), squares(5, 0)
    before = vae.encode(frames)[0]
    assert torch.equal(vae.encode(frames)[0], before)
    change(vae, frames)
    after = vae.encode(frames)[0]
    assert not torch.equal(after, before)
    assert torch.equal(after, copy.deepcopy(vae).encode(frames)[0])
