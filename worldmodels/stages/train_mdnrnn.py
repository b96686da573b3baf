"""Train M on sequences of latents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from worldmodels.artifacts import check_latents, load_mdnrnn, load_vae, load_world, save_mdnrnn
from worldmodels.data.dataset import (
    EpisodeSource,
    SequenceBatch,
    latent_source,
    sequence_batches,
)
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.models.masking import masked, masked_mean
from worldmodels.models.mdnrnn import MDNRNN, Heads, MDNRNNConfig
from worldmodels.models.mdnrnn_losses import reward_nll, risk_loss, termination_loss
from worldmodels.models.mixture import mixture_loss
from worldmodels.precision import name_of, product_dtype
from worldmodels.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from worldmodels.run import Metrics, Run, say
from worldmodels.seeding import seed_for, torch_generator
from worldmodels.stages.fit import FitConfig, Loss, best_device, fit, require_finite


@dataclass(frozen=True, kw_only=True)
class TrainMDNRNNConfig(FitConfig):
    """How M is trained."""

    steps: PositiveInt = 20_000
    """Batches."""
    learning_rate: PositiveFloat = 1e-3
    """Adam's learning rate; the paper: 1e-3."""
    gradient_clip: PositiveFloat | None = 1.0
    """Largest absolute gradient of a weight; the paper: 1."""
    start: Literal["previous", "fresh"] = "previous"
    """In later rounds: `previous` goes on training the M of the round before, `fresh` begins with
    random weights."""
    sequence_length: PositiveInt = 999
    """Steps of a window; the paper: 999 for CarRacing, 500 for Doom."""
    latent_noise: NonNegativeFloat = 1.0
    """z = mu + this x sigma x noise, sampled anew at every use; the paper: 1."""
    reward_weight: NonNegativeFloat = 1.0
    """Weight of the reward's loss beside the nats per dimension of z."""
    termination_weight: NonNegativeFloat = 1.0
    """Weight of the end's loss."""
    positive_weight: NonNegativeFloat = 10.0
    """Weight of the steps that end an episode, within that loss; released code: 10."""
    risk_weight: NonNegativeFloat = 1.0
    """Weight of the risks' loss, the sum over mdnrnn.risk_horizons."""
    chunk_episodes: PositiveInt = 256
    """Episodes of latents in memory at once."""
    batches_per_chunk: PositiveInt = 100
    """Batches from each chunk."""


def train_mdnrnn(run: Run, model: MDNRNNConfig, config: TrainMDNRNNConfig, seed: int) -> None:
    """Trains M, or goes on with it; writes mdnrnn/mdnrnn.safetensors.

    Raises:
        InputError: latents are missing or of another V, windows are no longer than a risk's
            horizon, or the loss is not finite.
    """
    longest = max(model.risk_horizons, default=0)
    if config.sequence_length <= longest:
        raise InputError(
            f"train_mdnrnn.sequence_length is {config.sequence_length}: make it longer than the "
            f"longest of mdnrnn.risk_horizons, {longest}"
        )
    world, made_from = load_world(run), check_latents(run)
    result = run.mdnrnn / "mdnrnn.safetensors"
    if result.exists():
        say(f"{result} is there already")
        return
    source = latent_source(run, mirrored=True)
    latent_size = load_vae(run.vae / "vae.safetensors").config.latent_size
    action_size, heads = Actions.from_dict(world.action).size, Heads.of(model, world)
    with Metrics(run, "train_mdnrnn") as metrics:
        mdnrnn = _begin(run, MDNRNN(model, latent_size, action_size, heads), config, seed)
        _train(run, mdnrnn, source, config, seed, metrics)
        _check(mdnrnn, source, config, seed, metrics)
        save_mdnrnn(run, mdnrnn, made_from)
    say(f"M is {result}")


def _begin(run: Run, mdnrnn: MDNRNN, config: TrainMDNRNNConfig, seed: int) -> MDNRNN:
    if run.earlier and config.start == "previous":
        before = load_mdnrnn(run.earlier[-1].mdnrnn / "mdnrnn.safetensors")
        mdnrnn.load_state_dict(before.state_dict())
        return mdnrnn
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "mdnrnn", run.number))
        return MDNRNN(mdnrnn.config, mdnrnn.latent_size, mdnrnn.action_size, mdnrnn.heads)


def _batches(
    source: EpisodeSource, config: TrainMDNRNNConfig, seed: int, start: int
) -> Iterator[SequenceBatch]:
    return sequence_batches(
        source,
        seed=seed,
        start=start,
        batch_size=config.batch_size,
        sequence_length=config.sequence_length,
        chunk_episodes=config.chunk_episodes,
        batches_per_chunk=config.batches_per_chunk,
    )


