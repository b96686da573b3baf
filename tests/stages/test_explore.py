"""Policies that collect: as configured, every episode with random numbers of its own."""

import numpy as np
import pytest

from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.seeding import numpy_generator
from worldmodels.stages.explore import ExploreConfig, Explorer, Overrule, Walk

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


def test_each_sweeping_episode_samples_its_own_longest_hold():
    config = ExploreConfig(policy="sweeps", hold=(1, 30), sweep_between=(1, 2))
    actions = drive(config, THREE, lanes=120, steps=400).argmax(-1)
    sweeping = (actions > 0).all(axis=0)
    changes = (np.diff(actions[:, sweeping], axis=0) != 0).mean(axis=0)
    assert changes.max() > 0.9  # a new action every step
    assert changes.min() < 0.09  # held for about 15 steps
    assert 0.15 < np.median(changes) < 0.6  # between them, evenly in the logarithm


def test_some_episodes_sweep():
    config = ExploreConfig(policy="sweeps", hold=(1, 5), sweep_between=(1, 2))
    actions = drive(config, THREE, lanes=80, steps=300).argmax(-1)
    sweeping = (actions > 0).all(axis=0)
    assert 0.3 < sweeping.mean() < 0.7
    assert (actions[:, ~sweeping] == 0).mean() == pytest.approx(1 / 3, abs=0.05)


def test_sweeps_between_choices_take_turns():
    config = ExploreConfig(policy="sweeps", hold=(10, 10), sweep_between=(1, 2))
    actions = drive(config, THREE, lanes=8).argmax(-1)
    sweeping = actions[:, (actions > 0).all(axis=0)]
    assert sweeping.size
    changes = [np.flatnonzero(np.diff(lane)) for lane in sweeping.T]
    assert all((np.diff(each) == 10).all() for each in changes)


def test_sweeps_need_two_choices():
    with pytest.raises(InputError, match=r"collect\.explore\.policy sweeps needs"):
        drive(ExploreConfig(policy="sweeps"), THREE)
    with pytest.raises(InputError, match=r"collect\.explore\.sweep_between is \(1, 3\)"):
        drive(ExploreConfig(policy="sweeps", sweep_between=(1, 3)), THREE)


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
    actions = drive(ExploreConfig(policy="held", hold=(1, 1)), CAR, steps=2000).reshape(-1, 3)
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
