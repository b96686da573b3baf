"""Train M on sequences of latents."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldmodels.artifacts import check_latents, load_mdnrnn, load_vae, load_world, save_mdnrnn
from worldmodels.data.dataset import EpisodeSource, SequenceBatches, latent_source
from worldmodels.data.episode import LatentEpisode
from worldmodels.device import get_device
from worldmodels.files import load_arrays
from worldmodels.models.heads.build import WorldMDNRNNConfig, mdnrnn_for
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.pictures import dream_beside_record, long_enough
from worldmodels.models.sequence import SequenceBatch
from worldmodels.models.vae import VAE
from worldmodels.precision import name_of, product_dtype
from worldmodels.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from worldmodels.run import Metrics, Run, say
from worldmodels.seeding import seed_for, torch_generator
from worldmodels.stages.fit import FitConfig, Loss, fit, require_finite
from worldmodels.world import World

CHUNK_EPISODES = 1024
"""Episodes of latents in memory at once: 160 MB of 1000 steps each, with 32 latents."""

COUNTED = 1000
"""Most recorded episodes that are searched for an end: a second."""


@dataclass(frozen=True, kw_only=True)
class TrainMDNRNNConfig(FitConfig):
    """How M is trained."""

    steps: PositiveInt = 20_000
    """Training steps (batches)."""
    learning_rate: PositiveFloat = 1e-3
    """Adam's learning rate; the paper: 1e-3."""
    gradient_clip: PositiveFloat | None = 1.0
    """Each gradient is clipped to plus or minus this; the paper: 1. null: no limit."""
    sequence_length: PositiveInt = 999
    """Steps of a training sequence; the paper: 999 for CarRacing, 500 for Doom."""
    heads_weight: NonNegativeFloat = 1.0
    """Weight of the heads' losses; z's loss, in nats per dimension, has 1."""


def train_mdnrnn(run: Run, model: WorldMDNRNNConfig, config: TrainMDNRNNConfig, seed: int) -> None:
    """Trains M, or continues an interrupted training; writes mdnrnn/mdnrnn.safetensors.

    Raises:
        InputError: latents are missing or of another V, or the loss is not finite.
    """
    world, made_from = load_world(run), check_latents(run)
    result = run.mdnrnn / "mdnrnn.safetensors"
    if result.exists():
        say(f"{result} already exists")
        return
    source = latent_source(run, views=True)
    vae = load_vae(run)
    with Metrics(run, "train_mdnrnn") as metrics:
        mdnrnn = _begin(run, model, world, vae.config.latent_size, seed)
        device = get_device()
        dtype = product_dtype() if device.type == "cpu" else torch.float32
        metrics.log(0, precision=name_of(dtype), device=device.type)
        losses = _Losses(mdnrnn, source, config, seed, run.number, device)
        fit(
            mdnrnn,
            losses,
            config,
            metrics,
            run.mdnrnn / "checkpoint.safetensors",
            "train_mdnrnn",
            clip="value",
            device=device,
            show=_Pictures(vae, mdnrnn, source, metrics),
        )
        _check(losses, metrics)
        save_mdnrnn(run, mdnrnn, world, made_from)
    say(f"M is {result}")


