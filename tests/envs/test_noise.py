"""The dream's noise is a function of (seed, episode, step) and of nothing else."""

import numpy as np

from worldmodels.envs.noise import NOISE_BLOCK, Noise


def rows(noise, keys, steps):
    """The noise of lanes 0, 1, ... at steps of theirs."""
    lanes = np.arange(len(keys))
    noise.begin(lanes.tolist(), keys)
    return noise.tape[noise.rows(lanes, np.asarray(steps))].copy()


def at(*places):
    """Fresh noise at places (seed, episode, step)."""
    keys = [(seed, episode) for seed, episode, _ in places]
    return rows(Noise(len(places), 1, 2), keys, [step for *_, step in places])


def test_shapes_and_laws():
    drawn = rows(Noise(2000, 2, 3), [(seed, 0) for seed in range(2000)], np.zeros(2000, int))
    assert drawn.shape == (2000, 5)
    assert drawn.dtype == np.float32
    uniforms, normals = drawn[:, :2], drawn[:, 2:]
    assert uniforms.min() >= 0
    assert uniforms.max() < 1
    assert abs(uniforms.mean() - 0.5) < 0.02
    assert abs(normals.mean()) < 0.06
    assert abs(normals.std() - 1) < 0.04


def test_equal_keys_share_noise_and_others_do_not():
    drawn = at((1, 0, 5), (2, 0, 5), (1, 0, 5), (1, 1, 5))
    assert (drawn[0] == drawn[2]).all()
    assert len({tuple(row) for row in drawn}) == 3


def test_other_lanes_and_the_past_do_not_matter():
    noise, lanes = Noise(3, 1, 2), np.arange(3)
    noise.begin([0, 1, 2], [(7, 0), (8, 0), (9, 3)])
    steps = range(2 * NOISE_BLOCK + 3)
    crowd = [noise.tape[noise.rows(lanes, np.full(3, t))[1]].copy() for t in steps]
    assert len({tuple(row) for row in crowd}) == len(crowd)
    for t in (0, NOISE_BLOCK - 1, NOISE_BLOCK, 2 * NOISE_BLOCK + 2, 1):
        assert (at((8, 0, t))[0] == crowd[t]).all()


def test_one_key_may_be_at_several_steps():
    """Under NEXT_STEP, lanes of one seed reach an episode at different times."""
    far = NOISE_BLOCK + 4
    together = at((1, 1, 3), (1, 1, 9), (1, 1, far), (1, 1, 3))
    alone = [at((1, 1, step))[0] for step in (3, 9, far, 3)]
    assert (together == alone).all()


def test_a_long_life_takes_no_more_room():
    """Each lane moves through blocks and keys; the tape holds one block per lane."""
    noise, lanes = Noise(2, 1, 2), np.arange(2)
    for episode in range(5):
        noise.begin([0, 1], [(3, episode), (3, episode % 2)])
        for step in (0, NOISE_BLOCK, 3 * NOISE_BLOCK - 1):
            drawn = noise.tape[noise.rows(lanes, np.full(2, step))]
            assert (drawn == at((3, episode, step), (3, episode % 2, step))).all()
