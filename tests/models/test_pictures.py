"""Pictures of V and M show what they say: frames by error, one latent at a time, one beginning."""

import numpy as np
import pytest
import torch

from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.pictures import (
    GAP,
    MOMENTS,
    SEEN,
    dream_beside_record,
    long_enough,
    reconstructions_by_error,
    traversals,
)
from worldmodels.models.vae import VAE, VAEConfig, frames_of, images_of
from worldmodels.seeding import torch_generator


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    vae = VAE(VAEConfig(latent_size=4, width=4, first_weights="he"))
    return vae.requires_grad_(False).eval()


def tiles(picture, height=64):
    """The pictures in a picture, row by row."""
    rows = range(0, picture.shape[0], height + GAP)
    return [
        [picture[y : y + height, x : x + 64] for x in range(0, picture.shape[1], 64 + GAP)]
        for y in rows
    ]


def test_frames_stand_in_the_order_of_their_errors(vae):
    """V gives grey: the further a frame is from it, the worse."""
    shades = np.linspace(0, 255, 40).round().astype(np.uint8)
    frames = torch.from_numpy(np.broadcast_to(shades[:, None, None, None], (40, 64, 64, 3)).copy())
    error = (vae.decode(vae.encode(frames)[0]) - images_of(frames)).square().mean((1, 2, 3))
    order = shades[error.argsort(descending=True).numpy()]
    picture, errors = reconstructions_by_error(vae, frames)
    worst, median, best = (
        [int(tile[0, 0, 0]) for tile in row] for row in tiles(picture, height=128)
    )
    assert worst == order[:6].tolist()
    assert median == order[17:23].tolist()
    assert best == order[-6:].tolist()
    assert errors == pytest.approx(
        [
            float(error.sort().values[i].mean())
            for i in (slice(-6, None), slice(17, 23), slice(0, 6))
        ],
        rel=1e-5,
    )
    below = tiles(picture, height=128)[0][0][64:]
    seen = frames_of(vae.decode(vae.encode(frames[shades == worst[0]])[0]))[0].numpy()
    assert np.array_equal(below, seen)


def test_few_frames_will_do(vae):
    picture, errors = reconstructions_by_error(vae, torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    assert picture.shape == (3 * 128 + 2 * GAP, 2 * 64 + GAP, 3)
    assert len(errors) == 3


def test_a_row_changes_one_latent_and_the_widest_comes_first(vae):
    mu = torch.randn(200, 4, generator=torch_generator(0, "mu")) * torch.tensor([1.0, 3, 0, 2])
    picture, chosen = traversals(vae, mu)
    assert chosen == [1, 3, 0, 2]
    rows = tiles(picture)
    assert [len(row) for row in rows] == [7] * 4
    base = mu[(mu - mu.mean(0)).square().sum(1).argmin()].clone()
    base[1] = mu[:, 1].quantile(0.99)
    assert np.array_equal(rows[0][-1], frames_of(vae.decode(base[None]))[0].numpy())
    assert all(np.array_equal(rows[3][0], tile) for tile in rows[3])  # never varies
    assert not np.array_equal(rows[0][0], rows[0][-1])


def test_record_and_dream_begin_alike(vae):
    torch.manual_seed(1)
    mdnrnn = MDNRNN(MDNRNNConfig(hidden_size=4, num_mixtures=2), 4, 1, []).requires_grad_(False)
    mu, actions = torch.randn(SEEN + 20, 4), torch.zeros(SEEN + 19, 1)
    picture, steps = dream_beside_record(vae, mdnrnn, mu, actions, torch_generator(0, "noise"))
    record, dream = tiles(picture)
    assert steps[0] == 0
    assert steps[-1] == 20
    assert len(steps) == len(record) == MOMENTS
    assert np.array_equal(record[0], dream[0])
    assert not np.array_equal(record[-1], dream[-1])
    last = frames_of(vae.decode(mu[None, SEEN - 1 + 20]))[0].numpy()
    assert np.array_equal(record[-1], last)


def test_which_episodes_are_long_enough():
    assert not long_enough(np.zeros((SEEN + MOMENTS - 1, 4), np.float16))
    assert long_enough(np.zeros((SEEN + MOMENTS, 4), np.float16))
