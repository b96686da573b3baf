"""The V and M whose z, h and c the controller sees: the trained ones, or others in ablations."""

from __future__ import annotations

import copy

import torch

from worldmodels.models.controller import ControllerConfig
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE


def senses_of(config: ControllerConfig, vae: VAE, mdnrnn: MDNRNN) -> tuple[VAE, MDNRNN]:
    """The V and M whose z, h and c the controller sees.

    Args:
        config: `senses` chooses them.
        vae: the trained V.
        mdnrnn: the trained M. Dreams are always its own.
    """
    if config.senses == "untrained":
        return vae, _untrained(mdnrnn)
    return (_blind(vae) if config.senses == "blind" else vae), mdnrnn


def _untrained(mdnrnn: MDNRNN) -> MDNRNN:
    """An M of the same sizes with random weights, the same ones at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = MDNRNN(mdnrnn.config, mdnrnn.latent_size, mdnrnn.action_size, mdnrnn.heads)
    return fresh.eval().requires_grad_(False)


def _blind(vae: VAE) -> VAE:
    """A V whose z is 0, the prior's mean, for every picture."""
    blind = copy.deepcopy(vae)
    with torch.no_grad():
        blind.posterior.weight.zero_()
        blind.posterior.bias.zero_()
    return blind
