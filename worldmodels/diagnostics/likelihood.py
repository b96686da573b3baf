"""How well M predicts the real z: step by step, and the farther it dreams on by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodels.data.dataset import SequenceBatch, collate
from worldmodels.data.episode import LatentEpisode
from worldmodels.errors import InputError
from worldmodels.models.controller import LATENT_BOUND
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.mixture import HALF_LOG_2PI, Mixture
from worldmodels.seeding import numpy_generator

HALF_LOG_2PIE = HALF_LOG_2PI + 0.5
"""Entropy of the standard normal, in nats."""
BATCH = 16
"""Episodes that M reads at once."""


@dataclass(frozen=True)
class HorizonNLL:
    """Nats per dimension of the drawn z at one distance; NaN where no window is long enough."""

    horizon: int
    """Steps from the last frame that M saw."""
    windows: int
    left_out: int
    """Windows whose episode ends before."""
    nll: float
    """M's."""
    nll_limit: float
    """What it would be with endless samples: 2 nll - nll of half as many, for the error of the
    logarithm of a mean falls as 1 / S; NaN for a single sample."""
    entropy: float
    """The posterior's, which nothing can beat; -inf where z is mu alone."""
    copy_z: float
    """Of the normal about the last z seen, with the variance of just these differences."""
    data_normal: float
    """Of the best normal that knows nothing of the window."""
    standard_normal: float
    """Of N(0, 1)."""


@dataclass(frozen=True)
class Predicted:
    """What M said of recorded steps, and what came."""

    pit: Float[np.ndarray, "N Z"]
    """P(z <= the next z) of each dimension, where the next frame is known."""
    end: Float[np.ndarray, " M"] | None
    """Probability of the end at each step, as the head puts it out; none: M has no such head."""
    ended: Bool[np.ndarray, " M"]


def sample_windows(
    episodes: Sequence[LatentEpisode], *, count: int, warmup: int, horizon: int, seed: int
) -> SequenceBatch:
    """Windows of `warmup` frames and up to `horizon` more, at random places of the episodes.

    Longer episodes hold more of them; each has at least one frame to predict.

    Raises:
        InputError: no episode is so long.
    """
    places = [(e, b) for e in episodes for b in range(max(0, len(e.mu) - warmup))]
    if not places:
        raise InputError(
            f"no episode looked at has more than {warmup} frames: raise inspect.episodes, or "
            "collect longer ones"
        )
    chosen = numpy_generator(seed, "windows").integers(len(places), size=count)
    length = warmup - 1 + horizon
    windows = [(*places[i], min(places[i][1] + length, len(places[i][0]))) for i in chosen]
    return collate(windows, length)


@torch.inference_mode()
def nll_by_horizon(
    mdnrnn: MDNRNN,
    batch: SequenceBatch,
    *,
    warmup: int,
    horizons: Sequence[int],
    samples: int,
    latent_noise: float = 1.0,
    generator: torch.Generator,
) -> list[HorizonNLL]:
    """-ln (1/S) Σ_s p(z_k | history_s) of each dimension, averaged over dimensions and windows.

    History s is the window's warm frames and then k - 1 of M's own draws at temperature 1, under
    the recorded actions. By Jensen's inequality few samples look worse than many.

    Args:
        mdnrnn: M.
        batch: windows of `warmup` frames and up to max(horizons) more.
        warmup: frames that M sees.
        horizons: the k, in steps from the last of them.
        samples: S.
        latent_noise: as in training.
        generator: of z's noise and of M's draws.
    """
    z = batch.drawn(latent_noise, generator)
    dreams = _open_loop(mdnrnn, z, batch, warmup, samples, max(horizons), generator)
    found = []
    for horizon, mixture in enumerate(dreams, start=1):
        if horizon in horizons:
            frame = warmup - 1 + horizon
            target = z[:, frame].repeat_interleave(samples, 0)
            log_prob = marginals(mixture).log_prob(target).unflatten(0, (-1, samples))
            known = batch.next_known[:, frame - 1]
            log_stds = 0.5 * batch.logvar[known, frame] + _log(latent_noise)
            parts = log_prob[known], z[known, frame], z[known, warmup - 1], log_stds
            found.append(_beside_baselines(horizon, len(known), *parts))
    return found


