"""What pictures say of a step, and an episode's mirror image."""

from dataclasses import replace

import numpy as np
import pytest

from worldmodels.data.episode import Episode
from worldmodels.envs.real import describe
from worldmodels.envs.views import ITSELF, MIRRORED, marked_steps, seen_as, views_of
from worldmodels.errors import InputError
from worldmodels.world import EnvConfig


def episode(frames):
    steps = np.zeros(4, np.float32)
    actions = np.eye(3, dtype=np.float32)[[1, 0, 2, 1]]
    return Episode(frames, actions, steps, steps, steps > 0, steps > 0)


def test_pictures_that_redden_show_damage():
    frames = np.full((5, 64, 64, 3), 50, np.uint8)
    frames[2] = (90, 50, 50)  # redder by 40
    frames[3] = (96, 50, 50)  # by 6
    frames[4] = (255, 255, 255)  # brighter, not redder
    for rise, expected in ((8.0, [0, 1, 0, 0]), (5.0, [0, 1, 1, 0]), (None, [0, 0, 0, 0])):
        world = EnvConfig(damage_redness=rise)
        assert marked_steps(world, episode(frames)).tolist() == expected
        assert marked_steps(world, episode(frames[:4])).tolist() == expected  # no last picture


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


def test_a_mirror_turns_parts_of_a_box():
    seen = episode(np.zeros((5, 64, 64, 3), np.uint8))
    seen = replace(seen, actions=np.array([[0.5, 0.1, 1.0], [-1.0, 0.0, 0.2]] * 2, np.float32))
    mirrored = seen_as(EnvConfig(mirrored_actions=(-1, 1, 1)), MIRRORED, seen).actions
    np.testing.assert_array_equal(mirrored[:2], np.float32([[-0.5, 0.1, 1.0], [1.0, 0.0, 0.2]]))
    assert mirrored.dtype == np.float32


@pytest.mark.parametrize("mirrored", [(0, 2), (1, 1, 0), (-1, 0), (2, 1)])
def test_neither_an_order_nor_signs(mirrored):
    with pytest.raises(InputError, match=r"env\.mirrored_actions .* each choice once, or give 1"):
        EnvConfig(mirrored_actions=mirrored)


@pytest.mark.parametrize(
    ("name", "mirrored", "fits"),
    [
        ("CartPole-v1", (1, 0), True),
        ("CartPole-v1", (0, 2, 1), False),
        ("CartPole-v1", (-1, 1), False),
        ("CarRacing-v3", (-1, 1, 1), True),
        ("CarRacing-v3", (-1, -1, 1), False),  # gas is not -1 to 1
        ("CarRacing-v3", (-1, 1), False),
        ("CarRacing-v3", (0, 2, 1), False),
    ],
)
def test_a_mirror_fits_the_action_space(name, mirrored, fits):
    config = EnvConfig(id=name, mirrored_actions=mirrored)
    if fits:
        assert describe(config).config.mirrored_actions == mirrored
    else:
        with pytest.raises(InputError, match=f"env.mirrored_actions is .*, but {name} has "):
            describe(config)
