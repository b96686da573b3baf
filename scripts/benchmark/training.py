"""Training V and M, and encoding, against the plain float32 loop that anyone would write."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.bounds import (
    forward_products,
    mdnrnn_products,
    training_products,
    vae_products,
)
from benchmark.timing import Row, Work, number, side_by_side, target, timed
from benchmark.untrained import CAR_RACING, TAKE_COVER, Size
from worldmodels.command_line import keep
from worldmodels.config import Config
from worldmodels.data.dataset import FrameBatch
from worldmodels.data.episode import Episode, episode_files
from worldmodels.data.manifest import entry_of, save_manifest
from worldmodels.files import save_json
from worldmodels.models.action import Actions
from worldmodels.models.heads.build import mdnrnn_for
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.mixture import mixture_loss
from worldmodels.models.sequence import SequenceBatch
from worldmodels.models.vae import VAE, VAEConfig, images_of, vae_loss
from worldmodels.precision import name_of, product_dtype
from worldmodels.run import Run, cores
from worldmodels.seeding import numpy_generator, torch_generator
from worldmodels.stages.encode import BATCH as ENCODING_BATCH
from worldmodels.stages.encode import encode_episodes
from worldmodels.stages.fit import adam
from worldmodels.stages.train_mdnrnn import TrainMDNRNNConfig, mdnrnn_loss
from worldmodels.stages.train_vae import TrainVAEConfig, frames_loss
from worldmodels.world import EnvConfig

BATCH = 128
"""Frames of a batch of V."""
WINDOWS, STEPS = 64, 128
"""A batch of M."""
PLAIN = "plain float32 loop"
MEMORY_LIMIT = 3.0
"""GiB for training V on a million frames."""
MEMORY_STEPS = 220
"""Of training V there, three chunks; half, on a tenth of the frames, where it must be quick."""


def training_rows(folder: Path, quick: bool) -> Iterable[Row]:
    """All rows about training; episodes are written in `folder`."""
    yield from vae_rows(quick)
    yield from encoding_rows(folder, quick)
    yield from mdnrnn_rows(CAR_RACING, quick)
    yield from mdnrnn_rows(TAKE_COVER, quick)
    yield memory_row(quick)
    yield opening_row(folder)


def vae_rows(quick: bool) -> Iterable[Row]:
    """Images a second in training V of the paper's size."""
    config, frames = TrainVAEConfig(batch_size=BATCH), torch.from_numpy(pictures(BATCH))
    ours, plain = VAE(VAEConfig()), VAE(VAEConfig())

    def our_loss(generator: torch.Generator) -> Tensor:
        noise = torch.randn(BATCH, 32, generator=generator)
        return frames_loss(ours, FrameBatch(frames), noise, config)[0]

    def plain_loss(generator: torch.Generator) -> Tensor:
        images, noise = images_of(frames), torch.randn(BATCH, 32, generator=generator)
        mu, logvar = plain_encode(plain, images)
        reconstruction = plain_decode(plain, mu + torch.exp(0.5 * logvar) * noise)
        return vae_loss(images, reconstruction, mu, logvar, config.free_nats)[0]

    batches, rounds = (2, 3) if quick else (6, 7)
    what = f"training V, z 32, batches of {BATCH}"
    work = training(our_loss, adam(ours, 1e-4), 2 * batches, BATCH)
    theirs = training(plain_loss, torch.optim.Adam(plain.parameters(), 1e-4), batches, BATCH)
    against = PLAIN, "images/s", work, theirs
    yield side_by_side(what, *against, rounds=rounds, target=target(2.0, None))
    encoder, decoder = vae_products(ours, BATCH)
    against = products_alone(), "images/s", work, training_products([*encoder, *decoder], BATCH)
    yield side_by_side(what, *against, rounds=rounds, target=target(None, 0.7))


def encoding_rows(folder: Path, quick: bool) -> Iterable[Row]:
    """Images a second of encoding files to files, against V's layers on frames in memory."""
    vae = VAE(VAEConfig())
    episodes, latents = folder / "encoding", folder / "encoded"
    write_episodes(episodes, 4 if quick else 16, 500, distinct=4)
    files = episode_files(episodes)
    batches = torch.from_numpy(pictures(500)).split(ENCODING_BATCH)

    def plain() -> float:
        with torch.inference_mode():
            return sum(len(plain_encode(vae, images_of(batch))[0]) for batch in batches)

    def ours() -> float:
        return encode_episodes(vae, files, latents, EnvConfig())

    what = f"encoding, z 32, batches of {ENCODING_BATCH}, with reading and writing files"
    against, rounds = ("V in plain float32, in memory", "images/s", ours, plain), 3 if quick else 7
    yield side_by_side(what, *against, rounds=rounds, target=target(2.5, None))
    encoder, _ = vae_products(vae, ENCODING_BATCH)
    against = products_alone(), "images/s", ours, forward_products(encoder, ENCODING_BATCH)
    yield side_by_side(what, *against, rounds=rounds, target=target(None, 0.7))


def plain_encode(vae: VAE, images: Tensor) -> tuple[Tensor, Tensor]:
    """mu and logvar, layer by layer in float32."""
    mu, logvar = vae.posterior(vae.encoder(images)).chunk(2, dim=-1)
    return mu, logvar


def plain_decode(vae: VAE, z: Tensor) -> Tensor:
    """The images of z, layer by layer in float32."""
    x = vae.decoder_input(z)
    for layer in vae.decoder:
        if isinstance(layer, nn.ConvTranspose2d):
            x = nn.ConvTranspose2d.forward(layer, x)
        else:
            x = layer(x)
    return x


