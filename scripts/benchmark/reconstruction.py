"""How soon V sees: images until its reconstruction is good, by the paper's recipe and by another.

    python -m benchmark.reconstruction RUN IMAGES [RECIPE ...]

trains V on RUN's episodes but the last tenth, by each of these RECIPES, and prints a table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from worldmodels.command_line import CONFIGS, read
from worldmodels.config import Config
from worldmodels.data.dataset import (
    BATCHES_PER_CHUNK,
    EpisodeSource,
    FrameBatch,
    FrameBatches,
    some_frames,
)
from worldmodels.data.episode import episode_files
from worldmodels.diagnostics.table import table_of
from worldmodels.models.vae import VAE
from worldmodels.run import Run, progress, say
from worldmodels.seeding import seed_for, torch_generator
from worldmodels.stages.fit import adam, annealed
from worldmodels.stages.train_vae import (
    CHUNK_EPISODES,
    TrainVAEConfig,
    frames_loss,
    reconstruction_error,
)

CONFIG = read(Config, CONFIGS / "take_cover_paper.yaml")
DOOM = CONFIG.vae
RECIPES = {"paper": TrainVAEConfig(), "sooner": CONFIG.train_vae}
"""The second takes six steps for one, ten times as long at first, and weighs what moves.

A weight of 8 shows small fireballs sooner still, at the cost of the walls; batches of 32, a rate of
2e-3 or the initial weights of He et al. 2015 gain nothing (26,000 images each).
"""
EACH = 20
"""Frames of each held-out episode."""


def reconstruction_curve(
    files: Sequence[Path], config: TrainVAEConfig, images: int, points: int = 8, seed: int = 0
) -> Iterator[dict[str, float]]:
    """Trains V on the episodes but the last tenth, and measures it on those.

    A learning rate that falls comes to its end with the last image.

    Yields:
        After some images the sum of squares of an image, unweighted, and the mean square at pixels
        far from their episode's median image, see `models.vae.moving`.
    """
    split = len(files) * 9 // 10
    held_out, steps = some_frames(files[split:], EACH), images // config.batch_size
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "vae"))
        vae = VAE(DOOM)
    optimizer = adam(vae, config.learning_rate)
    batches = _batches(EpisodeSource(files[:split]), config, seed)
    for step, batch in zip(progress(range(1, steps + 1), "V"), batches, strict=False):
        noise = torch.randn(len(batch.frames), 64, generator=torch_generator(seed, "V", step))
        rate = annealed(config.learning_rate, config.final_learning_rate, step / steps)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        frames_loss(vae, batch, noise, config)[0].backward()
        optimizer.step()
        if step * points // steps > (step - 1) * points // steps:
            sight = reconstruction_error(vae, held_out)
            yield {
                "images": step * config.batch_size,
                "sum_of_squares": sight["error"] * held_out.frames[0].numel(),
                "mean_square_where_it_moves": sight["moving_error"],
            }


def _batches(source: EpisodeSource, config: TrainVAEConfig, seed: int) -> Iterator[FrameBatch]:
    return FrameBatches(
        source=source,
        seed=seed,
        batch_size=config.batch_size,
        chunk_episodes=CHUNK_EPISODES,
        batches_per_chunk=BATCHES_PER_CHUNK * 100 // config.batch_size,
        medians=config.motion_weight > 0,
    ).starting(0)


def _main(folder: str, images: str, *names: str) -> None:
    files, rows = episode_files(Run(Path(folder)).episodes), []
    for name in names or RECIPES:
        for point in reconstruction_curve(files, RECIPES[name], int(images)):
            rows.append({"recipe": name, **point})
            say(str(rows[-1]))
    say(table_of(rows))


if __name__ == "__main__":
    _main(*sys.argv[1:])
