"""Policies that act in any world: candidates, recorded actions and open-loop baselines."""

import numpy as np

from worldmodels.acting.policies import Baseline, Candidates, OpenLoop, Recorded
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, ControllerConfig
from worldmodels.seeding import numpy_generator
from worldmodels.world import EnvConfig, RawPicture, World

CAR = Actions("box", (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0), clip=(2,))
DOOM = Actions("thirds", (-1.0,), (1.0,))


NOTHING, LIVE = np.zeros((2, 1), np.float32), np.ones(2, bool)


def test_recorded_actions_are_repeated_and_the_last_is_held():
    rows = [np.array([[0.1], [0.2], [0.3]], np.float32), np.array([[0.9]], np.float32)]
    policy = Recorded(rows)
    taken = np.stack([policy(NOTHING, LIVE)[:, 0] for _ in range(4)])
    np.testing.assert_array_equal(
        taken, np.float32([[0.1, 0.9], [0.2, 0.9], [0.3, 0.9], [0.3, 0.9]])
    )


def test_each_candidate_acts_on_its_own_lanes():
    controller = Controller(ControllerConfig(inputs="z", bias=False), 1, 0, 1)
    policy = Candidates(controller, np.array([[1.0], [-1.0]]), DOOM)
    actions = policy(np.ones((4, 1), np.float32), np.ones(4, bool))
    np.testing.assert_allclose(actions[:, 0], np.tanh([1, 1, -1, -1]), rtol=1e-6)


def test_random_actions_follow_their_generators():
    fixed = Baseline("random", "random"), CAR
    space = CAR.space
    policy, again = (
        OpenLoop(*fixed, [numpy_generator(0, lane) for lane in lanes], space=space)
        for lanes in ((0, 1), (1,))
    )
    for _ in range(3):
        actions = policy(NOTHING, LIVE)
        assert all(space.contains(row) for row in actions)
        np.testing.assert_array_equal(again(NOTHING[:1], LIVE[:1])[0], actions[1])


def shipped(env_id, actions):
    world = World(EnvConfig(id=env_id), actions.to_dict(), 30.0, {}, RawPicture((64, 64, 3)))
    return [one.name for one in Baseline.shipped(world)]


def test_the_baselines_that_come_with_the_package():
    assert shipped("VizdoomTakeCover-v1", DOOM) == ["sweep"]
    assert shipped("CarRacing-v3", CAR) == ["constant"]
    assert shipped("CarRacing-v3", Actions("discrete", counts=(5,))) == []  # continuous: false
    assert shipped("CartPole-v1", Actions("discrete", counts=(2,))) == []
