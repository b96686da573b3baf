"""The products alone do the arithmetic of the layers, no more and no less."""

import pytest
import torch
from benchmark.bounds import (
    forward_products,
    mdnrnn_products,
    training_products,
    vae_products,
)
from benchmark.training import untrained_mdnrnn
from benchmark.untrained import CAR_RACING
from torch.utils.flop_counter import FlopCounterMode

from worldmodels.models.vae import VAE, VAEConfig


def flops(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def test_of_v():
    """The counter's numbers of a convolution are those of its product."""
    vae, frames = VAE(VAEConfig(latent_size=4, width=8)), torch.rand(3, 3, 64, 64)
    encoder, decoder = vae_products(vae, 3)

    def decoded():
        return torch.nn.Sequential(vae.decoder_input, *vae.decoder)(torch.zeros(3, 4))

    assert flops(lambda: vae.posterior(vae.encoder(frames))) == flops(forward_products(encoder, 1))
    assert flops(decoded) == flops(forward_products(decoder, 1))
    both = [*encoder, *decoder]
    one, first = flops(forward_products(both, 1)), flops(forward_products(encoder[:1], 1))
    assert flops(training_products(both, 1)) == 3 * one - first


def test_of_m():
    mdnrnn = untrained_mdnrnn(CAR_RACING)
    products = mdnrnn_products(mdnrnn, 2, 5)
    hidden, outs = mdnrnn.config.hidden_size, mdnrnn.head.out_features
    inputs = 2 * 2 * 5 * mdnrnn.lstm.input_size * 4 * hidden
    rest = 2 * 2 * 5 * (hidden * 4 * hidden + hidden * outs)
    assert flops(forward_products(products, 1)) == inputs + rest
    assert flops(training_products(products, 1)) == 2 * inputs + 3 * rest
    assert training_products(products, 7)() == pytest.approx(7)
