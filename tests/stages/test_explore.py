"""Policies that collect: as configured, every episode with random numbers of its own."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from worldmodels.data.episode import Episode, episode_files
from worldmodels.envs.trust import VARIABLE, trust
from worldmodels.errors import InputError
from worldmodels.files import load_arrays
from worldmodels.models.action import Actions
from worldmodels.run import Run
from worldmodels.seeding import numpy_generator
from worldmodels.stages.collect import CollectConfig, collect
from worldmodels.stages.explore import ExploreConfig, Explorer, Overrule, Walk
from worldmodels.workers import WorkersConfig
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


LIGHT = """
import numpy as np

def follow(frames, info):
    "Chooses the side of the light: at most one pixel of three is bright."
    brightness = frames[:, 32, [10, 31, 52], 0]
    assert len(info["observations"]) == len(frames) == len(info["live"])
    assert (np.stack(info["observations"]) == frames).all()
    return brightness.argmax(axis=1)

def late(frames, info):
    return np.zeros(len(frames), int) if info["starts"].all() else np.ones(len(frames), int)

def none(frames, info):
    return None

def broken(frames, info):
    raise KeyError("no model")
"""


@pytest.fixture
def mine(tmp_path, tmp_run):
    """Collects with a function of a user's file in the current folder."""
    (tmp_path / "my_light.py").write_text(LIGHT)
    trust("my_light", "nowhere", "toy_world")

    def make(function, episodes=16, **explore):
        config = CollectConfig(
            episodes=episodes,
            max_steps=20,
            explore=ExploreConfig(policy=f"my_light:{function}", **explore),
        )
        env = EnvConfig(id="toy_world:Light-v0")
        collect(tmp_run, env, config, WorkersConfig(processes=1), 0)
        return [Episode.load(path) for path in episode_files(tmp_run.episodes)]

    return make


@pytest.fixture(autouse=True)
def own_trust(monkeypatch):
    """What a test trusts is forgotten after it."""
    monkeypatch.setenv(VARIABLE, "")


def test_a_function_that_nobody_trusts_is_not_imported(tmp_path, tmp_run):
    (tmp_path / "foreign.py").write_text("raise SystemExit('imported')")
    explore = ExploreConfig(policy="foreign:policy")
    with pytest.raises(InputError, match=r"collect\.explore\.policy is foreign:policy: it would"):
        collect(
            tmp_run,
            EnvConfig(id="CartPole-v1"),
            CollectConfig(episodes=2, explore=explore),
            WorkersConfig(processes=1),
            0,
        )


def test_a_users_function_collects(mine):
    assert {episode.rewards.sum() for episode in mine("follow", 2)} == {20.0}


def test_it_knows_where_episodes_start(mine):
    for episode in mine("late", 2):
        assert episode.actions.argmax(1).tolist() == [0] + [1] * 19


def test_it_shares_the_episodes_with_another_policy(mine):
    returns = np.array([episode.rewards.sum() for episode in mine("follow", 32, share=0.5)])
    assert 8 <= (returns == 20).sum() <= 24
    assert returns[returns < 20].mean() < 12


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_light:none", "my_light:none: .*actions have shape"),
        ("my_light:broken", "my_light:broken: KeyError: 'no model'"),
        ("my_light:missing", "my_light has no function missing"),
        ("nowhere:policy", "nowhere cannot be imported"),
        ("heldd", "is heldd: it must be one of random_network, held"),
    ],
)
def test_a_function_that_does_not_fit_is_named(mine, tmp_run, name, message):
    with pytest.raises(InputError, match=message):
        mine(name.removeprefix("my_light:"), 2) if name.startswith("my") else collect(
            tmp_run,
            EnvConfig(id="toy_world:Light-v0"),
            CollectConfig(episodes=2, explore=ExploreConfig(policy=name)),
            WorkersConfig(processes=1),
            0,
        )


def test_the_example_of_the_docs(tmp_path, tmp_run):
    pytest.importorskip("stable_baselines3")
    page = (Path(__file__).parents[2] / "docs/environments.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(# my_policies.py.*?)^```", page, re.M | re.S)
    file = tmp_path / "my_policies.py"
    file.write_text(re.sub(r"STEPS = .*", "STEPS = 1", code))
    trust("my_policies")
    runpy.run_path(str(file), run_name="__main__")
    explore = ExploreConfig(policy="my_policies:trained")
    config = CollectConfig(episodes=2, max_steps=5, explore=explore)
    collect(tmp_run, EnvConfig(id="CartPole-v1"), config, WorkersConfig(processes=1), 0)
    assert len(episode_files(tmp_run.episodes)) == 2


def found_by(run, **explore):
    """Episodes of FrozenLake that reach the goal, for each 1000 steps; and all files."""
    env = EnvConfig(id="FrozenLake-v1", kwargs={"is_slippery": False})
    policy = ExploreConfig(policy="held", hold=(1, 1), **explore)
    config = CollectConfig(episodes=320, max_steps=50, explore=policy)
    collect(run, env, config, WorkersConfig(processes=1), seed=0)
    files = episode_files(run.episodes)
    episodes = [Episode.load(path) for path in files]
    return 1000 * sum(e.rewards.sum() for e in episodes) / sum(map(len, episodes)), files


def test_going_back_finds_rare_rewards_many_times_more_often(tmp_run, tmp_path):
    plain, _ = found_by(Run(tmp_path / "plain"))
    often, files = found_by(tmp_run, go_back=0.8)
    assert 0 < plain < 5  # of 1000 steps
    assert often > 5 * plain
    seeds = [int(load_arrays(path)["seed"]) for path in files]
    assert len(set(seeds[:200])) == 200  # nothing was earned before
    assert len(set(seeds[200:])) < 60  # of 120: most begin where an earlier one did
    before = [path.read_bytes() for path in files]
    for path in files[200:210]:
        path.unlink()
    assert [path.read_bytes() for path in found_by(tmp_run, go_back=0.8)[1]] == before
