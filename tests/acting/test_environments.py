"""Environments that a process keeps between jobs: nothing of one job reaches the next."""

import numpy as np
import pytest

from worldmodels.acting import environments
from worldmodels.acting.environments import close_kept, frame_env, real_envs
from worldmodels.envs.real import describe
from worldmodels.world import EnvConfig


@pytest.fixture(scope="module")
def world():
    return describe(EnvConfig(id="CartPole-v1", reward="constant", reward_per_frame=1.0))


@pytest.fixture(autouse=True)
def none_kept():
    close_kept()
    yield
    close_kept()


def test_they_are_kept_and_all_lanes_are_over(world):
    with real_envs(world, 2, drawing=False) as envs:
        envs.reset(seed=[1, 2])
        assert not envs.drawing
    with real_envs(world, 2) as again:
        assert again is envs
        assert again.drawing
        assert again.truncated.all()
        frames, _ = again.reset(seed=[1, 2])
        assert frames.any()


def test_a_job_inside_another_has_environments_of_its_own(world):
    with real_envs(world, 1) as one, real_envs(world, 1) as other:
        assert one is not other


def test_another_world_closes_them(world):
    with real_envs(world, 1) as envs:
        pass
    other = describe(EnvConfig(id="MountainCar-v0", reward="constant"))
    with real_envs(other, 1):
        assert envs.closed


def test_a_job_that_fails_takes_them_with_it(world):
    with pytest.raises(ZeroDivisionError), real_envs(world, 1) as envs:
        raise ZeroDivisionError
    assert envs.closed
    assert not environments._kept


def test_only_a_few_are_kept(world):
    made = []
    for lanes in range(1, 6):
        with real_envs(world, lanes) as envs:
            made.append(envs)
    assert [envs.closed for envs in made] == [True, True, False, False, False]


def test_frames_come_and_actions_a_go(world):
    with frame_env(world, 2) as env:
        env.reset(seed=[3, 3])
        left, right = np.eye(2, dtype=np.float32)
        frames, *_ = env.step(np.stack([left, right]))
        assert frames.shape == (2, 64, 64, 3)
        for _ in range(8):
            frames, *_ = env.step(np.stack([left, right]))
        assert (frames[0] != frames[1]).any()
