"""What C sees through in ablations. A dream seen through another M is the same dream."""

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from worldmodels.data.starts import Starts
from worldmodels.envs.dream import DreamConfig, DreamEnv, warm
from worldmodels.envs.senses import SensedDream, senses_of
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.world import EnvConfig, RawPicture, World

ACTIONS = Actions("box", (-1.0,), (1.0,)).to_dict()


def worlds(blind):
    torch.manual_seed(0)
    dreamt, senses = (MDNRNN(MDNRNNConfig(hidden_size=8), 3, 1) for _ in range(2))
    starts = Starts(torch.randn(5, 4, 3), torch.rand(5, 4, 1), torch.zeros(5))
    world = World(EnvConfig(reward="constant"), ACTIONS, 30.0, {}, RawPicture((64, 64, 3)))
    fixed = starts, world, DreamConfig(), 6
    options = {"inputs": "zch", "autoreset_mode": AutoresetMode.DISABLED}
    plain = DreamEnv(dreamt, *fixed, **options)
    return plain, SensedDream(dreamt, *fixed, **options, senses=senses, blind=blind), senses, starts


def follow(blind):
    """Both dreams under the same actions, and the other M's state worked out by hand."""
    plain, sensed, senses, starts = worlds(blind)
    env_seeds = [3, 4, 5, 6, 7, 8]
    z = plain.reset(seed=env_seeds)[0][:, :3]
    seen = sensed.reset(seed=env_seeds)[0]
    windows = [plain._start_of((seed, 0)) for seed in env_seeds]
    mu = torch.zeros_like(starts.mu) if blind else starts.mu
    _, h, c, _ = warm(senses, Starts(mu, starts.actions, starts.first))
    h, c = h[windows], c[windows]
    for step in range(5):
        action = np.full((6, 1), 0.1 * step, np.float32)
        fed = torch.zeros(6, 3) if blind else torch.from_numpy(z)
        h, c = senses.step(fed, torch.from_numpy(action), torch.zeros(6), (h, c))
        z, seen = plain.step(action)[0][:, :3], sensed.step(action)[0]
        assert (sensed.state.z.numpy() == z).all()
        yield z, seen, torch.cat([c, h], 1).detach().numpy()


def test_the_dream_is_the_same_and_the_state_the_others(float32):
    for z, seen, state in follow(blind=False):
        assert (seen[:, :3] == z).all()
        np.testing.assert_allclose(seen[:, 3:], state, atol=1e-5)


def test_the_blind_see_their_own_actions_alone(float32):
    for _, seen, state in follow(blind=True):
        assert not seen[:, :3].any()
        np.testing.assert_allclose(seen[:, 3:], state, atol=1e-5)


def models():
    return VAE(VAEConfig(latent_size=3, width=4)), MDNRNN(MDNRNNConfig(hidden_size=4), 3, 1)


def test_the_blind_see_nothing_and_the_untrained_always_the_same():
    vae, mdnrnn = models()
    assert senses_of(ControllerConfig(), vae, mdnrnn) == (vae, mdnrnn)
    blind, same = senses_of(ControllerConfig(senses="blind"), vae, mdnrnn)
    assert same is mdnrnn
    frames = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8)
    assert not blind.encode(frames)[0].any()
    assert vae.encode(frames)[0].any()
    config = ControllerConfig(senses="untrained")
    (seen, one), (_, other) = senses_of(config, vae, mdnrnn), senses_of(config, vae, mdnrnn)
    assert seen is vae
    assert not torch.equal(one.head.weight, mdnrnn.head.weight)
    assert torch.equal(one.head.weight, other.head.weight)
