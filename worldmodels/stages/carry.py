"""Fit C to another V and M, whose z and h have other meanings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional

from worldmodels.acting.environments import ModelFiles, models_of
from worldmodels.artifacts import Bundle, controller_file, load_controller
from worldmodels.data.dataset import latent_source
from worldmodels.data.episode import Episode, LatentEpisode
from worldmodels.envs.senses import senses_of
from worldmodels.errors import InputError
from worldmodels.models.controller import (
    LATENT_BOUND,
    Controller,
    ControllerConfig,
    controller_for,
    features,
)
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.run import Run

EPISODES = 100
"""Recorded episodes on which C's outputs are compared."""
BATCH = 256
"""Frames that V encodes at once."""
RIDGE = 0.1
"""λ, in units of the features' mean square: draws the weights towards the old ones, which hold
where the episodes say nothing."""


@torch.inference_mode()
def carried_over(old: Run, new: Run, controller: Controller) -> Float64[np.ndarray, " N"]:
    """The best parameters of a run, for the V and M of a later one.

    Args:
        old: has V, M, C and latents.
        new: a later round of the same experiment, with V, M and latents.
        controller: the C of both.
    """
    paths = sorted(set(latent_source(old).chunk(0, "carry over", 0, EPISODES)))
    before = _features(old, paths, controller)
    after = _features(new, [new.latents / path.name for path in paths], controller)
    best = load_controller(old).best.double()
    return _fitted(controller, best, before, controller, after)


@torch.inference_mode()
def carried_from(name: str, new: Run, controller: Controller) -> Float64[np.ndarray, " N"]:
    """The parameters of another experiment's C, for the V and M of a run.

    They are the same where V, M and what C sees of them are; else they are fitted on the run's
    episodes, which the other V encodes again.

    Args:
        name: a run with a controller, or a bundle, shipped or not.
        new: has V, M, episodes and their latents.
        controller: the new C.

    Raises:
        InputError: there is no such controller, or it has other outputs or hidden units.
    """
    vae, mdnrnn, giver, parameters = _giver(name)
    if [size for size, _ in giver.sizes] != [size for size, _ in controller.sizes]:
        raise InputError(
            f"evolve.start_from: the controller of {name} has layers of "
            f"{[size for size, _ in giver.sizes]} outputs, but this one of "
            f"{[size for size, _ in controller.sizes]}: start from one with the same actions and "
            "controller.hidden_size"
        )
    own = models_of(ModelFiles.of_run(new))
    same = all(_equal(one, other) for one, other in zip((vae, mdnrnn), own, strict=True))
    if same and giver.config == controller.config:
        return parameters.numpy()
    paths = sorted(set(latent_source(new).chunk(0, "carry over", 0, EPISODES)))
    episodes = {
        path.name: path for one in (*new.earlier, new) for path in one.episodes.glob("*.npz")
    }
    if missing := [path.name for path in paths if path.name not in episodes]:
        raise InputError(
            f"evolve.start_from: {new.episodes / missing[0]} is missing, and another V has to see "
            "its frames"
        )
    senses = senses_of(giver.config, vae, mdnrnn)
    before = torch.cat(
        [
            _seen(senses[1], *_encoded(vae, Episode.load(episodes[path.name])), giver.config)
            for path in paths
        ]
    ).double()
    return _fitted(giver, parameters, before, controller, _features(new, paths, controller))


def _giver(name: str) -> tuple[VAE, MDNRNN, Controller, Float64[Tensor, " N"]]:
    """V, M and C of a run or of a bundle."""
    run = Run(name)
    if controller_file(run) is None:
        bundle = Bundle.load(name)
        return bundle.vae, bundle.mdnrnn, bundle.controller, bundle.parameters.double()
    vae, mdnrnn = models_of(ModelFiles.of_run(run))
    saved = load_controller(run)
    return vae, mdnrnn, controller_for(saved.config, mdnrnn), saved.best.double()


def _equal(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(
        mine[key].shape == theirs[key].shape and bool((mine[key] == theirs[key]).all())
        for key in mine
    )


def _encoded(vae: VAE, episode: Episode) -> tuple[Float[Tensor, "T Z"], Float[Tensor, "T A"]]:
    frames = torch.from_numpy(episode.frames[: len(episode)])
    mu = torch.cat([vae.encode(batch)[0] for batch in frames.split(BATCH)])
    return mu, torch.from_numpy(episode.actions)


def _fitted(
    old: Controller,
    parameters: Float64[Tensor, " N"],
    before: Float64[Tensor, "S F"],
    new: Controller,
    after: Float64[Tensor, "S G"],
) -> Float64[np.ndarray, " M"]:
    """Ridge regression of the first layer; the second stays.

    W and b minimise |X W + b - Y|² + λ |W - W_old|² (and the same for b), with the new features X,
    and Y, what the old first layer computes from the old features. Where features differ in
    number, W_old is 0.
    """
    fitted = torch.zeros(new.num_parameters, dtype=torch.float64)
    theirs, mine = old.weights(parameters[None].clone()), new.weights(fitted[None])
    alike = old.config.inputs == new.config.inputs and before.shape[1] == after.shape[1]
    for layer, ((weight, bias), (target, shift)) in enumerate(zip(theirs, mine, strict=True)):
        if layer or alike:
            target += weight
        if bias is not None and shift is not None:
            shift += bias
    X = after if mine[0][1] is None else functional.pad(after, (0, 1), value=1.0)
    missing = _linear(before, *theirs[0]) - _linear(after, *mine[0])
    pull = RIDGE * X.square().mean() * len(X) * torch.eye(X.shape[1], dtype=X.dtype)
    change = torch.linalg.solve(X.T @ X + pull, X.T @ missing)
    mine[0][0][0] += change[: after.shape[1]].T
    if mine[0][1] is not None:
        mine[0][1][0, 0] += change[-1]
    return fitted.numpy()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    outputs = x @ weight[0].T
    return outputs if bias is None else outputs + bias[0]


def _features(run: Run, paths: Sequence[Path], controller: Controller) -> Float[Tensor, "N F"]:
    """What C sees at each step of some episodes."""
    config = controller.config
    _, mdnrnn = senses_of(config, *models_of(ModelFiles.of_run(run)))
    seen = []
    for path in paths:
        episode = LatentEpisode.load(path)
        mu = torch.from_numpy(episode.mu[: len(episode)]).float()
        seen.append(_seen(mdnrnn, mu, torch.from_numpy(episode.actions), config))
    return torch.cat(seen).double()


def _seen(
    mdnrnn: MDNRNN,
    mu: Float[Tensor, "T Z"],
    actions: Float[Tensor, "T A"],
    config: ControllerConfig,
) -> Float[Tensor, "T F"]:
    mu = torch.zeros_like(mu) if config.senses == "blind" else mu
    state, seen = mdnrnn.initial_state(1), []
    for step, z in enumerate(mu.clamp(-LATENT_BOUND, LATENT_BOUND)[:, None]):
        seen.append(features(mdnrnn, z, *state, config.inputs))
        first = torch.full((1,), float(step == 0))
        state = mdnrnn.step(z, actions[step : step + 1], first, state)
    return torch.cat(seen)
