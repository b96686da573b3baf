"""V's reconstruction error on recorded frames, everywhere and where something moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from worldmodels.data.dataset import some_frames
from worldmodels.diagnostics.inspection import Inspection, Rows
from worldmodels.files import replacing
from worldmodels.models.vae import VAE, frames_of
from worldmodels.stages.train_vae import CHECKED, reconstruction_error

FRAMES = 4000
"""Recorded frames that are measured."""
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
def reconstructed(vae: VAE, frames: UInt8[np.ndarray, "N S S 3"]) -> UInt8[np.ndarray, "N S S 3"]:
    """Frames encoded and decoded by V, with z = mu."""
    parts = torch.from_numpy(frames).split(CHECKED)
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
