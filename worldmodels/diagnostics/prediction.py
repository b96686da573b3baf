"""How well M predicts held-out episodes: likelihood by horizon, PIT, calibration of the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from worldmodels.data.dataset import collate
from worldmodels.data.episode import LatentEpisode
from worldmodels.errors import InputError
from worldmodels.models.controller import LATENT_BOUND
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.mixture import HALF_LOG_2PI, Mixture
from worldmodels.models.sequence import SequenceBatch
from worldmodels.seeding import numpy_generator

HALF_LOG_2PIE = HALF_LOG_2PI + 0.5
"""Entropy of the standard normal, in nats."""
BATCH = 16
"""Episodes that M reads at once."""
PIT_BINS = 20
PROBABILITY_EDGES = (0.0, 0.001, 0.01, *(i / 10 for i in range(1, 11)))
"""Edges of the calibration's bins: tenths, and finer near 0, because ends are rare."""


@dataclass(frozen=True)
class HorizonNLL:
    """Nats per dimension of the real z at one horizon; NaN if no window is long enough."""

    horizon: int
    """Steps after the last frame that M saw."""
    windows: int
    left_out: int
    """Windows whose episode ends before the horizon."""
    nll: float
    """M's."""
    entropy: float
    """Entropy of V's posterior, which no prediction can beat; -inf where z is mu alone."""
    copy_z: float
    """Of a normal about the last z seen, with the variance of these differences."""
    standard_normal: float
    """Of N(0, 1)."""


