"""What C sees through in ablations."""

import torch

from worldmodels.models.controller import ControllerConfig
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.senses import senses_of
from worldmodels.models.vae import VAE, VAEConfig


def models():
    return VAE(VAEConfig(latent_size=3, width=1)), MDNRNN(MDNRNNConfig(hidden_size=4), 3, 1)


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
