"""V's reconstruction error on recorded frames, everywhere and where something moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from worldmodels.data.dataset import FrameBatch, median_image
from worldmodels.data.episode import Episode
from worldmodels.diagnostics.fireballs import fireballs_in, has_labels, label_frames, recall_by_size
from worldmodels.files import replacing
from worldmodels.models.vae import VAE, frames_of, images_of, kl_divergence, moving
from worldmodels.run import say
from worldmodels.workers import WorkersConfig
from worldmodels.world import World

FRAMES = 4000
"""Recorded frames that are measured."""
LABELLED = 40
"""Episodes that are played again with ViZDoom's labels."""
ACTIVE = 0.1
"""Nats of KL above which a latent counts as active."""
BATCH = 256
SHOWN, ACROSS, SCALE, GAP = 32, 8, 3, 2
"""The picture: number of frames, frames in a row, enlargement, pixels between the pairs."""


@dataclass(frozen=True)
class Reconstruction:
    """V's error on some frames, with z = mu: mean squares of numbers in [0, 1]."""

    frames: int
    latents: int
    active: int
    """Latents with a mean KL above 0.1 nats."""
    kl: float
    """Nats, of all latents."""
    error: float
    """Everywhere."""
    moving_share: float
    """Share of pixels that differ from their episode's median image, see `models.vae.moving`."""
    moving_error: float
    """At these pixels; NaN if there are none."""
    median_error: float
    """At these pixels, of the median image: what a V that ignores them reaches."""


@torch.inference_mode()
def reconstruction_error(vae: VAE, batch: FrameBatch) -> Reconstruction:
    """Measures V on frames, which have `medians`."""
    assert batch.medians is not None
    kl, sums = torch.zeros(vae.config.latent_size), torch.zeros(4, dtype=torch.float64)
    for frames, medians in zip(batch.frames.split(BATCH), batch.medians.split(BATCH), strict=True):
        images = images_of(frames)
        mu, logvar = vae.encode(frames)
        kl += kl_divergence(mu, logvar).sum(dim=0)
        there = moving(frames, medians)[:, None]
        error = (vae.decode(mu) - images).square()
        of_median = (images_of(medians) - images).square()
        parts = error.sum(), (error * there).sum(), (of_median * there).sum(), there.sum()
        sums += torch.stack(parts).double()
    count, (error_sum, there_sum, median_sum, pixels) = len(batch.frames), sums.tolist()
    kl, numbers = kl / count, 3 * pixels if pixels else np.nan
    return Reconstruction(
        frames=count,
        latents=len(kl),
        active=int((kl > ACTIVE).sum()),
        kl=float(kl.sum()),
        error=error_sum / batch.frames.numel(),
        moving_share=3 * pixels / batch.frames.numel(),
        moving_error=there_sum / numbers,
        median_error=median_sum / numbers,
    )


def some_frames(files: Sequence[Path], each: int) -> FrameBatch:
    """A few frames of each episode, evenly spaced, and the episodes' median images."""
    frames, medians = [], []
    for path in files:
        episode = Episode.load(path).frames
        frames.append(episode[:: -(-len(episode) // each)])
        medians.append(median_image(episode)[None].repeat(len(frames[-1]), 0))
    return FrameBatch(*(torch.from_numpy(np.concatenate(parts)) for parts in (frames, medians)))


@torch.inference_mode()
def reconstructed(
    vae: VAE, frames: UInt8[np.ndarray, "N 64 64 3"]
) -> UInt8[np.ndarray, "N 64 64 3"]:
    """Frames encoded and decoded by V, with z = mu."""
    parts = torch.from_numpy(frames).split(BATCH)
    pictures = [frames_of(vae.decode(vae.encode(part)[0])) for part in parts]
    return torch.cat(pictures).numpy()


def measure_reconstruction(
    vae: VAE,
    world: World,
    files: Sequence[Path],
    seeds: Sequence[int],
    workers: WorkersConfig,
    folder: Path,
) -> dict[str, Any]:
    """V's error on recorded episodes, as inspection.json holds it; writes reconstruction.png.

    In ViZDoom's worlds the recall of fireballs is measured too, on the episodes' seeds.
    """
    recorded = some_frames(files, max(1, FRAMES // len(files)))
    report: dict[str, Any] = {**asdict(reconstruction_error(vae, recorded)), "fireballs": None}
    shown = recorded.frames.numpy()
    if has_labels(world):
        some = np.linspace(0, len(files) - 1, min(LABELLED, len(files))).astype(int)
        replays = [files[i] for i in some], [seeds[i] for i in some]
        labelled = label_frames(world, *replays, workers)
        if len(labelled[0]):
            shown = labelled[0]
            found = fireballs_in(labelled, reconstructed(vae, shown))
            report["fireballs"] = {"episodes": len(some), **recall_by_size(found)}
        else:
            say("the episodes show no fireballs: V's recall of them is not measured")
    pictures = shown[np.linspace(0, len(shown) - 1, min(SHOWN, len(shown))).astype(int)]
    save_picture(folder / "reconstruction.png", pictures, reconstructed(vae, pictures))
    return report


def save_picture(
    path: Path,
    above: UInt8[np.ndarray, "N 64 64 3"],
    below: UInt8[np.ndarray, "N 64 64 3"],
) -> None:
    """A PNG of frames in rows, each above its reconstruction."""
    missing = -len(above) % ACROSS
    pairs = np.concatenate([above, below], axis=1)
    pairs = np.pad(pairs, ((0, missing), (0, GAP), (0, GAP), (0, 0)))
    rows = [np.hstack(list(pairs[i : i + ACROSS])) for i in range(0, len(pairs), ACROSS)]
    large = np.vstack(rows).repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    _, data = cv2.imencode(".png", cv2.cvtColor(large, cv2.COLOR_RGB2BGR))
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
