"""The redrawn CarRacing: the same world to the last bit, its picture within a few grey levels."""

import pickle
from collections import OrderedDict

import cv2
import gymnasium
import numpy as np
import pygame
import pytest
from gymnasium.envs.box2d.car_racing import CarRacing as Official

import worldmodels
from worldmodels.envs.fast_car_racing import env as car_racing
from worldmodels.envs.fast_car_racing.env import CarRacing
from worldmodels.envs.fast_car_racing.official import CarRacing as Undrawn
from worldmodels.envs.make import make_env
from worldmodels.world import EnvConfig


def smooth_actions(seed, steps):
    """A random walk with a bias to gas: it leaves the road, skids and comes back."""
    noise = np.random.default_rng(seed).normal(size=(steps, 3))
    walk = np.zeros(3)
    actions = []
    for step in noise:
        walk = 0.9 * walk + 0.25 * step + [0, 0.04, -0.02]
        actions.append(np.clip(walk, [-1, 0, 0], 1))
    return np.array(actions, np.float32)


def state(env):
    bodies = [env.car.hull, *env.car.wheels]
    motion = [(*b.position, b.angle, *b.linearVelocity, b.angularVelocity) for b in bodies]
    wheels = [(w.omega, w.phase, w.gas, w.brake, len(w.tiles)) for w in env.car.wheels]
    return motion, wheels, env.reward, env.tile_visited_count, env.t


def seen_by_v(picture):
    return cv2.resize(picture[:84], (64, 64), interpolation=cv2.INTER_AREA).astype(float)


def difference(ours, theirs):
    return np.abs(seen_by_v(ours) - seen_by_v(theirs)).mean()


def play_both(ours, theirs, seed, actions):
    """Yields both pictures after asserting that all else is equal."""
    pictures = ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0]
    assert ours.track == theirs.track
    yield pictures
    for action in actions:
        mine, official = ours.step(action), theirs.step(action)
        assert mine[1:] == official[1:]
        assert state(ours) == state(theirs)
        yield mine[0], official[0]
        if mine[2]:
            break
    assert ours.np_random.bit_generator.state == theirs.np_random.bit_generator.state


@pytest.mark.parametrize("seed", [3, 11, 25])
def test_same_world_and_nearly_the_same_picture(seed):
    pairs = list(play_both(CarRacing(), Official(), seed, smooth_actions(seed, 90)))
    differences = [difference(*pair) for pair in pairs]
    assert np.mean(differences) < 0.5
    assert max(differences) < 1.5  # the first frames, in which a unit is a tenth of a pixel
    bars = [np.abs(a[84:].astype(float) - b[84:]).mean() for a, b in pairs]
    assert max(bars) < 0.5


@pytest.mark.parametrize("seed", [3, 25])
def test_the_official_one_without_the_pictures_that_nobody_looks_at(seed):
    """Every fourth picture is drawn, and is equal to the bit, as all else is."""
    made = make_env(EnvConfig(id="CarRacing-v3"), official=True)
    assert (made.spec.id, made.spec.max_episode_steps) == ("CarRacing-v3", 1000)
    ours, last = made.unwrapped, None
    for step, pair in enumerate(play_both(ours, Official(), seed, smooth_actions(seed, 40))):
        if step % 4 == 0:
            np.testing.assert_array_equal(*pair)
            last = pair[0]
        assert pair[0] is last
        ours.drawing = step % 4 == 3


OURS = "worldmodels/CarRacing-v3"
LONG = {
    "still, then away": [[0, 0, 0]] * 60 + [[0.1, 1, 0]] * 60,
    "locked wheels": [[-1, 1, 0]] * 80 + [[1, 0.2, 0]] * 80 + [[1, 0, 1]] * 40 + [[0, 0, 0.5]] * 60,
    "off the map": [[0, 0.6, 0]] * 400,
    "spinning": [[0, 1, 0]] * 150 + [[0.3, 1, 0.1]] * 150,
    "a walk": smooth_actions(3, 400),
}


@pytest.mark.parametrize("actions", LONG.values(), ids=LONG)
def test_the_car_moves_as_in_box2d_to_the_bit(actions):
    """Sleep, limits of joints, velocities that repeat and that do not, and the end of the map."""
    ours, theirs = CarRacing(), Undrawn()
    ours.drawing = theirs.drawing = False
    for env in (ours, theirs):
        env.reset(seed=5)  # the episodes after it are the same in a world that was used
    for _ in play_both(ours, theirs, 17, np.array(actions, np.float32)):
        mine, others = (
            [sorted(tile.idx for tile in wheel.tiles) for wheel in env.car.wheels]
            for env in (ours, theirs)
        )
        assert mine == others
    assert [t.road_visited for t in ours.road] == [t.road_visited for t in theirs.road]
    assert all((a.color == b.color).all() for a, b in zip(ours.road, theirs.road, strict=True))


