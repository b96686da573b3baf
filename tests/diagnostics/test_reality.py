"""Reality comes back to a recorded moment, to the last bit, or says that it can't."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from worldmodels.acting.evaluate import ModelFiles
from worldmodels.acting.policies import ExploreConfig, Explorer
from worldmodels.acting.rollout import record
from worldmodels.data.episode import Episode
from worldmodels.diagnostics.policies import Blind, Exploring
from worldmodels.diagnostics.reality import Replay, find_seeds, follow_in_reality, go_to
from worldmodels.envs.real import RealEnvs, describe
from worldmodels.models.action import Actions
from worldmodels.seeding import numpy_generator, recorded_seed
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig

HERE = WorkersConfig(processes=1)
ATTEMPTS = [0, 2, 1]
LENGTHS = [4, 0, 7]


@pytest.fixture(scope="module")
def world():
    return describe(EnvConfig(id="CartPole-v1", reward="constant", reward_per_frame=1.0))


@pytest.fixture(scope="module")
def envs(world):
    envs = RealEnvs(world, 3, autoreset_mode=AutoresetMode.DISABLED)
    yield envs
    envs.close()


@pytest.fixture(scope="module")
def actions(world):
    return Actions.from_dict(world.action)


@pytest.fixture(scope="module")
def episodes(envs, actions):
    """Three episodes of round 4, each kept at another attempt."""
    seeds = [recorded_seed(3, 4, i, attempt) for i, attempt in enumerate(ATTEMPTS)]
    generators = [numpy_generator(0, i) for i in range(3)]
    drive = Explorer(ExploreConfig(policy="uniform"), actions, generators)
    return seeds, record(envs, drive, actions.to_environment, seeds, 8, True)


@pytest.fixture
def files(episodes, tmp_path):
    paths = [tmp_path / f"04_00000{i}.npz" for i in range(3)]
    for path, episode in zip(paths, episodes[1], strict=True):
        episode.save(path)
    return paths


def test_the_seed_is_found_whatever_the_attempt(world, files, episodes):
    assert find_seeds(world, files, 3, HERE) == episodes[0]
    assert find_seeds(world, files[:1], 4, HERE) == [None]  # another run's


def test_frames_that_no_replay_gives(world, files, episodes):
    other = episodes[1][1].frames.copy()
    other[5, 0, 0, 0] ^= 1
    rest = {name: getattr(episodes[1][1], name) for name in Episode._names()[1:]}
    Episode(other, **rest).save(files[1])
    assert find_seeds(world, files, 3, HERE) == [episodes[0][0], None, episodes[0][2]]


def test_all_lanes_arrive_at_the_same_step(envs, actions, episodes):
    seeds, recorded = episodes
    envs.retire(np.ones(3, bool))
    own = [actions.to_environment(e.actions[:n]) for e, n in zip(recorded, LENGTHS, strict=True)]
    frames, live = go_to(envs, seeds, own)
    assert live.all()
    for lane, (episode, length) in enumerate(zip(recorded, LENGTHS, strict=True)):
        np.testing.assert_array_equal(frames[lane], episode.frames[length])


def test_an_episode_that_ends_on_the_way_is_not_live(envs, actions):
    envs.retire(np.ones(3, bool))
    left = np.zeros(40, np.int64)  # falls within 10 or so
    _, live = go_to(envs, [1, 2, 3], [left, left[:2], left[:0]])
    assert live.tolist() == [False, True, True]


def test_a_policy_takes_over(world, episodes, tmp_path):
    seeds, recorded = episodes
    replays = [
        Replay(seed, episode.actions[:length], (i,))
        for i, (seed, episode, length) in enumerate(zip(seeds, recorded, LENGTHS, strict=True))
    ]
    fixed = replays, 30, 0, HERE
    senses = ModelFiles(str(tmp_path), "run", ())
    course = follow_in_reality(world, senses, Blind("left", "constant", 0), *fixed)
    assert course.terminated.all()
    assert course.lengths.max() < 15
    np.testing.assert_array_equal(course.rewards.sum(axis=1), course.lengths)
    random = follow_in_reality(world, senses, Exploring(), *fixed)
    assert (random.lengths > course.lengths).any()
    again = follow_in_reality(world, senses, Exploring(), *fixed)
    np.testing.assert_array_equal(random.lengths, again.lengths)
