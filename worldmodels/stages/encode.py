"""Encode: each frame of the data to its posterior, once."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from worldmodels.bundle import load_vae
from worldmodels.data.episode import Episode, LatentEpisode, episode_files
from worldmodels.errors import check_at_least
from worldmodels.models.vae import VAE, images_of
from worldmodels.run import Metrics, Run, file_hash, files_hash, load_json, progress, save_json, say


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """How frames are encoded."""

    batch_size: int = 256
    """Frames at once."""

    def __post_init__(self) -> None:
        check_at_least("encode", self, 1, "batch_size")


def encode(run: Run, config: EncodeConfig) -> None:
    """Writes latents/ for all episodes so far, with the hash of their V.

    Raises:
        InputError: V or the data is missing or broken.
    """
    weights = run.need(run.vae / "vae.safetensors", "scripts/train_vae.py")
    files = episode_files(*[r.episodes for r in (*run.earlier, run)])
    made_by = file_hash(weights)
    with Metrics(run, "encode") as metrics:
        vae = load_vae(weights)  # before latents of another V are cleared: this one may be broken
        _begin(run, made_by)
        reusable = _reusable(run, made_by)
        steps = 0
        for path in progress(files, "encode"):
            target = run.latents / path.name
            if not target.exists() and path.name in reusable:
                _link(reusable[path.name], target)
            elif not target.exists():
                steps += _encode(vae, path, target, config.batch_size)
        total = files_hash([run.latents / path.name for path in files])
        save_json(
            run.latents / "index.json", {"vae": made_by, "hash": total, "episodes": len(files)}
        )
        metrics.log(len(files), frames=steps)
    say(f"latents of {len(files)} episodes in {run.latents}")


def _begin(run: Run, made_by: str) -> None:
    """Clears latents of another V, and claims the folder for this one."""
    index = run.latents / "index.json"
    if run.latents.exists() and (not index.exists() or load_json(index).get("vae") != made_by):
        shutil.rmtree(run.latents)
    save_json(index, {"vae": made_by, "hash": None})


def _reusable(run: Run, made_by: str) -> dict[str, Path]:
    """Latents of the round before, if the same V made them."""
    if not run.earlier:
        return {}
    folder = run.earlier[-1].latents
    index = load_json(run.need(folder / "index.json", "scripts/encode.py"))
    return {p.name: p for p in folder.glob("*.npz")} if index["vae"] == made_by else {}


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


@torch.inference_mode()
def _encode(vae: VAE, path: Path, target: Path, batch_size: int) -> int:
    episode = Episode.load(path)
    batches = torch.from_numpy(episode.frames).split(batch_size)
    posteriors = [vae.encode(images_of(batch)) for batch in batches]
    mu, logvar = (
        torch.cat(part).numpy().astype(np.float16) for part in zip(*posteriors, strict=True)
    )
    rest = episode.actions, episode.rewards, episode.counts, episode.terminated, episode.truncated
    LatentEpisode(mu, logvar, *rest).save(target)
    return len(mu)
