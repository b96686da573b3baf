"""stable-baselines3 learns in our dreams: the lanes are one batch, and PPO and DQN train."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

stable_baselines3 = pytest.importorskip("stable_baselines3")

from stable_baselines3.common.vec_env import VecMonitor  # noqa: E402

from worldmodels.artifacts import Bundle  # noqa: E402
from worldmodels.envs.sb3 import Lanes  # noqa: E402
from worldmodels.models.heads.build import mdnrnn_for  # noqa: E402

DREAM = "worldmodels/Dream-v0"
PPO_OPTIONS = {
    "n_steps": 64,
    "batch_size": 1024,
    "n_epochs": 4,
    "learning_rate": 3e-3,
    "seed": 0,
    "device": "cpu",
}


def test_lanes_are_dreams_that_begin_again_in_the_step_that_ends_them(tiny_bundle):
    lanes = Lanes(DREAM, 2, bundle=tiny_bundle, horizon=3)
    single = gymnasium.make(DREAM, bundle=tiny_bundle, horizon=3, actions="world")
    lanes.seed(5)
    seen, (one, _) = lanes.reset(), single.reset(seed=6)
    actions = np.random.default_rng(0).uniform(0, 1, (7, 2, 3)).astype(np.float32)
    for step, action in enumerate(actions):
        np.testing.assert_allclose(seen[1], one, rtol=1e-4, atol=1e-5)
        seen, rewards, over, infos = lanes.step(action)
        one, reward, _, truncated, _ = single.step(action[1])
        assert rewards[1] == pytest.approx(reward, rel=1e-4)
        assert over.tolist() == [truncated] * 2 == [step % 3 == 2] * 2
        if truncated:
            np.testing.assert_allclose(infos[1]["terminal_observation"], one, rtol=1e-4, atol=1e-5)
            assert infos[1]["TimeLimit.truncated"]
            one, _ = single.reset()
        else:
            assert infos == [{}, {}]


@pytest.fixture
def deadly_bundle(tiny_bundle):
    """A bundle whose M ends every dream at its first step."""
    bundle = Bundle.load(tiny_bundle)
    world = replace(bundle.world, config=replace(bundle.world.config, terminates=True))
    mdnrnn = mdnrnn_for(bundle.mdnrnn.config, world, 4)
    for parameter in mdnrnn.parameters():
        torch.nn.init.constant_(parameter, 0.0)
    with torch.no_grad():
        mdnrnn.head.bias[:] = 5.0
    replace(bundle, world=world, mdnrnn=mdnrnn).save(tiny_bundle)
    return tiny_bundle


def test_an_end_is_no_time_limit(deadly_bundle):
    lanes = Lanes(DREAM, 3, bundle=deadly_bundle)
    lanes.reset()
    _, _, over, infos = lanes.step(np.zeros((3, 3), np.float32))
    assert over.all()
    assert not any(info["TimeLimit.truncated"] for info in infos)


def learners():
    from stable_baselines3 import DQN, PPO

    small = {"device": "cpu", "seed": 0, "policy_kwargs": {"net_arch": [16]}}
    ppo = {"n_steps": 16, "batch_size": 64, "n_epochs": 2, **small}
    dqn = {"learning_starts": 64, "train_freq": 1, "batch_size": 32, "buffer_size": 2000, **small}
    return [pytest.param(PPO, ppo, id="PPO"), pytest.param(DQN, dqn, id="DQN")]


@pytest.mark.parametrize(("learner", "options"), learners())
def test_they_learn_in_the_shipped_dream(learner, options):
    env = VecMonitor(Lanes(DREAM, 16, bundle="take_cover", horizon=20))
    model = learner("MlpPolicy", env, **options)
    before = {name: part.clone() for name, part in model.policy.state_dict().items()}
    model.learn(16 * 16 * 3)
    after = model.policy.state_dict()
    assert any((after[name] != part).any() for name, part in before.items())
    assert all(part.isfinite().all() for part in after.values())
    lengths = [episode["l"] for episode in model.ep_info_buffer]
    returns = [episode["r"] for episode in model.ep_info_buffer]
    assert max(lengths) <= 20
    assert returns == [4.0 * length for length in lengths]  # a step of Doom is four tics
    choices, _ = model.predict(env.reset())
    assert set(choices.tolist()) <= {0, 1, 2}


def test_ppo_survives_longer_than_chance_in_the_shipped_dream():
    """In dreams with other noise than those of its training: at least 3.8 times (seeds 0, 1, 2)."""
    from stable_baselines3 import PPO

    env = VecMonitor(Lanes(DREAM, 64, bundle="take_cover"))
    model = PPO("MlpPolicy", env, **PPO_OPTIONS)
    model.learn(64 * 64 * 12)
    untrained = PPO("MlpPolicy", env, **PPO_OPTIONS)
    learned, random = (tics_survived(one) for one in (model, untrained))
    assert learned > 2 * random


def tics_survived(model):
    """Mean over 64 dreams that begin at other seeds than those of training."""
    lanes = Lanes(DREAM, 64, bundle="take_cover")
    lanes.seed(10_000)
    seen, tics, over = lanes.reset(), np.zeros(64), np.zeros(64, bool)
    while not over.all():
        choices, _ = model.predict(seen)
        seen, rewards, ended, _ = lanes.step(choices)
        tics += np.where(over, 0.0, rewards)
        over |= ended
    return tics.mean()
