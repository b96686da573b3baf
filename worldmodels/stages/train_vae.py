"""Train V on the frames of the data."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.artifacts import load_vae, load_world, save_vae
from worldmodels.data.dataset import EpisodeSource, FrameBatch, FrameBatches, some_frames
from worldmodels.data.episode import episode_files
from worldmodels.device import get_device
from worldmodels.models.pictures import reconstructions_by_error, traversals
from worldmodels.models.vae import VAE, VAEConfig, images_of, kl_divergence, moving, vae_loss
from worldmodels.precision import name_of, product_dtype
from worldmodels.ranges import NonNegativeFloat, PositiveFloat, PositiveInt
from worldmodels.run import Metrics, Run, say
from worldmodels.seeding import seed_for, torch_generator
from worldmodels.stages.fit import FitConfig, Loss, fit, require_finite

CHUNK_EPISODES = 32
"""Episodes in memory at once: 400 MB of 1000 frames of 64x64 pixels each."""
ACTIVE_LATENTS = 4
"""Sanity: at least so many latents with a KL above 0.1 nats."""
PICTURED = 5
"""Of this many checked frames one is pictured: pictures then take a quarter of a second."""
LATENT_KL = 8.0
"""Sanity: at most so many nats per latent."""
RECONSTRUCTION_ERROR = 100.0
"""Sanity: at most this sum of squares per image of 64x64 pixels."""
MOVING_ERROR = 0.5
"""Sanity: at most this share of the error of a V that shows each episode's median picture."""
LEAST_MOVING = 1e-4
"""Sanity: of fewer moving pixels, as a share of all, nothing is said."""
ACTIVE = 0.1
"""Nats of KL above which a latent counts as active."""
NEWEST, EACH = 4, 128
"""Episodes, and most frames of each, that are checked and pictured."""
CHECKED = 256
"""Frames that are checked at once."""


@dataclass(frozen=True, kw_only=True)
class TrainVAEConfig(FitConfig):
    """How V is trained."""

    steps: PositiveInt = 1_000_000
    """Training steps (batches); the paper: 10 passes over 10 million frames."""
    learning_rate: PositiveFloat = 1e-4
    """Adam's learning rate; the paper: 1e-4."""
    start: Literal["previous", "fresh", "keep"] = "previous"
    """In later rounds: `previous` continues training the V of the round before, `fresh` starts from
    random weights, `keep` uses the V of the round before without training."""
    motion_weight: NonNegativeFloat = 0.0
    """Extra weight of moving pixels, which differ by more than 0.12 from their episode's median
    image; the paper: 0. Small moving objects, such as Doom's fireballs, are learned sooner. Source:
    measured, `scripts/benchmark/reconstruction.py`."""
    free_nats: NonNegativeFloat = 0.5
    """Minimum KL of a latent in the loss, in nats; the released code: 0.5."""


def train_vae(run: Run, model: VAEConfig, config: TrainVAEConfig, seed: int) -> None:
    """Trains V, or continues training it; writes vae/vae.safetensors.

    Raises:
        InputError: there is no data, a file is broken, or the loss is not finite.
    """
    result = run.vae / "vae.safetensors"
    if result.exists():
        say(f"{result} already exists")
        return
    folders = [r.episodes for r in run.earlier]
    new = episode_files(run.need(run.episodes, "worldmodels collect"))
    source = EpisodeSource(new, episode_files(*folders) if folders else ())
    with Metrics(run, "train_vae") as metrics:
        vae = _begin(run, model, load_world(run).config.size, config, seed)
        if not (run.earlier and config.start == "keep"):
            device = get_device()
            metrics.log(0, precision=name_of(product_dtype(device)), device=device.type)
            losses = _Losses(vae, source, config, seed, run.number, device)
            checkpoint, show = run.vae / "checkpoint.safetensors", _Pictures(vae, source, metrics)
            fit(vae, losses, config, metrics, checkpoint, "train_vae", device=device, show=show)
        _check(vae, source, config, metrics)
        save_vae(run, vae)
    say(f"V is {result}")


def _begin(run: Run, model: VAEConfig, size: int, config: TrainVAEConfig, seed: int) -> VAE:
    if run.earlier and config.start != "fresh":
        return load_vae(run.earlier[-1]).train().requires_grad_(True)
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "vae", run.number))
        return VAE(model, size)


class _Pictures:
    """Shows what V does with some of the newest frames, in TensorBoard."""

    def __init__(self, vae: VAE, source: EpisodeSource, metrics: Metrics) -> None:
        self.vae, self.metrics = vae, metrics
        self.frames = _newest_frames(source).frames[::PICTURED]

    def __call__(self, step: int) -> None:
        vae = copy.deepcopy(self.vae).cpu().eval()
        picture, _ = reconstructions_by_error(vae, self.frames)
        self.metrics.picture("worst_median_best", step, picture)
        picture, _ = traversals(vae, vae.encode(self.frames)[0])
        self.metrics.picture("latents", step, picture)


def _newest_frames(source: EpisodeSource) -> FrameBatch:
    return some_frames(source.new[-NEWEST:], EACH)


