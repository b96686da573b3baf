"""The same policies in dream and reality: what they do, and how reality gets to a moment."""

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from worldmodels.acting.environments import FrameEnv, ModelFiles
from worldmodels.acting.policies import Baseline
from worldmodels.acting.rollout import record
from worldmodels.data.episode import Episode
from worldmodels.diagnostics.side_by_side import (
    Controlled,
    Replay,
    _real_job,
    begin,
    follow,
    go_to,
    is_repeatable,
    open_loop_policies,
)
from worldmodels.envs.real import RealEnvs, describe
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, ControllerConfig
from worldmodels.seeding import numpy_generator
from worldmodels.stages.explore import ExploreConfig, Explorer
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig, RawPicture, World

HERE = WorkersConfig(processes=1)
RANDOM = ExploreConfig(policy="held", hold=(1, 1))
SEEDS = [3, 4, 5]
LENGTHS = [4, 0, 7]
DOOM = Actions("thirds", (-1.0,), (1.0,))
CAR = Actions("box", (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0), clip=(2,))
NOTHING, LIVE = np.zeros((2, 3), np.float32), np.ones(2, bool)


def generators(lanes=2):
    return [numpy_generator(0, lane) for lane in range(lanes)]


def names(env, actions, explore="held"):
    world = World(env, actions.to_dict(), 30.0, {}, RawPicture((64, 64, 3)))
    return list(open_loop_policies(world, ExploreConfig(policy=explore)))


def test_which_policies_are_compared_in_which_world():
    assert names(EnvConfig(id="CartPole-v1"), Actions("discrete", counts=(2,))) == [
        "random",
        "explorer",
    ]
    assert names(EnvConfig(id="VizdoomTakeCover-v1"), DOOM) == ["random", "explorer", "sweep"]
    assert names(EnvConfig(), CAR, "random_network") == ["random", "constant"]


@pytest.mark.parametrize("repeat", [1, 4])
def test_a_sweep_keeps_the_worlds_time(repeat):
    """Half a period of 16 frames to the left, which is -1, half to the right."""
    act = begin(Baseline("sweep", "sweep", 16), DOOM, generators(), repeat)
    steps = np.stack([act(NOTHING, LIVE) for _ in range(32 // repeat)])
    assert steps.shape == (32 // repeat, 2, 1)
    half = 8 // repeat
    np.testing.assert_array_equal(steps[:, 0, 0], np.tile(np.repeat([-1.0, 1.0], half), 2))
    own = DOOM.to_environment(steps[:, 0])
    assert own.tolist() == ([2] * half + [1] * half) * 2


def test_a_constant_action_is_given_as_it_is():
    act = begin(Baseline("constant", "constant", [-0.25, 0.5, 0.0]), CAR, generators(), 4)
    np.testing.assert_array_equal(act(NOTHING, LIVE), [[-0.25, 0.5, 0.0]] * 2)


def test_random_actions_are_sampled_at_every_step_for_every_lane():
    act = begin(RANDOM, DOOM, generators(), 1)
    sampled = np.stack([act(NOTHING, LIVE) for _ in range(50)])[..., 0]
    assert len(np.unique(sampled)) == 100
    again = begin(RANDOM, DOOM, generators(1), 1)
    assert again(NOTHING[:1], LIVE[:1])[0, 0] == sampled[0, 0]


def test_a_controller_looks():
    controller = Controller(ControllerConfig(), 1, 2, 1)
    act = begin(Controlled(controller, np.array([1.0, 0, 0, 0])), DOOM, generators(), 1)
    seen = np.array([[0.5, 0, 0], [-2.0, 0, 0]], np.float32)
    np.testing.assert_allclose(act(seen, LIVE)[:, 0], torch.tanh(torch.tensor([0.5, -2.0])))


class Ending(VectorEnv):
    """Lane i terminates after ends[i] steps, or is truncated after cut; it pays its action."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

    def __init__(self, ends, cut=99):
        self.num_envs, self.ends, self.cut, self.now = len(ends), np.array(ends), cut, 0

    def step(self, actions):
        self.now += 1
        observations = np.full((self.num_envs, 1), self.now)
        flags = self.now >= self.ends, np.full(self.num_envs, self.now >= self.cut)
        return observations, actions[:, 0].astype(float), *flags, {}


def test_lanes_are_followed_to_their_ends():
    found = follow(Ending([2, 9, 4]), np.zeros((3, 1)), lambda o, _: np.float32(1.0 + o), 5)
    assert found.lengths.tolist() == [2, 5, 4]
    assert found.terminated.tolist() == [True, False, True]
    assert not found.truncated.any()
    assert found.rewards.sum(axis=1).tolist() == [3, 15, 10]


@pytest.fixture(scope="module")
def world():
    return describe(EnvConfig(id="CartPole-v1", reward="constant", reward_per_frame=1.0))


@pytest.fixture(scope="module")
def envs(world):
    envs = RealEnvs(world, 3, autoreset_mode=AutoresetMode.DISABLED)
    yield FrameEnv(envs)
    envs.close()


@pytest.fixture(scope="module")
def episodes(envs):
    generators = [numpy_generator(0, i) for i in range(3)]
    explorer = Explorer(RANDOM, envs.actions, generators)
    return record(envs, explorer, SEEDS, 8)


def test_a_repeatable_world(world, episodes, tmp_path):
    file = tmp_path / "00_000000.npz"
    episodes[1].save(file)
    assert is_repeatable(world, file, SEEDS[1], HERE)
    assert not is_repeatable(world, file, SEEDS[0], HERE)
    other = episodes[1].frames.copy()
    other[5, 0, 0, 0] ^= 1
    rest = {name: getattr(episodes[1], name) for name in Episode._names()[1:]}
    Episode(other, **rest).save(file)
    assert not is_repeatable(world, file, SEEDS[1], HERE)


def test_all_lanes_arrive_at_the_same_step(envs, episodes):
    envs.envs.retire(np.ones(3, bool))
    actions = [e.actions[:n] for e, n in zip(episodes, LENGTHS, strict=True)]
    frames = go_to(envs, SEEDS, actions)
    for lane, (episode, length) in enumerate(zip(episodes, LENGTHS, strict=True)):
        np.testing.assert_array_equal(frames[lane], episode.frames[length])


def test_a_policy_takes_over(world, episodes, tmp_path):
    replays = [
        Replay(seed, episode.actions[:length], i)
        for i, (seed, episode, length) in enumerate(zip(SEEDS, episodes, LENGTHS, strict=True))
    ]
    fixed = replays, 30, 0
    models = ModelFiles(str(tmp_path), "run", ())
    left = _real_job(world, models, "left", Baseline("left", "constant", 0), *fixed)
    assert left.terminated.all()
    assert left.lengths.max() < 15
    np.testing.assert_array_equal(left.rewards.sum(axis=1), left.lengths)
    random = _real_job(world, models, "random", RANDOM, *fixed)
    assert (random.lengths > left.lengths).any()
    again = _real_job(world, models, "random", RANDOM, *fixed)
    np.testing.assert_array_equal(random.lengths, again.lengths)
