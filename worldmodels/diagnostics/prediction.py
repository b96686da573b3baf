"""How well M predicts held-out episodes: likelihood by horizon, rewards, PIT, the end, risks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from worldmodels.data.dataset import collate
from worldmodels.data.episode import LatentEpisode
from worldmodels.diagnostics.inspection import Inspection, Rows
from worldmodels.errors import InputError
from worldmodels.models.action import choices_of
from worldmodels.models.controller import LATENT_BOUND
from worldmodels.models.heads.reward import Payer
from worldmodels.models.heads.risk import RiskHead
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.mdnrnn import MDNRNN, Prediction
from worldmodels.models.mixture import HALF_LOG_2PI, Mixture
from worldmodels.models.sequence import SequenceBatch
from worldmodels.seeding import numpy_generator, torch_generator

HALF_LOG_2PIE = HALF_LOG_2PI + 0.5
"""Entropy of the standard normal, in nats."""
WINDOWS, HORIZONS, SAMPLES = 500, (1, 5, 15, 50), 16
"""Windows from which z is predicted, steps ahead, and M's sampled histories of each window."""
BATCH = 16
"""Episodes that M reads at once."""
PIT_BINS = 20
PROBABILITY_EDGES = (0.0, 0.001, 0.01, *(i / 10 for i in range(1, 11)))
"""Edges of the calibration's bins: tenths, and finer near 0, because ends are rare."""
LARGEST = 0.01
"""Share of the steps whose rewards are compared as the largest."""


def likelihood(inspection: Inspection) -> Rows:
    """M's nats at some horizons, beside those of simpler predictions."""
    warmup, seed = inspection.config.dream.warmup, inspection.seed
    windows = sample_windows(inspection.episodes, WINDOWS, warmup, HORIZONS[-1], seed)
    generator = torch_generator(seed, "likelihood")
    return nll_by_horizon(
        inspection.mdnrnn,
        windows,
        warmup=warmup,
        horizons=HORIZONS,
        samples=SAMPLES,
        generator=generator,
    )


def pit(inspection: Inspection) -> Rows:
    """How uniform P(z <= the next z) is."""
    generator = torch_generator(inspection.seed, "predicted")
    return [uniformity(transforms(inspection.mdnrnn, inspection.episodes, generator))]


def reward(inspection: Inspection) -> Rows:
    """Mean predicted and real rewards, or counts; M may have no such head."""
    head = inspection.mdnrnn.find(Payer)
    if head is None:
        return []
    generator = torch_generator(inspection.seed, "predicted")
    return rewards_beside(
        *predicted_rewards(inspection.mdnrnn, head, inspection.episodes, generator)
    )


def termination(inspection: Inspection) -> Rows:
    """Calibration of the end, as M gives it and corrected for its loss; M may have no such head."""
    head = inspection.mdnrnn.find(TerminationHead)
    if head is None:
        return []
    generator = torch_generator(inspection.seed, "predicted")
    p, ended = predicted_ends(inspection.mdnrnn, inspection.episodes, generator)
    corrected = f"corrected for weight {head.positive_weight:g}"
    return [
        {"probability": "raw", **calibration(p, ended)},
        {"probability": corrected, **calibration(unweighted(p, head.positive_weight), ended)},
    ]


def risk(inspection: Inspection) -> Rows:
    """M's risks of the chosen actions against what followed; M may have no such head."""
    mdnrnn, rows = inspection.mdnrnn, Rows()
    head = mdnrnn.find(RiskHead)
    if head is None:
        return rows
    for one in inspection.held_out:
        episodes = [LatentEpisode.load(path) for path in one.latents]
        generator = torch_generator(inspection.seed, "predicted")
        for horizon, found in predicted_risks(mdnrnn, head, episodes, generator).items():
            rows.append({"recorded_by": one.driver, "within": horizon, **skill(*found)})
    return rows


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
    generator: torch.Generator,
) -> Rows:
    """-ln (1/S) Σ_s p(z_k | history_s) of each dimension, averaged over dimensions and windows.

    History s consists of the window's first frames and then k - 1 samples of M at temperature 1,
    under the recorded actions. By Jensen's inequality few samples give a larger value than many.

    Args:
        mdnrnn: M.
        batch: windows of `warmup` frames, which M sees, and up to max(horizons) more.
        warmup: number of these frames.
        horizons: the k, in steps after the last of them.
        samples: S.
        generator: of z's noise and of M's samples.

    Returns:
        Of each horizon: M's nats per dimension (`nll`), and those of the entropy of V's posterior,
        which no prediction can beat (`entropy`), of a normal about the last z seen, with the
        variance of these differences (`copy_z`), and of N(0, 1) (`standard_normal`). NaN if no
        window is long enough; the shorter ones are `left_out`.
    """
    z = batch.sample_z(generator)
    mixtures = _open_loop(mdnrnn, z, batch, warmup, samples, max(horizons), generator)
    found = []
    for horizon, mixture in enumerate(mixtures, start=1):
        if horizon in horizons:
            frame = warmup - 1 + horizon
            target = z[:, frame].repeat_interleave(samples, 0)
            log_prob = marginals(mixture).log_prob(target).unflatten(0, (-1, samples))
            known = batch.next_known[:, frame - 1]
            differences = (z[known, frame] - z[known, warmup - 1]).square().mean(0)
            nll = math.log(samples) - log_prob[known].logsumexp(1)
            row = {
                "nll": nll.mean(),
                "entropy": HALF_LOG_2PIE + 0.5 * batch.logvar[known, frame].mean(),
                "copy_z": HALF_LOG_2PIE + 0.5 * differences.log().mean(),
                "standard_normal": HALF_LOG_2PI + 0.5 * z[known, frame].square().mean(),
            }
            count = int(known.sum())
            counts = {"windows": count, "left_out": len(known) - count}
            numbers = {name: float(value) for name, value in row.items()}
            found.append({"steps_ahead": horizon, **numbers, **counts})
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


