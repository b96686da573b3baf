"""V in bfloat16 is V, up to rounding; and learns as well."""

import pytest
import torch

from worldmodels.data.dataset import FrameBatch
from worldmodels.kernels.vae import channels_last, reconstruct
from worldmodels.models.vae import VAE, VAEConfig, images_of
from worldmodels.stages.fit import adam
from worldmodels.stages.train_vae import TrainVAEConfig, frames_loss

pytestmark = pytest.mark.bfloat16
SMALL = VAEConfig(latent_size=4, width=4)


def vae(seed=0):
    torch.manual_seed(seed)
    return VAE(SMALL)


def squares(count, seed):
    """Frames with a bright square somewhere."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.full((count, 64, 64, 3), 60, dtype=torch.uint8)
    corners = torch.randint(48, (count, 2), generator=generator).tolist()
    for frame, (y, x) in zip(frames, corners, strict=True):
        frame[y : y + 16, x : x + 16] = torch.tensor([250, 120, 10], dtype=torch.uint8)
    return frames


def test_channels_last_is_images_of():
    frames = squares(3, 0)
    assert torch.equal(channels_last(frames), images_of(frames))
    assert channels_last(frames).is_contiguous(memory_format=torch.channels_last)


def test_the_pass_and_its_gradients_are_the_plain_ones():
    model, images, noise = vae(), channels_last(squares(6, 0)), torch.randn(6, 4)
    outputs, expected = reconstruct(model, images, noise), model(images, noise)
    for ours, theirs in zip(outputs, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
    target = torch.rand_like(images)
    ours, theirs = (
        torch.autograd.grad((pictures - target).square().sum(), list(model.parameters()))
        for pictures in (outputs[0], expected[0])
    )
    for a, b in zip(ours, theirs, strict=True):
        assert torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("motion_weight", [0.0, 3.0])
def test_it_learns_as_well_as_the_plain_one(motion_weight):
    config = TrainVAEConfig(motion_weight=motion_weight)
    median = torch.full((64, 64, 3), 60, dtype=torch.uint8) if motion_weight else None
    held_out = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = vae(1)
        optimizer = adam(model, 3e-3)
        for step in range(150):
            frames = squares(16, step)
            medians = None if median is None else median.expand_as(frames)
            noise = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            frames_loss(model, FrameBatch(frames, medians), noise, config, dtype)[0].backward()
            optimizer.step()
        _, parts = frames_loss(model, FrameBatch(squares(64, 999)), torch.zeros(64, 4), config)
        held_out[dtype] = parts["reconstruction"].item()
    assert held_out[torch.bfloat16] == pytest.approx(held_out[torch.float32], rel=0.1)
