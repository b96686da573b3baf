"""Policies: held and smooth as configured, every episode with random numbers of its own."""

import numpy as np
import pytest

from worldmodels.acting.policies import (
    Baseline,
    Candidates,
    ExploreConfig,
    Explorer,
    OpenLoop,
    Overrule,
    Recorded,
    Walk,
)
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, ControllerConfig
from worldmodels.seeding import numpy_generator
from worldmodels.world import EnvConfig

CAR = Actions("box", (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0), clip=(2,))
THREE = Actions("discrete", counts=(3,))
DOOM = Actions("thirds", (-1.0,), (1.0,))


def drive(config, actions, lanes=2, steps=200, seed=0):
    explorer = Explorer(config, actions, [numpy_generator(seed, lane) for lane in range(lanes)])
    frames = np.zeros((lanes, 64, 64, 3), np.uint8)
    return np.stack([explorer(frames, np.ones(lanes, bool)) for _ in range(steps)])


def test_held_actions_last_between_one_and_ten_steps():
    changes = np.flatnonzero(np.diff(drive(ExploreConfig(policy="held"), DOOM)[:, 0, 0]) != 0)
    lengths = np.diff(changes)
    assert lengths.min() >= 1
    assert lengths.max() <= 10
    assert 4 < lengths.mean() < 7  # 5.5


def test_each_episode_may_draw_its_own_longest_hold():
    config = ExploreConfig(policy="held", hold=(1, 30), vary_hold=True)
    actions = drive(config, DOOM, lanes=60, steps=400)[..., 0]
    changes = (np.diff(actions, axis=0) != 0).mean(axis=0)
    assert changes.max() > 0.9  # a new action every step
    assert changes.min() < 0.09  # held for about 15 steps
    assert 0.15 < np.median(changes) < 0.6  # between them, evenly in the logarithm


def test_some_episodes_sweep():
    config = ExploreConfig(policy="held", sweep_share=0.5, sweep_between=(1, 2))
    actions = drive(config, THREE, lanes=80, steps=300).argmax(-1)
    sweeping = (actions > 0).all(axis=0)
    assert 0.3 < sweeping.mean() < 0.7
    assert (actions[:, ~sweeping] == 0).mean() == pytest.approx(1 / 3, abs=0.05)


def test_sweeps_between_choices_take_turns():
    config = ExploreConfig(policy="held", sweep_share=1.0, sweep_between=(1, 2))
    actions = drive(config, THREE, lanes=4).argmax(-1)
    assert set(actions.ravel()) == {1, 2}
    lengths = np.diff(np.flatnonzero(np.diff(actions[:, 0])))
    assert lengths.min() >= 1
    assert lengths.max() == 10


def test_sweeps_need_two_choices():
    with pytest.raises(InputError, match=r"collect\.explore\.sweep_share needs sweep_between"):
        drive(ExploreConfig(policy="held", sweep_share=0.5), THREE)
    with pytest.raises(InputError, match=r"collect\.explore\.sweep_between is \(1, 3\)"):
        drive(ExploreConfig(policy="held", sweep_share=0.5, sweep_between=(1, 3)), THREE)


@pytest.mark.parametrize("overrule", [0.2, 0.6, 1.0])
def test_random_actions_take_their_share_of_the_steps_and_are_held(overrule):
    lanes, steps = 200, 1000
    generators = [numpy_generator(0, lane) for lane in range(lanes)]
    overrule_ = Overrule(overrule, DOOM, generators)
    driven = np.full((lanes, 1), 2.0, np.float32)  # not one of the actions
    done = np.stack([overrule_(driven) for _ in range(steps)])[..., 0]
    shares = (done != 2.0).mean(axis=0)
    assert shares.mean() == pytest.approx(overrule / 2, abs=0.1 * overrule)
    assert shares.max() < overrule + 0.1
    changes = np.flatnonzero(np.diff(done[:, shares.argmax()]) != 0)
    assert np.diff(changes).max() > 5


def test_uniform_actions_cover_the_space():
    actions = drive(ExploreConfig(policy="uniform"), CAR, steps=2000).reshape(-1, 3)
    assert np.allclose(actions.mean(axis=0), [0.0, 0.5, 0.5], atol=0.05)
    assert (actions >= [-1, 0, 0]).all()
    assert (actions <= 1).all()


def test_a_walk_has_unit_variance_and_the_memory_it_is_given():
    walk = Walk([numpy_generator(0, lane) for lane in range(500)], 1, memory=5.0)
    path = np.stack([walk.step() for _ in range(40)])[..., 0]
    assert path.std() == pytest.approx(1.0, abs=0.05)
    later = np.corrcoef(path[:-5].ravel(), path[5:].ravel())[0, 1]
    assert later == pytest.approx(np.exp(-1), abs=0.05)


def test_a_lanes_actions_do_not_depend_on_its_neighbours():
    config = ExploreConfig(policy="smooth", deviation_spread=0.5)
    alone, crowd = drive(config, CAR, lanes=1), drive(config, CAR, lanes=3)
    np.testing.assert_array_equal(alone[:, 0], crowd[:, 0])


def test_wild_and_calm_episodes():
    calm = drive(ExploreConfig(policy="smooth", mean_spread=(0.0,)), CAR, lanes=100)
    mixed = ExploreConfig(policy="smooth", mean_spread=(0.0,), deviation_spread=1.0)
    spreads = drive(mixed, CAR, lanes=100)[..., 0].std(axis=0)
    assert spreads.std() > 2 * calm[..., 0].std(axis=0).std()


def test_a_mean_of_the_wrong_length_is_named():
    with pytest.raises(InputError, match=r"collect\.explore\.mean needs 1 or 3 numbers"):
        drive(ExploreConfig(policy="smooth", mean=(0.0, 1.0)), CAR)


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


def test_the_baselines_of_a_world():
    names = [one.name for one in Baseline.of_world(EnvConfig(id="VizdoomTakeCover-v1"))]
    assert names == ["random", "sweep"]
    assert [one.name for one in Baseline.of_world(EnvConfig(id="CartPole-v1"))] == ["random"]