@pytest.mark.parametrize("share", [0.95, 0.004])
def test_laps_end_as_gymnasiums(share):
    """A whole lap of the shipped agent; at a small share the first tile ends it."""
    agent = worldmodels.load("car_racing")
    ours, theirs = (kind(lap_complete_percent=share) for kind in (CarRacing, Undrawn))
    seen, _ = ours.reset(seed=100_000_003)
    theirs.reset(seed=100_000_003)
    theirs.drawing = False
    for _ in range(1000):
        action = agent.act(seen)
        seen, *mine = ours.step(action)
        _, *others = theirs.step(action)
        assert mine == others
        if mine[1]:
            break
    assert mine[-1] == {"lap_finished": True}
    assert (ours.t > 12) == (share > 0.5)
    assert state(ours) == state(theirs)


def test_the_maps_edge_is_drawn():
    ours, theirs = CarRacing(), Official()
    for env in (ours, theirs):
        env.reset(seed=3)
        env.t, env.car.hull.position = 2.0, (320.0, 10.0)
    idle = np.zeros(3, np.float32)
    mine, official = ours.step(idle)[0], theirs.step(idle)[0]
    assert (official[:84].reshape(-1, 3) == 0).all(1).mean() > 0.05  # beyond the field
    assert difference(mine, official) < 0.7


def test_traces_of_skidding_are_gymnasiums():
    ours, theirs = CarRacing(render_mode="rgb_array"), Official()
    ours.drawing = False
    for env in (ours, theirs):
        env.reset(seed=5)
    drive = [[0, 1, 0]] * 40 + [[1, 1, 0]] * 25 + [[-1, 0, 1]] * 25 + [[0, 1, 0.3]] * 10
    for action in np.array(drive, np.float32):
        assert ours.step(action)[1:] == theirs.step(action)[1:]
        assert state(ours) == state(theirs)
    traces = [
        [(p.color, p.grass, [tuple(x) for x in p.poly]) for p in env.car.particles]
        for env in (ours, theirs)
    ]
    assert traces[0] == traces[1]
    assert len(traces[0]) > 4


def test_a_remembered_track_gives_the_same_bits():
    ours, theirs = CarRacing(), Official()
    for seed in (5, 6, 5, 6):
        for pictures in play_both(ours, theirs, seed, smooth_actions(seed, 25)):
            assert difference(*pictures) < 1.5


def test_resets_without_a_seed_follow_the_generator():
    ours, theirs = CarRacing(), Official()
    for _ in range(2):
        ours.reset(seed=8)
        theirs.reset(seed=8)
        ours.reset()
        theirs.reset()
        assert ours.track == theirs.track
        assert ours.np_random.random() == theirs.np_random.random()


def test_tracks_and_maps_are_shared_and_forgotten(monkeypatch):
    monkeypatch.setattr(car_racing, "CACHED_TRACKS", 2)
    monkeypatch.setattr(car_racing, "_tracks", OrderedDict())
    first, second = CarRacing(), CarRacing()
    for env in (first, second):
        env.reset(seed=9)
    assert first._raster is second._raster
    second.drawing = False
    for seed in (10, 11, 12):
        second.reset(seed=seed)
    assert len(car_racing._tracks) == 2


def test_visits_repaint_the_own_lane_only():
    driver, other = CarRacing(), CarRacing()
    for env in (driver, other):
        env.reset(seed=9)
    for _ in range(80):
        picture = driver.step(np.array([0, 0.3, 0], np.float32))[0]
        other.step(np.array([0, 0, 0], np.float32))
    visited = [tile.idx for tile in driver.road if tile.road_visited]
    assert len(visited) > len([tile for tile in other.road if tile.road_visited])
    shaded = next(tile for tile in driver.road if tile.idx in visited and tile.idx % 3 == 2)
    assert (shaded.color == 102).all()
    untouched = next(tile for tile in other.road if tile.idx == shaded.idx)
    assert untouched.road_visited or (untouched.color > 107).all()
    assert (picture[:84].reshape(-1, 3) == 100).all(1).sum() > 50


