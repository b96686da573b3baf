"""A GPU's speed in training, encoding and dreaming, beside the CPU of the same machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from benchmark.dreams import POPULATION, ROLLOUTS, candidates, evolving
from benchmark.timing import Row, Work, number, rate, side_by_side
from benchmark.training import (
    BATCH,
    STEPS,
    WINDOWS,
    pictures,
    sequences,
    training,
    untrained_mdnrnn,
)
from benchmark.untrained import SIZES, Size, untrained
from worldmodels.acting.dream_batch import DreamBatch
from worldmodels.acting.environments import Dreams
from worldmodels.artifacts import Bundle
from worldmodels.data.dataset import FrameBatch
from worldmodels.envs.dream import DreamConfig
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.precision import CPU, get_precision, set_precision
from worldmodels.stages.encode import BATCH as CPU_BATCH
from worldmodels.stages.encode import GPU_BATCH
from worldmodels.stages.fit import adam
from worldmodels.stages.train_mdnrnn import TrainMDNRNNConfig, mdnrnn_loss
from worldmodels.stages.train_vae import TrainVAEConfig, frames_loss

MANY = 1024
"""Rollouts of the largest population."""


def gpu_rows(folder: Path, gpu: torch.device, quick: bool) -> Iterable[Row]:
    """All rows about a GPU; untrained bundles are written in `folder`."""
    set_precision(get_precision())  # as a command does: it allows TF32
    against, rounds = "the same on the CPU", 3 if quick else 7
    batches = 20 if quick else 100
    sides = vae_training(gpu, batches), vae_training(CPU, 3)
    what = f"training V on a GPU, z 32, batches of {BATCH}"
    yield side_by_side(what, against, "images/s", *sides, rounds=rounds)
    sides = encoding(gpu, GPU_BATCH), encoding(CPU, CPU_BATCH)
    what = f"encoding on a GPU, z 32, batches of {GPU_BATCH}, in memory"
    yield side_by_side(what, against, "images/s", *sides, rounds=rounds)
    for size in SIZES:
        sides = mdnrnn_training(size, gpu, batches), mdnrnn_training(size, CPU, 2)
        what = f"training M on a GPU, {size.name}, batches of {WINDOWS} x {STEPS}"
        yield side_by_side(what, against, "steps/s", *sides, rounds=rounds)
    for size in SIZES:
        bundle = Bundle.load(untrained(size, folder / f"gpu{size.config.mdnrnn.hidden_size}"))
        steps = 200 if quick else 1000
        what = f"a generation in the dream on a GPU, {POPULATION} x {ROLLOUTS} lanes, {size.name}"
        sides = dreaming(bundle, ROLLOUTS, steps, gpu), evolving(bundle, POPULATION, ROLLOUTS, 30)
        yield side_by_side(what, against, "steps/s", *sides, rounds=rounds)
        what = f"the same, {POPULATION} x {MANY} lanes, {size.name}"
        yield number(what, rate(dreaming(bundle, MANY, steps, gpu)), "steps/s")


def vae_training(device: torch.device, batches: int) -> Work:
    """As `train-vae` does: frames and noise come from the CPU."""
    config, frames = TrainVAEConfig(batch_size=BATCH), torch.from_numpy(pictures(BATCH))
    vae = VAE(VAEConfig()).to(device)

    def loss(generator: torch.Generator) -> Tensor:
        noise = torch.randn(BATCH, 32, generator=generator)
        return frames_loss(vae, FrameBatch(frames).to(device), noise.to(device), config)[0]

    return finished(training(loss, adam(vae, 1e-4), batches, BATCH), device)


def mdnrnn_training(size: Size, device: torch.device, batches: int) -> Work:
    """As `train-mdnrnn` does."""
    config = TrainMDNRNNConfig(batch_size=WINDOWS, sequence_length=STEPS)
    mdnrnn, batch = untrained_mdnrnn(size).to(device), sequences(size)

    def loss(generator: torch.Generator) -> Tensor:
        return mdnrnn_loss(mdnrnn, batch.to(device), config, generator)[0]

    return finished(training(loss, adam(mdnrnn, 1e-3), batches, WINDOWS * STEPS), device)


def encoding(device: torch.device, batch: int) -> Work:
    """Frames in the CPU's memory to latents there."""
    vae, frames = VAE(VAEConfig()).to(device), torch.from_numpy(pictures(batch))

    def work() -> float:
        return float(len(vae.encode(frames.to(device))[0].cpu()))

    return work


def dreaming(bundle: Bundle, rollouts: int, steps: int, device: torch.device) -> Work:
    """A generation as evolution dreams it on a GPU."""
    dreams = Dreams.of_bundle(bundle, DreamConfig(horizon=steps))
    batch = DreamBatch(dreams.make(rollouts), bundle.controller, POPULATION, None, device)
    parameters = candidates(bundle, POPULATION)
    return lambda: float(batch.play(parameters, range(rollouts))[1].sum())


def finished(work: Work, device: torch.device) -> Work:
    """The work, and waiting until the device has done it."""

    def waited() -> float:
        units = work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return units

    return waited
