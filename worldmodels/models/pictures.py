"""Pictures of V and M: reconstructions, single latents, a dream beside the recording."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from worldmodels.models.controller import LATENT_BOUND
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE, frames_of, images_of

BATCH = 256
ACROSS, GAP = 6, 2
"""Pairs of pictures in a row, and the pixels between them."""
LATENTS, VALUES = 8, 7
"""A traversal: how many latents, and at how many values."""
ENDS = 0.01
"""Its values go from this quantile of the latent to the one as far from the other end."""
SEEN, DREAMT, MOMENTS = 16, 48, 9
"""A dream beside the record: frames that M sees first, most steps that it then dreams, and how many
of the moments are shown."""

Picture = UInt8[np.ndarray, "height width 3"]


@torch.inference_mode()
def reconstructions_by_error(
    vae: VAE, frames: UInt8[Tensor, "N S S 3"]
) -> tuple[Picture, list[float]]:
    """Three rows of frames, each above its reconstruction: the worst, the median, the best ones.

    z is mu.

    Returns:
        The picture, and the mean error of each row: the mean square of numbers in [0, 1].
    """
    seen, errors = [], []
    for part in frames.split(BATCH):
        decoded = vae.decode(vae.encode(part)[0])
        errors.append((decoded - images_of(part)).square().mean(dim=(1, 2, 3)))
        seen.append(frames_of(decoded))
    pairs, error = torch.cat([frames, torch.cat(seen)], dim=1).numpy(), torch.cat(errors).numpy()
    order, across = np.argsort(-error, kind="stable"), min(ACROSS, len(frames))
    middle = (len(frames) - across) // 2
    rows = order[:across], order[middle : middle + across], order[-across:]
    return _stacked([_beside(pairs[row]) for row in rows]), [float(error[r].mean()) for r in rows]


@torch.inference_mode()
def traversals(vae: VAE, mu: Float[Tensor, "N Z"]) -> tuple[Picture, list[int]]:
    """Pictures decoded from one z whose latents are changed one at a time, a row for each.

    They are the latents that vary most. The other numbers of z are those of a recorded frame, the
    one nearest to the mean.

    Args:
        vae: V.
        mu: of recorded frames: what values the latents take.

    Returns:
        The picture, and the number of each row's latent.
    """
    chosen = mu.std(dim=0, unbiased=False).argsort(descending=True, stable=True)[:LATENTS]
    base = mu[(mu - mu.mean(dim=0)).square().sum(dim=1).argmin()]
    low, high = mu.quantile(ENDS, dim=0), mu.quantile(1 - ENDS, dim=0)
    rows = []
    for latent in chosen.tolist():
        z = base.repeat(VALUES, 1)
        z[:, latent] = torch.linspace(float(low[latent]), float(high[latent]), VALUES)
        rows.append(_beside(frames_of(vae.decode(z)).numpy()))
    return _stacked(rows), chosen.tolist()


def long_enough(mu: Float[np.ndarray, "T Z"]) -> bool:
    """Whether an episode has enough frames for `dream_beside_record`."""
    return len(mu) >= SEEN + MOMENTS


@torch.inference_mode()
def dream_beside_record(
    vae: VAE,
    mdnrnn: MDNRNN,
    mu: Float[Tensor, "T Z"],
    actions: Float[Tensor, "T_actions A"],
    generator: torch.Generator,
) -> tuple[Picture, list[int]]:
    """A recorded episode above a dream that sees its beginning and then only its actions.

    Both rows are decoded by V. The temperature is 1.

    Args:
        vae: V.
        mdnrnn: M.
        mu: of the episode's frames.
        actions: those taken.
        generator: of the dream's noise.

    Returns:
        The picture, and the steps that the dream has gone on alone at each moment.
    """
    last = min(len(mu) - SEEN, DREAMT)
    first = torch.zeros(1, SEEN - 1)
    first[:, 0] = 1.0
    _, state = mdnrnn(mu[None, : SEEN - 1], actions[None, : SEEN - 1], first)
    z, later = mu[None, SEEN - 1], torch.zeros(1)
    dreamt = [z]
    for step in range(SEEN - 1, SEEN - 1 + last):
        state = mdnrnn.step(z, actions[None, step], later, state)
        z = mdnrnn.predict(state[0]).mixture.sample(generator=generator)
        z = z.clamp(-LATENT_BOUND, LATENT_BOUND)
        dreamt.append(z)
    moments = np.linspace(0, last, MOMENTS).astype(int).tolist()
    record = mu[[SEEN - 1 + moment for moment in moments]]
    dream = torch.cat([dreamt[moment] for moment in moments])
    rows = (frames_of(vae.decode(z)).numpy() for z in (record, dream))
    return _stacked([_beside(row) for row in rows]), moments


def _beside(pictures: UInt8[np.ndarray, "N h w 3"]) -> Picture:
    return np.hstack(list(np.pad(pictures, ((0, 0), (0, 0), (0, GAP), (0, 0)))))[:, :-GAP]


def _stacked(rows: list[np.ndarray]) -> Picture:
    return np.vstack([np.pad(row, ((0, GAP), (0, 0), (0, 0))) for row in rows])[:-GAP]