def sample_windows(
    episodes: Sequence[LatentEpisode], count: int, warmup: int, horizon: int, seed: int
) -> SequenceBatch:
    """Windows of `warmup` frames and up to `horizon` more, at random places of the episodes.

    All places are equally likely; each window has at least one frame to predict.

    Raises:
        InputError: no episode is long enough.
    """
    places = [(e, b) for e in episodes for b in range(max(0, len(e.mu) - warmup))]
    if not places:
        raise InputError(
            f"no held-out episode has more than {warmup} frames: raise inspect.episodes or lower "
            "dream.warmup"
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

    History s consists of the window's first frames and then k - 1 samples of M at temperature 1,
    under the recorded actions. By Jensen's inequality few samples give a larger value than many.

    Args:
        mdnrnn: M.
        batch: windows of `warmup` frames, which M sees, and up to max(horizons) more.
        warmup: number of these frames.
        horizons: the k, in steps after the last of them.
        samples: S.
        latent_noise: as in training.
        generator: of z's noise and of M's samples.
    """
    z = batch.sample_z(generator, latent_noise)
    mixtures = _open_loop(mdnrnn, z, batch, warmup, samples, max(horizons), generator)
    found = []
    for horizon, mixture in enumerate(mixtures, start=1):
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
    """Mixtures (B x S, K, Z) of the frames after the first `warmup`, S histories side by side."""
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
    """The distribution of each dimension alone, for a joint mixture too."""
    logits = mixture.logits.expand(mixture.means.shape)
    return Mixture(logits, mixture.means, mixture.log_stds)


def _beside_baselines(
    horizon: int, windows: int, log_prob: Tensor, z: Tensor, present: Tensor, log_stds: Tensor
) -> HorizonNLL:
    """M's nats, of S histories (N, S, Z), beside the baselines'."""
    samples, differences = log_prob.shape[1], (z - present).square().mean(0)
    return HorizonNLL(
        horizon=horizon,
        windows=len(z),
        left_out=windows - len(z),
        nll=float((math.log(samples) - log_prob.logsumexp(1)).mean()),
        entropy=float(HALF_LOG_2PIE + log_stds.mean()),
        copy_z=float(HALF_LOG_2PIE + 0.5 * differences.log().mean()),
        standard_normal=float(HALF_LOG_2PI + 0.5 * z.square().mean()),
    )


def _log(latent_noise: float) -> float:
    return math.log(latent_noise) if latent_noise > 0 else -math.inf


@dataclass(frozen=True)
class Predicted:
    """M's predictions of recorded steps, and what was recorded."""

    pit: Float[np.ndarray, "N Z"]
    """P(z <= the next z) of each dimension, where the next frame is known."""
    end: Float[np.ndarray, " M"] | None
    """Probability of the end at each step, as the head gives it; None: M has no such head."""
    ended: Bool[np.ndarray, " M"]


@torch.inference_mode()
def predict(
    mdnrnn: MDNRNN,
    episodes: Sequence[LatentEpisode],
    generator: torch.Generator,
    latent_noise: float = 1.0,
) -> Predicted:
    """M's one-step predictions on whole recorded episodes."""
    pits, ends, ended = [], [], []
    for first in range(0, len(episodes), BATCH):
        some = episodes[first : first + BATCH]
        batch = collate([(e, 0, len(e)) for e in some], max(map(len, some)))
        z = batch.sample_z(generator, latent_noise)
        prediction, _ = mdnrnn(z[:, :-1], batch.actions, batch.first)
        pits.append(prediction.mixture.cdf(z[:, 1:])[batch.next_known].numpy())
        ended.append(batch.terminated[batch.valid].bool().numpy())
        if (head := mdnrnn.find(TerminationHead)) is not None:
            logits = prediction.outputs(head.name)[..., 0]
            ends.append(torch.sigmoid(logits[batch.valid]).numpy())
    end = np.concatenate(ends) if ends else None
    return Predicted(np.concatenate(pits), end, np.concatenate(ended))


@dataclass(frozen=True)
class Uniformity:
    """Probability integral transform: P(z <= the next z) is uniform if M's mixture is right.

    A U-shaped histogram means that the mixture is too narrow, an arch that it is too wide.
    """

    histogram: list[float]
    """Density in equal bins from 0 to 1, over all dimensions."""
    ks: float
    """Kolmogorov-Smirnov distance from uniform, all dimensions together."""
    worst_ks: float
    """The largest distance of a single dimension."""
    worst_dimension: int
    steps: int


def uniformity(pit: Float[np.ndarray, "N Z"]) -> Uniformity:
    """Histogram and distances of the transforms of N steps."""
    each = [_ks(column) for column in pit.T]
    worst = int(np.argmax(each))
    # float32 may round to slightly above 1
    density, _ = np.histogram(pit.clip(0, 1), PIT_BINS, range=(0, 1), density=True)
    return Uniformity(density.tolist(), _ks(pit.ravel()), each[worst], worst, len(pit))


def _ks(values: Float[np.ndarray, " N"]) -> float:
    return float(stats.kstest(values, "uniform", method="asymp").statistic)


@dataclass(frozen=True)
class Bin:
    """The steps with about the same predicted probability."""

    low: float
    high: float
    count: int
    predicted: float
    """Mean probability; NaN in an empty bin, as below."""
    observed: float
    """Share of the steps that ended the episode."""


@dataclass(frozen=True)
class Calibration:
    """Predicted probabilities of the end against observed frequencies."""

    brier: float
    """Mean of (p - y)². Source: Brier 1950 (half of his)."""
    no_skill: float
    """The same for the constant prediction ȳ: ȳ (1 - ȳ)."""
    ece: float
    """Expected calibration error: Σ_bins share of steps x |predicted - observed|.
    Source: Guo et al. 2017, eq. 3."""
    predicted: float
    """Mean probability."""
    observed: float
    """Share of steps that ended the episode."""
    steps: int
    bins: list[Bin]


def calibration(p: Float[np.ndarray, " N"], ended: Bool[np.ndarray, " N"]) -> Calibration:
    """Compares predicted probabilities with what happened."""
    p, share = p.astype(np.float64), float(ended.mean())
    owners = np.digitize(p, PROBABILITY_EDGES[1:-1])
    bins = [
        _bin(low, high, p[owners == i], ended[owners == i])
        for i, (low, high) in enumerate(pairwise(PROBABILITY_EDGES))
    ]
    gaps = [b.count * abs(b.predicted - b.observed) for b in bins if b.count]
    return Calibration(
        brier=float(np.square(p - ended).mean()),
        no_skill=share * (1 - share),
        ece=sum(gaps) / len(p),
        predicted=float(p.mean()),
        observed=share,
        steps=len(p),
        bins=bins,
    )


def _bin(low: float, high: float, p: np.ndarray, ended: np.ndarray) -> Bin:
    if not len(p):
        return Bin(low, high, 0, np.nan, np.nan)
    return Bin(low, high, len(p), float(p.mean()), float(ended.mean()))


def unweighted(p: Float[np.ndarray, " N"], positive_weight: float) -> Float[np.ndarray, " N"]:
    """The probability that a head means if ends weighed w in its training: p / (p + w (1 - p)).

    The weighted cross-entropy is least at w q / (w q + 1 - q) for an event of probability q.
    """
    p = p.astype(np.float64)
    return p / (p + positive_weight * (1 - p))
