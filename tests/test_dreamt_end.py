"""The head for the end of dreams: it learns when the recorded episodes ended."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.data.starts import WINDOW, draw_starts
from worldmodels.dreamt_end import DreamtEndConfig, learn_dreamt_end
from worldmodels.envs.dream import DreamConfig, DreamEnv
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.models.mdnrnn import MDNRNN, Heads, MDNRNNConfig
from worldmodels.run import Metrics
from worldmodels.world import EnvConfig

DISABLED = AutoresetMode.DISABLED
HAZARDS = {0.0: 0.02, 1.0: 0.06}
"""Of each action, held for a whole episode."""
MODEL = MDNRNNConfig(hidden_size=16, num_mixtures=2, termination_head="world", dreamt_end=True)
CONFIG = DreamtEndConfig(starts=1500, steps=20, batches=1500, batch_size=1024, learning_rate=0.02)


@pytest.fixture
def mdnrnn():
    torch.manual_seed(0)
    mdnrnn = MDNRNN(MODEL, 2, 1, Heads(termination=True)).requires_grad_(False)
    for parameter in mdnrnn.parameters():
        parameter.mul_(3)  # lively
    mdnrnn.head.bias[-1] = -6.0
    return mdnrnn


def save(path, steps, action, terminated=True):
    ends = np.arange(steps) == steps - 1
    zeros, mu = np.zeros(steps, np.float32), np.zeros((steps, 2), np.float16)
    actions = np.full((steps, 1), action, np.float32)
    flags = ends & terminated, ends & (not terminated), ends
    LatentEpisode(mu, mu, actions, zeros, zeros, *flags).save(path)
    return path


@pytest.fixture
def source(tmp_path):
    """A first round that dies at random, and a second in which nobody does."""
    generator, old = np.random.default_rng(0), []
    for number in range(1200):
        action = float(number % 4 > 0)
        steps = generator.geometric(HAZARDS[action])
        old.append(save(tmp_path / f"00_{number:06}.npz", steps, action))
    return EpisodeSource([save(tmp_path / "01_000000.npz", 400, 1.0, False)], old)


def test_dreams_end_as_often_as_the_recorded_episodes_of_the_first_round(mdnrnn, source, tmp_run):
    before = {name: value.clone() for name, value in mdnrnn.state_dict().items()}
    with Metrics(tmp_run, "train_mdnrnn") as metrics:
        learn_dreamt_end(mdnrnn, source, CONFIG, 0, metrics)
    after = mdnrnn.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"dreamt_end.weight", "dreamt_end.bias"}
    world = EnvConfig(reward="constant", reward_per_frame=1.0)
    starts = draw_starts(source, kind="moments", count=200, window=WINDOW, seed=0)
    config = DreamConfig(termination="sampled", horizon=100)
    actions = Actions("box", (-1.0,), (1.0,))
    lanes = 2000
    for action, hazard in HAZARDS.items():
        env = DreamEnv(mdnrnn, starts, actions, world, config, lanes, autoreset_mode=DISABLED)
        env.reset(seed=0)
        for _ in range(20):
            env.step(np.full((lanes, 1), action, np.float32))
        assert 1 - env.terminated.mean() == pytest.approx((1 - hazard) ** 20, abs=0.1)


def test_the_same_seed_learns_the_same(mdnrnn, source, tmp_run):
    learnt = []
    for seed in (0, 0, 1):
        with Metrics(tmp_run, "train_mdnrnn") as metrics:
            learn_dreamt_end(mdnrnn, source, replace(CONFIG, batches=5), seed, metrics)
        learnt.append(mdnrnn.dreamt_end.weight.clone())
    assert torch.equal(learnt[0], learnt[1])
    assert not torch.equal(learnt[0], learnt[2])


def test_episodes_that_are_too_short_are_named(mdnrnn, tmp_path, tmp_run):
    short = EpisodeSource([save(tmp_path / "00_000000.npz", WINDOW - 1, 0.0)])
    with (
        Metrics(tmp_run, "train_mdnrnn") as metrics,
        pytest.raises(InputError, match=r"mdnrnn\.dreamt_end"),
    ):
        learn_dreamt_end(mdnrnn, short, CONFIG, 0, metrics)
