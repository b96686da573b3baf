"""What the benchmark of the real environment measures is what it says; no speeds here."""

from dataclasses import replace

import gymnasium
import numpy as np
from benchmark import worlds

from worldmodels.artifacts import Bundle
from worldmodels.envs.fast_car_racing.motion import Car
from worldmodels.workers import WorkersConfig


def test_episodes_are_driven_to_their_length_or_end():
    env = gymnasium.make(worlds.OURS, disable_env_checker=True)
    assert worlds.drive(env, [(1, 0), (1, 1), (2, 2)], 12) == 36
    env.unwrapped.drawing = False
    crash = worlds.drive(env, [(1, 0)], 1000)
    assert crash == 1000 or abs(np.array(env.unwrapped.car.hull.position)).max() > 333


def test_drivers_differ_and_move():
    first, second = (worlds.smooth_actions(driver, 300) for driver in (0, 1))
    assert np.abs(first - second).max() > 0.5
    assert first[:, 1].mean() > first[:, 2].mean()
    assert np.abs(np.diff(first, axis=0)).mean() < 0.3


def test_our_picture_and_motion_against_gymnasiums():
    assert max(worlds._differences(7, 6)) < 1.5
    assert all(worlds._equalities(7, 40))


def test_a_differing_bit_is_seen(monkeypatch):
    brake = Car.brake
    monkeypatch.setattr(Car, "brake", lambda car, b: brake(car, 1.0001 * b))
    assert not all(worlds._equalities(7, 60))


def test_the_same_agent_in_both_worlds(tiny_bundle, tmp_path):
    bundle = Bundle.load(tiny_bundle)
    changes = {"id": worlds.THEIRS, "training_id": worlds.OURS, "max_episode_steps": 8}
    world = replace(bundle.world, config=replace(bundle.world.config, **changes))
    replace(bundle, world=world).save(tmp_path / "short")
    rows = worlds.return_rows(tmp_path / "short", 2, workers=WorkersConfig(processes=1))
    ours, theirs, difference, _ = (row["value"] for row in rows)
    assert ours > 0
    assert difference == ours - theirs
    assert abs(difference) < 10
