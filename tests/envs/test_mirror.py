"""An episode's mirror image."""

import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.envs.mirror import ITSELF, MIRRORED, seen_as, views_of
from worldmodels.world import EnvConfig


def episode(frames):
    steps = np.zeros(4, np.float32)
    actions = np.eye(3, dtype=np.float32)[[1, 0, 2, 1]]
    return Episode(frames, actions, steps, steps, steps > 0, steps > 0)


def test_a_mirror_swaps_sides_and_choices():
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    frames[:, :, 0] = 7
    seen, world = episode(frames), EnvConfig(mirrored_actions=(0, 2, 1))
    assert views_of(world) == (ITSELF, MIRRORED)
    assert views_of(EnvConfig()) == (ITSELF,)
    assert seen_as(world, ITSELF, seen) is seen
    mirrored = seen_as(world, MIRRORED, seen)
    assert (mirrored.frames[:, :, -1] == 7).all()
    assert (mirrored.frames[:, :, 0] == 0).all()
    assert mirrored.actions.argmax(1).tolist() == [2, 0, 1, 2]
    again = seen_as(world, MIRRORED, mirrored)
    assert np.array_equal(again.frames, seen.frames)
    assert np.array_equal(again.actions, seen.actions)