@torch.inference_mode()
def _predictions(
    mdnrnn: MDNRNN,
    episodes: Sequence[LatentEpisode],
    generator: torch.Generator,
    padding: int = 0,
) -> Iterator[tuple[Prediction, Tensor, SequenceBatch]]:
    """M's one-step predictions on whole recorded episodes, and z (B, T + 1, Z).

    Every episode is followed by at least `padding` steps that do not exist.
    """
    for first in range(0, len(episodes), BATCH):
        some = episodes[first : first + BATCH]
        batch = collate([(e, 0, len(e)) for e in some], max(map(len, some)) + padding)
        z = batch.sample_z(generator)
        yield mdnrnn(z[:, :-1], batch.actions, batch.first)[0], z, batch


def transforms(
    mdnrnn: MDNRNN, episodes: Sequence[LatentEpisode], generator: torch.Generator
) -> Float[np.ndarray, "N Z"]:
    """P(z <= the next z) of each dimension, where the next frame is known."""
    found = _predictions(mdnrnn, episodes, generator)
    parts = [p.mixture.cdf(z[:, 1:])[batch.next_known].numpy() for p, z, batch in found]
    return np.concatenate(parts)


def predicted_ends(
    mdnrnn: MDNRNN, episodes: Sequence[LatentEpisode], generator: torch.Generator
) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Probability of the end at each step, as the head gives it, and whether it ended."""
    p, ended = [], []
    for prediction, _, batch in _predictions(mdnrnn, episodes, generator):
        logits = prediction.outputs(TerminationHead.name)[..., 0]
        p.append(torch.sigmoid(logits[batch.valid]).numpy())
        ended.append(batch.terminated[batch.valid].bool().numpy())
    return np.concatenate(p), np.concatenate(ended)


@torch.inference_mode()
def predicted_risks(
    mdnrnn: MDNRNN,
    head: RiskHead,
    episodes: Sequence[LatentEpisode],
    generator: torch.Generator,
) -> dict[int, tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]]:
    """For each horizon, the risk after the action that was chosen, and what came.

    Returns:
        Probabilities, and whether damage or the end came within so many steps: of all steps but an
        episode's first, where that is known.
    """
    p, came = ({horizon: list[np.ndarray]() for horizon in head.horizons} for _ in range(2))
    found = _predictions(mdnrnn, episodes, generator, padding=max(head.horizons))
    for prediction, z, batch in found:
        log_odds = head.features(mdnrnn, z[:, 1:-1], prediction.h[:, :-1])
        risks = torch.sigmoid(log_odds.double())
        choices = choices_of(batch.actions[:, 1:], head.choices)
        chosen = (risks.unflatten(-1, (-1, head.choices)) * choices[..., None, :]).sum(-1)
        for place, horizon in enumerate(head.horizons):
            target, known = head.target(batch, horizon)
            p[horizon].append(chosen[..., place][known].numpy())
            came[horizon].append(target[known].bool().numpy())
    return {horizon: (np.concatenate(p[horizon]), np.concatenate(came[horizon])) for horizon in p}


def predicted_rewards(
    mdnrnn: MDNRNN, head: Payer, episodes: Sequence[LatentEpisode], generator: torch.Generator
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """What M expects of each step, what it earned, and whether the episode ended there."""
    predicted, real, ended = [], [], []
    for prediction, _, batch in _predictions(mdnrnn, episodes, generator):
        expected = head.expected(prediction.outputs(head.name))
        predicted.append(expected[batch.valid].numpy())
        real.append(head.target(batch)[batch.valid].numpy())
        ended.append(batch.terminated[batch.valid].bool().numpy())
    return np.concatenate(predicted), np.concatenate(real), np.concatenate(ended)


def rewards_beside(
    predicted: Float[np.ndarray, " N"], real: Float[np.ndarray, " N"], ended: Bool[np.ndarray, " N"]
) -> Rows:
    """Means of predicted and real rewards: of all steps, where episodes end, of the largest.

    Returns:
        Of each: the number of `steps`; both means; and the `error`, the difference as a share of
        the real mean, or of the mean absolute reward of all steps where that is larger. The
        largest are 1% of the steps, by the absolute value of their real rewards.
    """
    largest = np.argsort(-np.abs(real), kind="stable")[: math.ceil(LARGEST * len(real))]
    scale, rows = float(np.abs(real).mean(dtype=np.float64)), []
    everything = np.arange(len(real))
    places = {"all": everything, "ends": everything[ended], "largest": largest}
    for place, steps in places.items():
        mine, theirs = predicted[steps].astype(np.float64), real[steps].astype(np.float64)
        if len(mine):
            means = float(mine.mean()), float(theirs.mean())
            error = (means[0] - means[1]) / (max(abs(means[1]), scale) or 1.0)
            rows.append(
                {
                    "at": place,
                    "steps": len(mine),
                    "predicted": means[0],
                    "real": means[1],
                    "error": error,
                }
            )
    return rows


def uniformity(transforms: Float[np.ndarray, "N Z"]) -> dict[str, Any]:
    """Kolmogorov-Smirnov distances and histogram of the probability integral transforms of N steps.

    They are uniform if M's mixture is right. A U-shaped histogram means that it is too narrow, an
    arch that it is too wide.
    """
    each = [_ks(column) for column in transforms.T]
    worst = int(np.argmax(each))
    # float32 may round to slightly above 1
    density, _ = np.histogram(transforms.clip(0, 1), PIT_BINS, range=(0, 1), density=True)
    return {
        "steps": len(transforms),
        "ks": _ks(transforms.ravel()),
        "worst_ks": each[worst],
        "worst_dimension": worst,
        "histogram": density.tolist(),
    }


def _ks(values: Float[np.ndarray, " N"]) -> float:
    return float(stats.kstest(values, "uniform", method="asymp").statistic)


def calibration(p: Float[np.ndarray, " N"], ended: Bool[np.ndarray, " N"]) -> dict[str, Any]:
    """Predicted probabilities of the end against observed frequencies.

    Returns:
        The means of both; `brier`, the mean of (p - y)² (Brier 1950, half of his), and the same
        without skill, for the constant ȳ; `ece`, the expected calibration error, Σ_bins share of
        steps x |predicted - observed| (Guo et al. 2017, eq. 3); and the `bins`, NaN where empty.
    """
    p, share = p.astype(np.float64), float(ended.mean())
    owners = np.digitize(p, PROBABILITY_EDGES[1:-1])
    bins = [
        {
            "high": high,
            "count": int((mine := owners == i).sum()),
            "predicted": float(p[mine].mean()) if mine.any() else np.nan,
            "observed": float(ended[mine].mean()) if mine.any() else np.nan,
        }
        for i, high in enumerate(PROBABILITY_EDGES[1:])
    ]
    gaps = [b["count"] * abs(b["predicted"] - b["observed"]) for b in bins if b["count"]]
    return {
        "steps": len(p),
        "predicted": float(p.mean()),
        "observed": share,
        "brier": float(np.square(p - ended).mean()),
        "no_skill": share * (1 - share),
        "ece": sum(gaps) / len(p),
        "bins": bins,
    }


def skill(p: Float[np.ndarray, " N"], came: Bool[np.ndarray, " N"]) -> dict[str, Any]:
    """How well predicted probabilities tell the steps apart.

    Returns:
        The means of the probabilities and of what came; `cross_entropy`, as a share of that of the
        constant mean of what came: 0 is perfect, 1 without skill; and `auc`, the probability that
        of two steps the one where it came has the higher prediction (ties count half). Both are NaN
        where it came always or never.
    """
    predicted, observed = (float(x.mean()) if len(x) else np.nan for x in (p, came))
    cross_entropy = auc = np.nan
    if 0 < observed < 1:
        constant = -observed * math.log(observed) - (1 - observed) * math.log(1 - observed)
        cross_entropy = float(-np.where(came, np.log(p), np.log1p(-p)).mean() / constant)
        higher, lower = p[came], p[~came]
        auc = float(stats.mannwhitneyu(higher, lower).statistic / (len(higher) * len(lower)))
    return {
        "steps": len(p),
        "predicted": predicted,
        "observed": observed,
        "cross_entropy": cross_entropy,
        "auc": auc,
    }


def unweighted(p: Float[np.ndarray, " N"], positive_weight: float) -> Float[np.ndarray, " N"]:
    """The probability that a head means if ends weighed w in its training: p / (p + w (1 - p)).

    The weighted cross-entropy is least at w q / (w q + 1 - q) for an event of probability q.
    """
    p = p.astype(np.float64)
    return p / (p + positive_weight * (1 - p))