def test_domain_randomize_and_discrete_actions():
    ours = CarRacing(domain_randomize=True, continuous=False)
    theirs = Official(domain_randomize=True, continuous=False)
    actions = [3, 3, 1, 2, 4, 0] * 10
    for seed, options in ((1, None), (2, {"randomize": False}), (1, None)):
        pictures = ours.reset(seed=seed, options=options)[0], theirs.reset(seed=seed)[0]
        if options is None:
            assert (ours.road_color == theirs.road_color).all()
            assert difference(*pictures) < 1.5
    for action in actions:
        mine, official = ours.step(action), theirs.step(action)
        assert mine[1:] == official[1:]
    assert difference(mine[0], official[0]) < 0.5


def test_not_drawing_changes_nothing_but_the_picture():
    seeing, blind = CarRacing(), CarRacing()
    start = seeing.reset(seed=4)[0]
    blind.reset(seed=4)
    blind.drawing = False
    for action in smooth_actions(4, 30):
        picture = seeing.step(action)[0]
        assert (blind.step(action)[0] == start).all()
        assert state(blind) == state(seeing)
    assert (blind.draw() == picture).all()
    assert (blind.step(action)[0] == start).all()
    assert not np.shares_memory(seeing.draw(), seeing.draw())


def test_people_see_gymnasiums_picture():
    ours, theirs = CarRacing(render_mode="rgb_array"), Official(render_mode="rgb_array")
    ours.reset(seed=2)
    theirs.reset(seed=2)
    for action in smooth_actions(2, 10):
        ours.step(action)
        theirs.step(action)
    assert (ours.render() == theirs.render()).all()


def test_a_window_and_calls_of_gymnasiums_own():
    env = CarRacing(render_mode="human")
    env.reset(seed=2)
    env.step(np.zeros(3, np.float32))
    env.step(None)
    assert env.car.wheels[0].tiles[0] in env.road
    assert env.car.wheels[0].joint.angle == pytest.approx(0, abs=1e-6)
    env.close()


def test_the_bar_survives_the_end_of_pygame():
    env = CarRacing()
    env.reset(seed=2)
    pygame.quit()
    env.reward = -12.0
    picture = env.draw()
    assert picture[84:, :12].max() > 100
    assert picture.shape == (96, 96, 3)


HELD = {
    "to the time limit": (smooth_actions(3, 100), 250),
    "off the map": (np.tile(np.float32([0, 0.6, 0]), (400, 1)), 1000),
}


@pytest.mark.parametrize(("actions", "limit"), HELD.values(), ids=HELD)
def test_holding_an_action_is_as_many_steps(actions, limit):
    held, stepped = (gymnasium.make(OURS, max_episode_steps=limit) for _ in range(2))
    held.reset(seed=17)
    stepped.reset(seed=17)
    taken = over = 0
    for action in actions:
        mine, total = held.hold(action, 3), 0.0
        for _ in range(3):
            theirs = stepped.step(action)
            total, taken, over = total + theirs[1], taken + 1, theirs[2] or theirs[3]
            if over:
                break
        assert mine[1:4] == (total, *theirs[2:4])
        assert (mine[0] == theirs[0]).all()
        assert state(held.unwrapped) == state(stepped.unwrapped)
        if over:
            break
    assert over
    assert (taken == limit) == (limit == 250)


def test_what_cannot_be_held():
    made = gymnasium.make(OURS, max_episode_steps=5)
    env, action = gymnasium.make(made.spec, max_episode_steps=5), np.zeros(3, np.float32)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.hold(action, 2)
    env.reset(seed=1)
    with pytest.raises(ValueError, match="frames is 0"):
        env.hold(action, 0)
    env.step(action)
    env.unwrapped.drawing = False
    assert not env.hold(action, 2)[3]
    assert env.hold(action, 4)[3]  # three are left
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.hold(action, 1)
    endless = gymnasium.make(OURS, max_episode_steps=-1)
    endless.reset(seed=1)
    assert not endless.hold(action, 3)[3]


def test_registered_with_the_official_limit_and_arguments():
    env = gymnasium.make(OURS, continuous=False)
    assert env.spec.max_episode_steps == 1000
    assert isinstance(env.unwrapped, CarRacing)
    picture, _ = env.reset(seed=1)
    assert env.observation_space.contains(picture)
    copy = pickle.loads(pickle.dumps(env.unwrapped))
    assert not copy.continuous
    env.close()
