"""Encode: computes the posterior of every frame, once."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from worldmodels.artifacts import claim, link, load_vae, load_world
from worldmodels.data.episode import Episode, LatentEpisode, episode_files
from worldmodels.device import get_device
from worldmodels.envs.mirror import ITSELF, seen_as, views_of
from worldmodels.files import file_hash, load_json, save_json
from worldmodels.models.vae import VAE
from worldmodels.precision import name_of, product_dtype
from worldmodels.run import Metrics, Run, progress, say
from worldmodels.world import EnvConfig

AHEAD = 2
"""Episodes that threads read in advance, and that wait to be written."""


BATCH, GPU_BATCH = 256, 2048
"""Frames that V encodes at once, on the CPU and on a GPU; memory grows with it."""


def encode(run: Run) -> None:
    """Writes the latents of all episodes so far, with the hash of their V.

    Raises:
        InputError: V or the data is missing or broken.
    """
    weights = run.need(run.vae / "vae.safetensors", "worldmodels train-vae")
    files = episode_files(*[r.episodes for r in (*run.earlier, run)])
    made_by = file_hash(weights)
    with Metrics(run, "encode") as metrics:
        vae = load_vae(run)  # may be broken: before latents of another V are removed
        _begin(run, made_by)
        world, steps, made = load_world(run).config, 0, []
        for view in views_of(world):
            target = run.latents / view
            _link_all(_reusable(run, made_by, view), files, target)
            missing = [path for path in files if not (target / path.name).exists()]
            steps += encode_episodes(vae, missing, target, world, view)
            made += [target / path.name for path in files]
        total = file_hash(*made)
        save_json(
            run.latents / "index.json", {"vae": made_by, "hash": total, "episodes": len(files)}
        )
        dtype = product_dtype(get_device())
        metrics.log(len(files), frames=steps, precision=name_of(dtype))
    say(f"latents of {len(files)} episodes in {run.latents}")


def _begin(run: Run, made_by: str) -> None:
    """Removes latents of another V, and says whose latents the folder holds from now on.

    Raises:
        InputError: the folder was not made by this stage.
    """
    index = run.latents / "index.json"
    known = claim(index, "vae")
    if known.get("vae", made_by) != made_by:
        for path in run.latents.rglob("*.npz"):  # before the index, by which they are known
            path.unlink()
    save_json(index, {"vae": made_by, "hash": None})


def _reusable(run: Run, made_by: str, part: str) -> dict[str, Path]:
    """Returns the latents of the round before, if the same V made them."""
    if not run.earlier:
        return {}
    folder = run.earlier[-1].latents
    index = load_json(run.need(folder / "index.json", "worldmodels encode"))
    found = (folder / part).glob("*.npz")
    return {path.name: path for path in found} if index.get("vae") == made_by else {}


def _link_all(reusable: dict[str, Path], files: list[Path], folder: Path) -> None:
    for path in files:
        if path.name in reusable and not (folder / path.name).exists():
            link(reusable[path.name], folder / path.name)


def encode_episodes(
    vae: VAE,
    files: Sequence[Path],
    folder: Path,
    world: EnvConfig,
    view: str = ITSELF,
) -> int:
    """Writes the latents of each file in a view, see `views_of`; on `get_device`.

    Threads read the next episodes and write the last ones meanwhile.

    Returns:
        The number of frames.
    """
    steps, device = 0, get_device()
    if device.type != "cpu":
        vae = copy.deepcopy(vae).to(device)
    with ThreadPoolExecutor(2) as pool:
        written: deque[Future[None]] = deque()
        for path, episode in zip(progress(files, "encode"), _ahead(pool, files), strict=True):
            steps += len(episode.frames)
            latents = _encode(vae, seen_as(world, view, episode), world)
            written.append(pool.submit(latents.save, folder / path.name))
            if len(written) > AHEAD:
                written.popleft().result()
        for future in written:
            future.result()
    return steps


def _ahead(pool: Executor, files: Sequence[Path]) -> Iterator[Episode]:
    """Yields the episodes in order and reads a few in advance."""
    reading = deque(pool.submit(Episode.load, path) for path in files[:AHEAD])
    for path in files[AHEAD:]:
        yield reading.popleft().result()
        reading.append(pool.submit(Episode.load, path))
    while reading:
        yield reading.popleft().result()


def _encode(vae: VAE, episode: Episode, world: EnvConfig) -> LatentEpisode:
    device = vae.posterior.weight.device
    batches = torch.from_numpy(episode.frames).split(BATCH if device.type == "cpu" else GPU_BATCH)
    posteriors = [vae.encode(batch.to(device)) for batch in batches]
    mu, logvar = (
        torch.cat(part).cpu().numpy().astype(np.float16) for part in zip(*posteriors, strict=True)
    )
    counts, marked = episode.counts, np.zeros(len(episode), bool)
    if world.counts_damage:
        counts, marked = np.zeros_like(counts), counts > 0
    numbers = episode.actions, episode.rewards, counts
    flags = episode.terminated, episode.truncated, marked
    return LatentEpisode(mu, logvar, *numbers, *flags)
