"""Carry C over to a V and M that have learnt on, whose z and h mean other things."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from worldmodels.acting.environments import ModelFiles, models_of
from worldmodels.artifacts import load_controller
from worldmodels.data.dataset import latent_source
from worldmodels.data.episode import LatentEpisode
from worldmodels.envs.senses import senses_of
from worldmodels.models.controller import LATENT_BOUND, Controller, ControllerConfig, features
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.run import Run

EPISODES = 100
"""Recorded episodes on which C's outputs are compared."""
RIDGE = 1.0
"""λ, in units of the features' mean square: draws the weights towards the old ones, which hold
where the episodes say nothing."""


@torch.inference_mode()
def carried_over(old: Run, new: Run, controller: Controller) -> Float64[np.ndarray, " N"]:
    """The best parameters of a run, for the V and M of a later one.

    Ridge regression of the first layer: over episodes that both runs have encoded, W and b minimise
    |X W + b - Y|² + λ |W - W_old|² (and the same for b), with the new features X, and Y, what the
    old first layer computes from the old features.

    Args:
        old: has V, M, C and latents.
        new: a later round of the same experiment, with V, M and latents.
        controller: the C of both.
    """
    paths = sorted(set(latent_source(old).chunk(0, "carry over", 0, EPISODES)))
    before = _features(old, paths, controller)
    after = _features(new, [new.latents / path.name for path in paths], controller)
    parameters = load_controller(old).best.double()
    weight, bias = controller.weights(parameters[None])[0]
    missing = (before - after) @ weight[0].T
    X = after if bias is None else functional.pad(after, (0, 1), value=1.0)
    pull = RIDGE * X.square().mean() * len(X) * torch.eye(X.shape[1], dtype=X.dtype)
    change = torch.linalg.solve(X.T @ X + pull, X.T @ missing)
    weight += change[: after.shape[1]].T
    if bias is not None:
        bias += change[-1]
    return parameters.numpy()


def _features(run: Run, paths: Sequence[Path], controller: Controller) -> Float[Tensor, "N F"]:
    """What C sees at each step of some episodes."""
    config = controller.config
    _, mdnrnn = senses_of(config, *models_of(ModelFiles.of_run(run)))
    seen = [_seen(mdnrnn, LatentEpisode.load(path), config) for path in paths]
    return torch.cat(seen).double()


def _seen(mdnrnn: MDNRNN, episode: LatentEpisode, config: ControllerConfig) -> Float[Tensor, "T F"]:
    mu = torch.from_numpy(episode.mu[: len(episode)]).float().clamp(-LATENT_BOUND, LATENT_BOUND)
    mu = torch.zeros_like(mu) if config.senses == "blind" else mu
    actions, state, seen = torch.from_numpy(episode.actions), mdnrnn.initial_state(1), []
    for step, z in enumerate(mu[:, None]):
        seen.append(features(mdnrnn, z, *state, config.inputs))
        first = torch.full((1,), float(step == 0))
        state = mdnrnn.step(z, actions[step : step + 1], first, state)
    return torch.cat(seen)