def _open_loop(
    mdnrnn: MDNRNN,
    z: Tensor,
    batch: SequenceBatch,
    warmup: int,
    samples: int,
    last: int,
    generator: torch.Generator,
) -> Iterator[Mixture]:
    """The mixtures (B x S, K, Z) of the frames after the warm ones, S histories side by side."""
    seen = (part[:, :warmup] for part in (z, batch.actions, batch.first))
    h, c = (part.repeat_interleave(samples, 0) for part in mdnrnn(*seen)[1])
    later = torch.zeros(len(h))
    mixture = mdnrnn.predict(h).mixture
    yield mixture
    for step in range(warmup, warmup - 1 + last):
        sampled = mixture.sample(generator=generator).clamp_(-LATENT_BOUND, LATENT_BOUND)
        actions = batch.actions[:, step].repeat_interleave(samples, 0)
        h, c = mdnrnn.step(sampled, actions, later, (h, c))
        mixture = mdnrnn.predict(h).mixture
        yield mixture


def marginals(mixture: Mixture) -> Mixture:
    """The law of each dimension by itself; a per-dimension mixture is just that."""
    logits = mixture.logits.expand(mixture.means.shape)
    return Mixture(logits, mixture.means, mixture.log_stds)


def _beside_baselines(
    horizon: int, windows: int, log_prob: Tensor, z: Tensor, present: Tensor, log_stds: Tensor
) -> HorizonNLL:
    """M's nats, of S histories (N, S, Z), beside those of normals made for just these z."""
    nll, half = _nll(log_prob), log_prob.shape[1] // 2
    halves = [_nll(log_prob[:, part]) for part in (slice(half), slice(half, 2 * half))]
    differences, deviations = ((z - center).square().mean(0) for center in (present, z.mean(0)))
    return HorizonNLL(
        horizon,
        len(z),
        windows - len(z),
        nll,
        2 * nll - sum(halves) / 2 if half else math.nan,
        float(HALF_LOG_2PIE + log_stds.mean()),
        float(HALF_LOG_2PIE + 0.5 * differences.log().mean()),
        float(HALF_LOG_2PIE + 0.5 * deviations.log().mean()),
        float(HALF_LOG_2PI + 0.5 * z.square().mean()),
    )


def _nll(log_prob: Tensor) -> float:
    """Of the mean density over the histories (N, S, Z)."""
    return float((math.log(log_prob.shape[1] or 1) - log_prob.logsumexp(1)).mean())


def _log(latent_noise: float) -> float:
    return math.log(latent_noise) if latent_noise > 0 else -math.inf


@torch.inference_mode()
def predict(
    mdnrnn: MDNRNN,
    episodes: Sequence[LatentEpisode],
    latent_noise: float,
    generator: torch.Generator,
) -> Predicted:
    """M on whole recorded episodes, fed with their own z at every step."""
    pits, ends, ended = [], [], []
    for first in range(0, len(episodes), BATCH):
        some = episodes[first : first + BATCH]
        batch = collate([(e, 0, len(e)) for e in some], max(map(len, some)))
        z = batch.drawn(latent_noise, generator)
        prediction, _ = mdnrnn(z[:, :-1], batch.actions, batch.first)
        pits.append(prediction.mixture.pit(z[:, 1:])[batch.next_known].numpy())
        ended.append(batch.terminated[batch.valid].bool().numpy())
        if prediction.termination is not None:
            ends.append(torch.sigmoid(prediction.termination[batch.valid]).numpy())
    end = np.concatenate(ends) if ends else None
    return Predicted(np.concatenate(pits), end, np.concatenate(ended))
