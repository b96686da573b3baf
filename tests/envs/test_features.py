"""Reality through V and M: z is mu, h has seen all before, actions mean the same to all."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodels.artifacts import Bundle
from worldmodels.envs.features import FeatureEnv
from worldmodels.errors import InputError
from worldmodels.models.action import Actions

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 2, 64, 64, 3), np.uint8)


class Film(VectorEnv):
    """Shows FRAMES whatever is done, and keeps what it was told."""

    def __init__(self, space):
        self.num_envs, self.told = 2, []
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.single_action_space, self.action_space = space, batch_space(space, 2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return FRAMES[0], {}

    def step(self, actions):
        self.told.append(actions)
        self.t += 1
        return FRAMES[self.t], np.zeros(2), np.zeros(2, bool), np.zeros(2, bool), {}


def test_features_are_mu_and_a_memory_of_all_before(tiny_bundle, float32):
    bundle = Bundle.load(tiny_bundle)
    space = gymnasium.spaces.Box(np.float32([-1, 0, 0]), np.float32([1, 1, 1]))
    models = bundle.vae, bundle.mdnrnn, bundle.actions
    env = FeatureEnv(Film(space), *models, "zch")
    seen = [env.reset(seed=0)[0]]
    actions = np.random.default_rng(1).uniform(0, 1, (4, 2, 3)).astype(np.float32)
    seen += [env.step(a)[0] for a in actions]
    flat = torch.from_numpy(FRAMES.reshape(10, 64, 64, 3))
    mu = bundle.vae.encode(flat)[0].view(5, 2, 4).transpose(0, 1)
    taken = torch.from_numpy(actions).transpose(0, 1)
    for t in range(5):
        h = c = torch.zeros(2, 8)
        if t:
            _, (h, c) = bundle.mdnrnn(mu[:, :t], taken[:, :t], torch.zeros(2, t))
        expected = torch.cat([mu[:, t], c, h], 1)
        torch.testing.assert_close(torch.from_numpy(seen[t]), expected, rtol=1e-4, atol=1e-5)


def test_m_and_the_world_read_an_action_alike(tiny_bundle):
    """Any vector of the exposed space stands for its argmax, for M too."""
    bundle = Bundle.load(tiny_bundle)
    actions = Actions.of_space(gymnasium.spaces.Discrete(3))
    seen = []
    for action in ([0.2, 0.9, 0.3], [0.0, 1.0, 0.0]):
        film = Film(gymnasium.spaces.Discrete(3))
        env = FeatureEnv(film, bundle.vae, bundle.mdnrnn, actions, "zh")
        env.reset(seed=0)
        seen.append(env.step(np.float32([action, action]))[0])
        assert film.told[0].tolist() == [1, 1]
    np.testing.assert_array_equal(*seen)


def test_frozen_lanes_are_neither_seen_nor_remembered(tiny_bundle, monkeypatch):
    bundle = Bundle.load(tiny_bundle)
    film = Film(gymnasium.spaces.Discrete(3))
    actions = Actions.of_space(film.single_action_space)
    env = FeatureEnv(film, bundle.vae, bundle.mdnrnn, actions, "zh")
    env.reset(seed=0)
    over = np.array([True, False])
    monkeypatch.setattr(film, "step", lambda _: (FRAMES[1], np.zeros(2), over, ~over & over, {}))
    counts = []
    encode = bundle.vae.encode
    monkeypatch.setattr(bundle.vae, "encode", lambda f: counts.append(len(f)) or encode(f))
    first, second = (env.step(np.float32([[1, 0, 0]] * 2))[0] for _ in range(2))
    assert counts == [2, 1]
    np.testing.assert_array_equal(first[0], second[0])
    assert np.abs(first[1] - second[1]).max() > 1e-3


@pytest.mark.parametrize(
    "frames",
    [FRAMES[0, :, :, :, :1], FRAMES[0] / np.float32(255), FRAMES[0, :1], FRAMES[0, :, :32]],
    ids=lambda frames: f"{frames.dtype} {frames.shape}",
)
def test_an_environment_of_other_frames_is_refused(tiny_bundle, monkeypatch, frames):
    bundle, film = Bundle.load(tiny_bundle), Film(gymnasium.spaces.Discrete(3))
    actions = Actions.of_space(film.single_action_space)
    env = FeatureEnv(film, bundle.vae, bundle.mdnrnn, actions, "zh")
    monkeypatch.setattr(film, "reset", lambda **_: (frames, {}))
    with pytest.raises(InputError, match=r"V sees uint8 \(2, 64, 64, 3\)"):
        env.reset(seed=0)