def mdnrnn_rows(size: Size, quick: bool) -> Iterable[Row]:
    """Steps a second in training M of one of the paper's sizes."""
    config = TrainMDNRNNConfig(batch_size=WINDOWS, sequence_length=STEPS)
    ours, plain = untrained_mdnrnn(size), untrained_mdnrnn(size)
    batch = sequences(size)

    trainable = [p for p in plain.parameters() if p.requires_grad]
    units, rounds = WINDOWS * STEPS, 3 if quick else 7
    what = f"training M, {size.name}, batches of {WINDOWS} x {STEPS}"
    work = training(
        lambda generator: mdnrnn_loss(ours, batch, config, generator)[0],
        adam(ours, 1e-3),
        3 if quick else 6,
        units,
    )
    theirs = training(
        lambda generator: plain_mdnrnn_loss(plain, batch, generator),
        torch.optim.Adam(trainable, 1e-3),
        1 if quick else 2,
        units,
    )
    against = PLAIN, "steps/s", work, theirs
    yield side_by_side(what, *against, rounds=rounds, target=target(2.0, None))
    bound = training_products(mdnrnn_products(ours, WINDOWS, STEPS), units)
    against = products_alone(), "steps/s", work, bound
    yield side_by_side(what, *against, rounds=rounds, target=target(None, 0.7))


def products_alone() -> str:
    """What a row is compared with that has a bound."""
    return f"their matrix products alone, in {name_of(product_dtype())}, {cores()} threads"


def plain_mdnrnn_loss(mdnrnn: MDNRNN, batch: SequenceBatch, generator: torch.Generator) -> Tensor:
    """nn.LSTM, the mixture's NLL and the losses of both heads, in plain PyTorch."""
    noise = torch.randn(batch.mu.shape, generator=generator)
    z = batch.mu + torch.exp(0.5 * batch.logvar) * noise
    h, _ = mdnrnn.lstm(mdnrnn.inputs(z[:, :-1], batch.actions, batch.first))
    prediction = mdnrnn.predict(h)
    loss = mixture_loss(prediction.mixture, z[:, 1:], batch.next_known)
    for head in mdnrnn.heads:
        loss = loss + head.loss(prediction, z, batch, generator)
    return loss


def memory_row(quick: bool) -> Row:
    """GiB at most in use while `train-vae` reads a million frames in 1000 episodes."""
    episodes, steps = (100, MEMORY_STEPS // 2) if quick else (1000, MEMORY_STEPS)
    config = TrainVAEConfig(steps=steps, motion_weight=1.0)
    with TemporaryDirectory() as folder:
        run = Run(folder)
        keep(Config(train_vae=config, device="cpu"), run)
        save_json(run.world_file, CAR_RACING.world.to_dict())
        write_episodes(run.episodes, episodes, 1000, distinct=8)
        command = [sys.executable, "-m", "worldmodels", "train-vae", "--run", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)  # the usage of this process alone
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed")
    what = f"peak memory of training V on {episodes * 1000:,} frames"
    return number(what, usage.ru_maxrss / 2**20, "GiB", MEMORY_LIMIT)


def opening_row(folder: Path) -> Row:
    """Seconds to open a folder of 20,000 episodes, which are links to one file."""
    episodes = folder / "many"
    write_episodes(episodes, 20_000, 1, distinct=1)
    files = sorted(episodes.iterdir())
    entry = entry_of(files[0].read_bytes(), steps=1)
    save_manifest(episodes, {file.name: entry for file in files})
    found, seconds = timed(lambda: len(episode_files(episodes)))
    return number(f"opening a folder of {found:,} episodes", seconds, "s", at_most=2.0)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Frames that pack about as well as CarRacing's: blocks of colour and a little noise."""
    generator = numpy_generator(seed, "pictures")
    blocks = generator.integers(0, 256, (count, 8, 8, 3), np.uint8)
    frames = blocks.repeat(8, 1).repeat(8, 2)
    frames[:, 24:40, 24:40] ^= generator.integers(0, 32, (count, 16, 16, 3), np.uint8)
    return frames


def write_episodes(folder: Path, number: int, length: int, distinct: int) -> None:
    """Episodes of so many steps; the files beyond the `distinct` first are links to those."""
    for index in range(number):
        path, twin = (folder / f"00_{i:06d}.npz" for i in (index, index % distinct))
        if path != twin:
            os.link(twin, path)
            continue
        zeros, flags = np.zeros(length, np.float32), np.zeros(length, bool)
        frames = pictures(length, index)
        actions = np.zeros((length, 3), np.float32)
        Episode(frames, actions, zeros, zeros, flags, flags).save(path)


def sequences(size: Size) -> SequenceBatch:
    """A batch of M's, of noise."""
    generator = torch_generator(0, "sequences")
    shape, latent = (WINDOWS, STEPS), size.config.vae.latent_size
    mu = torch.randn(WINDOWS, STEPS + 1, latent, generator=generator)
    actions = torch.randn(*shape, Actions.from_dict(size.world.action).size, generator=generator)
    zeros, known = torch.zeros(shape), torch.ones(shape, dtype=torch.bool)
    return SequenceBatch(mu, mu - 3, actions, zeros, zeros, zeros, zeros, zeros, known, known)


def untrained_mdnrnn(size: Size) -> MDNRNN:
    return mdnrnn_for(size.config.mdnrnn, size.world, size.config.vae.latent_size)


def training(
    loss: Callable[[torch.Generator], Tensor],
    optimizer: torch.optim.Optimizer,
    batches: int,
    units: int,
) -> Work:
    """So many training steps, each with other noise."""
    steps = count()

    def work() -> float:
        for _ in range(batches):
            optimizer.zero_grad()
            loss(torch_generator(0, "noise", next(steps))).backward()
            optimizer.step()
        return batches * units

    return work
