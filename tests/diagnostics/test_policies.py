"""Fixed policies give actions a, by the clock or by what they draw."""

import numpy as np
import pytest
import torch

from worldmodels.acting.policies import ExploreConfig
from worldmodels.diagnostics.policies import Blind, Driving, Exploring, begin, policies_of
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, ControllerConfig
from worldmodels.seeding import numpy_generator
from worldmodels.world import EnvConfig

DOOM = Actions("thirds", (-1.0,), (1.0,))
CAR = Actions("box", (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0), clip=(2,))
NOTHING = np.zeros((2, 3), np.float32)


def generators(lanes=2):
    return [numpy_generator(0, lane) for lane in range(lanes)]


def names(env, explore="held", driving=None):
    return [p.name for p in policies_of(env, ExploreConfig(policy=explore), driving)]


def test_who_is_followed_in_which_world():
    driving = Driving("controller", Controller(ControllerConfig(), 1, 1, 1), np.zeros(3))
    assert names(EnvConfig(id="CartPole-v1")) == ["random", "explorer"]
    assert names(EnvConfig(id="VizdoomTakeCover-v1"), driving=driving) == [
        *("random", "explorer", "sweep", "controller"),
    ]
    assert names(EnvConfig(), "random_network") == ["random", "constant"]


@pytest.mark.parametrize("repeat", [1, 4])
def test_a_sweep_keeps_the_worlds_time(repeat):
    """Half a period of 16 frames to the left, which is -1, half to the right."""
    act = begin(Blind("sweep", "sweep", 16), DOOM, generators(), repeat)
    steps = np.stack([act(NOTHING) for _ in range(32 // repeat)])
    assert steps.shape == (32 // repeat, 2, 1)
    half = 8 // repeat
    np.testing.assert_array_equal(steps[:, 0, 0], np.tile(np.repeat([-1.0, 1.0], half), 2))
    own = DOOM.to_environment(steps[:, 0])
    assert own.tolist() == ([2] * half + [1] * half) * 2


def test_a_constant_action_is_given_as_it_is():
    act = begin(Blind("constant", "constant", [-0.25, 0.5, 0.0]), CAR, generators(), 4)
    np.testing.assert_array_equal(act(NOTHING), [[-0.25, 0.5, 0.0]] * 2)


def test_random_actions_are_drawn_at_every_step_for_every_lane():
    act = begin(Exploring(), DOOM, generators(), 1)
    drawn = np.stack([act(NOTHING) for _ in range(50)])[..., 0]
    assert len(np.unique(drawn)) == 100
    again = begin(Exploring(), DOOM, generators(1), 1)
    assert again(NOTHING[:1])[0, 0] == drawn[0, 0]


def test_a_controller_looks():
    controller = Controller(ControllerConfig(), 1, 2, 1)
    act = begin(Driving("c", controller, np.array([1.0, 0, 0, 0])), DOOM, generators(), 1)
    seen = np.array([[0.5, 0, 0], [-2.0, 0, 0]], np.float32)
    np.testing.assert_allclose(act(seen)[:, 0], torch.tanh(torch.tensor([0.5, -2.0])))