def _train(
    run: Run,
    mdnrnn: MDNRNN,
    source: EpisodeSource,
    config: TrainMDNRNNConfig,
    seed: int,
    metrics: Metrics,
) -> None:
    device = best_device()
    dtype = product_dtype(device)
    metrics.log(0, precision=name_of(dtype))

    def losses(start: int) -> Iterator[Loss]:
        batches = _batches(source, config, seed_for(seed, "mdnrnn batches", run.number), start)
        for step, batch in enumerate(batches, start):
            generator = torch_generator(seed, "mdnrnn noise", run.number, step)
            yield mdnrnn_loss(mdnrnn, batch.to(device), config, generator, dtype)

    checkpoint = run.mdnrnn / "checkpoint.safetensors"
    fit(mdnrnn, losses, config, metrics, checkpoint, "train_mdnrnn", clip="value")


def mdnrnn_loss(
    mdnrnn: MDNRNN,
    batch: SequenceBatch,
    config: TrainMDNRNNConfig,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, dict[str, Tensor]]:
    """-ln p(z') per dimension + the heads' losses, each over the steps where it is known.

    Source: Ha & Schmidhuber 2018, A.2; the reward head is ours.

    Args:
        mdnrnn: predicts z' of each step.
        batch: the steps.
        config: the parts' weights and z's noise.
        generator: of that noise.
        dtype: of the large products.
    """
    z = batch.drawn(config.latent_noise, generator)
    loss, reward, termination, h = _predict(mdnrnn, z, batch, dtype)
    parts = {"nll": loss}
    if reward is not None:
        target = batch.counts if mdnrnn.heads.reward == "count" else batch.rewards
        nll = reward_nll(mdnrnn.heads, reward, masked(target, batch.valid))
        parts["reward_nll"] = masked_mean(nll, batch.valid)
        loss = loss + config.reward_weight * parts["reward_nll"]
    if termination is not None:
        target = masked(batch.terminated, batch.valid)
        bce = termination_loss(termination, target, config.positive_weight)
        parts["termination"] = masked_mean(bce, batch.valid)
        loss = loss + config.termination_weight * parts["termination"]
    if mdnrnn.num_risks:
        known = batch.actions, batch.damaged, batch.terminated, batch.valid
        parts["risk"] = risk_loss(mdnrnn, z, h, *known, generator, dtype)
        loss = loss + config.risk_weight * parts["risk"]
    return loss, parts


def _predict(
    mdnrnn: MDNRNN, z: Tensor, batch: SequenceBatch, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """The nats per dimension, the raw outputs of both heads, and h."""
    if dtype == torch.bfloat16:
        from worldmodels.models.mdnrnn_bfloat16 import predict  # needs Numba

        return predict(mdnrnn, z, batch.actions, batch.first, batch.next_known, batch.valid)
    h, _ = mdnrnn.states(z[:, :-1], batch.actions, batch.first)
    prediction = mdnrnn.predict(h)
    nll = mixture_loss(prediction.mixture, z[:, 1:], batch.next_known)
    return nll, prediction.reward, prediction.termination, h


@torch.inference_mode()
def _check(
    mdnrnn: MDNRNN, source: EpisodeSource, config: TrainMDNRNNConfig, seed: int, metrics: Metrics
) -> None:
    """Sanity bands: the NLL against the posterior's entropy and against "copy z".

    Nothing can predict a drawn z better than the posterior's entropy; "copy z" is the normal about
    the present z with the data's own deviations.
    """
    batch = next(_batches(source, config, seed_for(seed, "mdnrnn check"), 0))
    loss, parts = mdnrnn_loss(mdnrnn, batch, config, torch_generator(seed, "mdnrnn check"))
    checkpoint = metrics.run.mdnrnn / "checkpoint.safetensors"
    require_finite(loss, "train_mdnrnn", config.steps, checkpoint)
    known = batch.next_known
    sigma = config.latent_noise * torch.exp(0.5 * batch.logvar)
    z = batch.drawn(config.latent_noise, torch_generator(seed, "copy z"))
    steps = (z[:, 1:] - z[:, :-1])[known]
    copy = float(0.5 * (math.log(2 * math.pi * math.e) + steps.var(dim=0).log()).mean())
    drawn = sigma[:, 1:][known]
    entropy = 0.5 * math.log(2 * math.pi * math.e) + drawn.log().mean()
    # so far a mean of drawn z strays by chance: the variance of half a squared normal is 1/2
    chance = 3 * math.sqrt(0.5 / drawn.numel())
    floor = float(entropy) - chance if config.latent_noise > 0 else -math.inf
    numbers = {name: float(value) for name, value in parts.items()}
    metrics.log(config.steps, check_copy_z=copy, check_floor=floor, **numbers)
    metrics.check(
        "M's NLL",
        numbers["nll"],
        floor,
        copy,
        "above `copy z` M has not learnt to move: train longer, raise train_mdnrnn.learning_rate; "
        "below the posterior's entropy something leaks the answer: check the time alignment",
    )
