"""The dream's noise is a function of (seed, episode, step) and of nothing else."""

import numpy as np
import torch

from worldmodels.models.noise import NOISE_BLOCK, Noise


def at(noise, *places):
    """Noise at places (seed, episode, step)."""
    keys = [(seed, episode) for seed, episode, _ in places]
    uniforms, normals = noise(keys, np.array([step for *_, step in places]))
    return torch.cat([uniforms, normals], 1)


def test_shapes_and_laws():
    uniforms, normals = Noise(2, 3)([(seed, 0) for seed in range(2000)], np.zeros(2000, int))
    assert uniforms.shape == (2000, 2)
    assert normals.shape == (2000, 3)
    assert uniforms.min() >= 0
    assert uniforms.max() < 1
    assert abs(uniforms.mean() - 0.5) < 0.02
    assert abs(normals.mean()) < 0.06
    assert abs(normals.std() - 1) < 0.04


def test_equal_keys_share_noise_and_others_do_not():
    drawn = at(Noise(1, 2), (1, 0, 5), (2, 0, 5), (1, 0, 5), (1, 1, 5))
    assert torch.equal(drawn[0], drawn[2])
    assert len({tuple(row.tolist()) for row in drawn}) == 3


def test_other_lanes_and_the_past_do_not_matter():
    noise = Noise(1, 2)
    crowd = [at(noise, (7, 0, t), (8, 0, t), (9, 3, t))[1] for t in range(2 * NOISE_BLOCK + 3)]
    assert len({tuple(row.tolist()) for row in crowd}) == len(crowd)
    for t in (0, NOISE_BLOCK - 1, NOISE_BLOCK, 2 * NOISE_BLOCK + 2, 1):
        assert torch.equal(at(Noise(1, 2), (8, 0, t))[0], crowd[t])
        assert torch.equal(at(noise, (8, 0, t))[0], crowd[t])


def test_one_key_may_be_at_several_steps():
    """Under NEXT_STEP, lanes of one seed reach an episode at different times."""
    noise, far = Noise(1, 2), NOISE_BLOCK + 4
    together = at(noise, (1, 1, 3), (1, 1, 9), (1, 1, far), (1, 1, 3))
    alone = torch.cat([at(Noise(1, 2), (1, 1, step)) for step in (3, 9, far, 3)])
    assert torch.equal(together, alone)
