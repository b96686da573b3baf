"""V's reconstruction error on recorded frames, everywhere and where something moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from worldmodels.data.dataset import FrameBatch, median_image
from worldmodels.data.episode import Episode
from worldmodels.diagnostics.inspection import Inspection, Rows
from worldmodels.files import replacing
from worldmodels.models.vae import VAE, frames_of, images_of, kl_divergence, moving

FRAMES = 4000
"""Recorded frames that are measured."""
ACTIVE = 0.1
"""Nats of KL above which a latent counts as active."""
BATCH = 256
SHOWN, ACROSS, SCALE, GAP = 32, 8, 3, 2
"""The picture: number of frames, frames in a row, enlargement, pixels between the pairs."""


def reconstruction(inspection: Inspection) -> Rows:
    """V's error on the held-out episodes; writes reconstruction.png too."""
    files = [path for path, _ in inspection.recorded]
    recorded = some_frames(files, max(1, FRAMES // len(files)))
    save_reconstructions(
        inspection.folder / "reconstruction.png", inspection.vae, recorded.frames.numpy()
    )
    return [reconstruction_error(inspection.vae, recorded)]


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
    return {
        "frames": count,
        "latents": len(kl),
        "active": int((kl > ACTIVE).sum()),
        "kl": float(kl.sum()),
        "error": error_sum / batch.frames.numel(),
        "moving_share": 3 * pixels / batch.frames.numel(),
        "moving_error": there_sum / numbers,
        "median_error": median_sum / numbers,
    }


def some_frames(files: Sequence[Path], each: int) -> FrameBatch:
    """A few frames of each episode, evenly spaced, and the episodes' median images."""
    frames, medians = [], []
    for path in files:
        episode = Episode.load(path).frames
        frames.append(episode[:: -(-len(episode) // each)])
        medians.append(median_image(episode)[None].repeat(len(frames[-1]), 0))
    return FrameBatch(*(torch.from_numpy(np.concatenate(parts)) for parts in (frames, medians)))


@torch.inference_mode()
def reconstructed(vae: VAE, frames: UInt8[np.ndarray, "N S S 3"]) -> UInt8[np.ndarray, "N S S 3"]:
    """Frames encoded and decoded by V, with z = mu."""
    parts = torch.from_numpy(frames).split(BATCH)
    pictures = [frames_of(vae.decode(vae.encode(part)[0])) for part in parts]
    return torch.cat(pictures).numpy()


def save_reconstructions(path: Path, vae: VAE, frames: UInt8[np.ndarray, "N S S 3"]) -> None:
    """A PNG of some of the frames in rows, each above its reconstruction."""
    above = frames[np.linspace(0, len(frames) - 1, min(SHOWN, len(frames))).astype(int)]
    pairs = np.concatenate([above, reconstructed(vae, above)], axis=1)
    pairs = np.pad(pairs, ((0, -len(above) % ACROSS), (0, GAP), (0, GAP), (0, 0)))
    rows = [np.hstack(list(pairs[i : i + ACROSS])) for i in range(0, len(pairs), ACROSS)]
    large = np.vstack(rows).repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    with replacing(path) as temporary:
        Image.fromarray(large).save(temporary, "PNG")