def _begin(
    run: Run,
    model: WorldMDNRNNConfig,
    world: World,
    latent_size: int,
    seed: int,
) -> MDNRNN:
    """M before training: with random weights, or in later rounds with those of the round before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "mdnrnn", run.number))
        mdnrnn = mdnrnn_for(model, world, latent_size)
    if run.earlier:
        before = load_mdnrnn(run.earlier[-1])
        mdnrnn.load_state_dict(before.state_dict())
    return mdnrnn


class _Pictures:
    """Shows a dream beside one of the newest episodes, in TensorBoard."""

    def __init__(self, vae: VAE, mdnrnn: MDNRNN, source: EpisodeSource, metrics: Metrics) -> None:
        self.vae, self.mdnrnn, self.metrics = vae, mdnrnn, metrics
        loaded = (LatentEpisode.load(path) for path in source.new)
        self.episode = next((one for one in loaded if long_enough(one.mu)), None)

    def __call__(self, step: int) -> None:
        if self.episode is None:
            return
        mdnrnn = copy.deepcopy(self.mdnrnn).cpu().eval()
        record = torch.from_numpy(self.episode.mu).float(), torch.from_numpy(self.episode.actions)
        noise = torch_generator(0, "shown dream")
        picture, _ = dream_beside_record(self.vae, mdnrnn, *record, noise)
        self.metrics.picture("record_above_dream", step, picture)


@dataclass(frozen=True)
class _Losses:
    mdnrnn: MDNRNN
    source: EpisodeSource
    config: TrainMDNRNNConfig
    seed: int
    round: int
    device: torch.device

    def __call__(self, start: int) -> Iterator[Loss]:
        batches = self.batches(seed_for(self.seed, "mdnrnn batches", self.round))
        for step, batch in enumerate(batches.starting(start), start):
            generator = torch_generator(self.seed, "mdnrnn noise", self.round, step)
            yield mdnrnn_loss(self.mdnrnn, batch.to(self.device), self.config, generator)

    def batches(self, seed: int) -> SequenceBatches:
        return SequenceBatches(
            source=self.source,
            seed=seed,
            batch_size=self.config.batch_size,
            sequence_length=self.config.sequence_length,
            chunk_episodes=CHUNK_EPISODES,
        )


def mdnrnn_loss(
    mdnrnn: MDNRNN,
    batch: SequenceBatch,
    config: TrainMDNRNNConfig,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """-ln p(z') per dimension + the weighted losses of the heads, and each of these by its name.

    Source: Ha & Schmidhuber 2018, A.2.

    Args:
        mdnrnn: predicts z' of each step.
        batch: the steps.
        config: the weight of the heads' losses.
        generator: of that noise, and of the heads'.
    """
    z = batch.sample_z(generator)
    prediction, _ = mdnrnn(z[:, :-1], batch.actions, batch.first, valid=batch.valid)
    loss = prediction.nll(z[:, 1:], batch.next_known)
    parts = {"nll": loss}
    for head in mdnrnn.heads:
        parts[head.name] = head.loss(prediction, z, batch, generator)
        loss = loss + config.heads_weight * parts[head.name]
    return loss, parts


@torch.inference_mode()
def _check(losses: _Losses, metrics: Metrics) -> None:
    """Checks that M's NLL lies between the posterior's entropy and that of "copy z".

    No model predicts a sampled z better than the posterior's entropy. "Copy z" is a normal about
    the present z with the deviations of the data.
    """
    config, seed = losses.config, losses.seed
    batch = next(losses.batches(seed_for(seed, "mdnrnn check")).starting(0))
    generator = torch_generator(seed, "mdnrnn check")
    loss, parts = mdnrnn_loss(losses.mdnrnn, batch, config, generator)
    checkpoint = metrics.run.mdnrnn / "checkpoint.safetensors"
    require_finite(loss, "train_mdnrnn", config.steps, checkpoint)
    known = batch.next_known
    sigma = torch.exp(0.5 * batch.logvar)
    z = batch.sample_z(torch_generator(seed, "copy z"))
    steps = (z[:, 1:] - z[:, :-1])[known]
    copy = float(0.5 * (math.log(2 * math.pi * math.e) + steps.var(dim=0).log()).mean())
    deviations = sigma[:, 1:][known]
    entropy = 0.5 * math.log(2 * math.pi * math.e) + deviations.log().mean()
    # three standard errors of the mean NLL: the variance of half a squared normal is 1/2
    chance = 3 * math.sqrt(0.5 / deviations.numel())
    floor = float(entropy) - chance
    numbers = {name: float(value) for name, value in parts.items()}
    metrics.log(config.steps, check_copy_z=copy, check_floor=floor, **numbers)
    metrics.check(
        "M's NLL",
        numbers["nll"],
        floor,
        copy,
        (
            "no M can predict V's noise, so M's inputs contain the target: check the time "
            "alignment of the episodes",
            "M predicts no better than copying z: raise train_mdnrnn.steps or "
            "train_mdnrnn.learning_rate",
        ),
    )
    if any(head.does("ends") or head.does("survives") for head in losses.mdnrnn.heads):
        metrics.check(
            "number of episodes that terminate",
            float(_count_ends([*losses.source.new, *losses.source.old][:COUNTED])),
            0.0,
            np.inf,
            "M cannot learn when episodes terminate: raise collect.max_steps or collect.episodes, "
            "or set env.terminates to false",
            above=True,
        )


def _count_ends(paths: Sequence[Path]) -> int:
    """Recorded episodes of which a step terminates them."""
    return sum(bool(load_arrays(path)["terminated"].any()) for path in paths)