@dataclass(frozen=True)
class _Losses:
    vae: VAE
    source: EpisodeSource
    config: TrainVAEConfig
    seed: int
    round: int
    device: torch.device

    def __call__(self, start: int) -> Iterator[Loss]:
        config, device = self.config, self.device
        batches = FrameBatches(
            source=self.source,
            seed=seed_for(self.seed, "vae batches", self.round),
            batch_size=config.batch_size,
            chunk_episodes=CHUNK_EPISODES,
            medians=config.motion_weight > 0,
        )
        for step, batch in enumerate(batches.starting(start), start):
            generator = torch_generator(self.seed, "vae noise", self.round, step)
            shape = len(batch.frames), self.vae.config.latent_size
            noise = torch.randn(shape, generator=generator)
            yield frames_loss(self.vae, batch.to(device), noise.to(device), config)


def frames_loss(
    vae: VAE,
    batch: FrameBatch,
    noise: Float[Tensor, "B Z"],
    config: TrainVAEConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """V's loss on a batch, and the parts that are logged."""
    weights = None
    if batch.medians is not None:
        weights = 1 + config.motion_weight * moving(batch.frames, batch.medians).float()[:, None]
    images, reconstruction, mu, logvar = vae(batch.frames, noise)
    return vae_loss(images, reconstruction, mu, logvar, config.free_nats, weights)


@torch.inference_mode()
def reconstruction_error(vae: VAE, batch: FrameBatch) -> dict[str, Any]:
    """V's error on frames, with z = mu: mean squares of numbers in [0, 1].

    Args:
        vae: V.
        batch: frames, with `medians`.

    Returns:
        `active`, the latents with a mean KL above 0.1 nats; `kl` of all latents, in nats; the
        `error` everywhere; `moving_share`, the pixels that differ from their episode's median image
        (see `models.vae.moving`), the error there (NaN if there are none), and there that of the
        median image, which is what a V that ignores them reaches.
    """
    assert batch.medians is not None
    kl, sums = torch.zeros(vae.config.latent_size), torch.zeros(4, dtype=torch.float64)
    parts = batch.frames.split(CHECKED), batch.medians.split(CHECKED)
    for frames, medians in zip(*parts, strict=True):
        images = images_of(frames)
        mu, logvar = vae.encode(frames)
        kl += kl_divergence(mu, logvar).sum(dim=0)
        there = moving(frames, medians)[:, None]
        error = (vae.decode(mu) - images).square()
        of_median = (images_of(medians) - images).square()
        numbers = error.sum(), (error * there).sum(), (of_median * there).sum(), there.sum()
        sums += torch.stack(numbers).double()
    count, (error_sum, there_sum, median_sum, pixels) = len(batch.frames), sums.tolist()
    kl, there_count = kl / count, 3 * pixels if pixels else math.nan
    return {
        "frames": count,
        "latents": len(kl),
        "active": int((kl > ACTIVE).sum()),
        "kl": float(kl.sum()),
        "error": error_sum / batch.frames.numel(),
        "moving_share": 3 * pixels / batch.frames.numel(),
        "moving_error": there_sum / there_count,
        "median_error": median_sum / there_count,
    }


def _check(vae: VAE, source: EpisodeSource, config: TrainVAEConfig, metrics: Metrics) -> None:
    """Sanity bands on some of the newest frames."""
    batch = _newest_frames(source)
    frames, found = batch.frames, reconstruction_error(vae, batch)
    squares = found["error"] * frames[0].numel()
    checkpoint = metrics.run.vae / "checkpoint.safetensors"
    require_finite(torch.tensor(squares), "train_vae", config.steps, checkpoint)
    metrics.log(
        config.steps,
        check_reconstruction=squares,
        kl=found["kl"],
        active=found["active"],
        moving_error=found["moving_error"],
    )
    changing = (frames.amax(0) != frames.amin(0)).any(-1).float().mean()
    metrics.check(
        "share of pixels that ever change",
        float(changing),
        0.0,
        1.0,
        "all pictures are the same: check env.screen and env.crop",
        above=True,
    )
    metrics.check(
        "active latents",
        float(found["active"]),
        float(ACTIVE_LATENTS),
        float(vae.config.latent_size),
        "V ignores its latents (posterior collapse): raise train_vae.free_nats, or train longer",
    )
    metrics.check(
        "reconstruction error",
        squares,
        0.0,
        RECONSTRUCTION_ERROR * (vae.size / 64) ** 2,
        "V's pictures are poor: raise train_vae.steps or train_vae.learning_rate",
    )
    if found["moving_share"] > LEAST_MOVING:
        metrics.check(
            "V's error in moving pixels relative to the episode's median picture",
            found["moving_error"] / found["median_error"],
            0.0,
            MOVING_ERROR,
            "V does not show what moves: raise train_vae.motion_weight or train_vae.steps; in a "
            "new run, also set vae.first_weights to he",
        )
    metrics.check(
        "KL of a latent",
        found["kl"] / found["latents"],
        0.0,
        LATENT_KL,
        "V's noise is nearly gone (sigma collapse), so that M must predict details: lower "
        "train_vae.motion_weight or train_vae.free_nats",
    )
