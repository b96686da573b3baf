"""The end of dreams: a head that learns, on M's own dreams, when the recorded episodes ended.

A dreamt h is not quite what real frames would have left: danger stays with the lanes that have it,
safety with the others, and a head that knows real frames alone lets dreamers live too long. So M
dreams on from recorded moments with the recorded actions, and this head learns from those h alone
whether the episode had ended by then. The rest of M stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import numbers_of
from worldmodels.data.moments import Moment, draw_moments
from worldmodels.data.starts import WINDOW, starts_of
from worldmodels.envs.dream import warm
from worldmodels.errors import InputError, check_above_zero, check_at_least
from worldmodels.models.checkpoint import adam, annealed
from worldmodels.models.engine import DreamState, Step, engine_for
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.noise import Noise
from worldmodels.run import Metrics, progress
from worldmodels.seeding import seed_for, torch_generator

LANES = 1000
"""Dreamt side by side."""

Rows = tuple[Float[Tensor, "N H"], Float[Tensor, " N"]]
"""Dreamt h in half precision, and whether the recorded episode ended at that step."""


@dataclass(frozen=True, kw_only=True)
class DreamtEndConfig:
    """How the head for the end of dreams learns."""

    starts: int = 8000
    """Recorded moments from which M dreams."""
    steps: int = 40
    """Dreamt from each, at most."""
    batches: int = 3000
    """Batches of dreamt steps."""
    batch_size: int = 4096
    """Steps of each."""
    learning_rate: float = 2e-3
    """Adam's at first; it falls to 0 along a half cosine."""

    def __post_init__(self) -> None:
        check_at_least("train_mdnrnn.dreamt_end", self, 1, "starts", "steps", "batches")
        check_at_least("train_mdnrnn.dreamt_end", self, 1, "batch_size")
        check_above_zero("train_mdnrnn.dreamt_end", self, "learning_rate")


def learn_dreamt_end(
    mdnrnn: MDNRNN, source: EpisodeSource, config: DreamtEndConfig, seed: int, metrics: Metrics
) -> None:
    """Fits the head for dreams; it begins as the one for real frames.

    Of the first round's episodes only: its collector doesn't look, so it would have done in the
    dream what it did in reality, where a controller that looks would have dodged other things.

    Args:
        mdnrnn: has learnt all else.
        source: latents.
        config: how.
        seed: of moments, noise and batches.
        metrics: where shares of steps that end are logged, as foretold before and after, and as
            recorded.

    Raises:
        InputError: no episode is long enough to begin in.
    """
    assert mdnrnn.dreamt_end is not None
    mdnrnn.dreamt_end.load_state_dict({k: v[-1:] for k, v in mdnrnn.head.state_dict().items()})
    moments = _moments(source, config.starts, seed_for(seed, "dreamt end"))
    groups = [moments[i : i + LANES] for i in range(0, len(moments), LANES)]
    bar = progress(groups, "dreamt end: dream", total=len(groups))
    seeds = [seed_for(seed, "dreams", i) for i in range(len(groups))]
    dreamt = [_dream(mdnrnn, *of, config.steps) for of in zip(bar, seeds, strict=True)]
    h, ended = (torch.cat(parts) for parts in zip(*dreamt, strict=True))
    before = _foretold(mdnrnn, h)
    _fit(mdnrnn.dreamt_end, (h, ended), config, seed)
    shares = {"before": before, "after": _foretold(mdnrnn, h), "recorded": float(ended.mean())}
    metrics.log(config.batches, **{f"dreamt_end_{name}": share for name, share in shares.items()})


def _moments(source: EpisodeSource, count: int, seed: int) -> list[Moment]:
    files = [*source.old, *source.new]
    first = min(numbers_of(path)[0] for path in files)
    chosen = EpisodeSource([path for path in files if numbers_of(path)[0] == first])
    if not (moments := draw_moments(chosen, count=count, window=WINDOW, seed=seed)):
        raise InputError(
            f"mdnrnn.dreamt_end needs episodes of at least {WINDOW} steps: collect longer ones, or "
            "set it to false"
        )
    return moments


@torch.inference_mode()
def _dream(mdnrnn: MDNRNN, moments: Sequence[Moment], seed: int, steps: int) -> Rows:
    """Dreams from these moments with the recorded actions, while the recorded episodes go on."""
    z, h, c, first = warm(mdnrnn, starts_of(moments, WINDOW))
    state, lanes = DreamState(z, h, c, first), len(moments)
    noise = Noise(lanes, mdnrnn.uniforms, mdnrnn.latent_size)
    noise.begin(range(lanes), [(seed, lane) for lane in range(lanes)])
    engine = engine_for(mdnrnn, "auto", lanes)
    actions, left, died = _recorded(moments, steps)
    seen, ended = [], []
    for step in range(steps):
        there = np.flatnonzero(left > step)
        rows = noise.rows(there, np.full(len(there), step))
        engine.step(Step(there, actions[:, step], noise.tape, rows, 1.0), state)
        state.first.zero_()
        seen.append(state.h[torch.from_numpy(there)].half())
        ended.append(torch.from_numpy(died[there] & (left[there] == step + 1)).float())
    return torch.cat(seen), torch.cat(ended)


def _recorded(
    moments: Sequence[Moment], steps: int
) -> tuple[Float[np.ndarray, "E T A"], np.ndarray, Bool[np.ndarray, " E"]]:
    """Actions after each moment, the steps until its episode is over, and whether it ended then."""
    episodes = [moment.episode for moment in moments]
    actions = np.zeros((len(moments), steps, episodes[0].actions.shape[1]), np.float32)
    for row, moment in zip(actions, moments, strict=True):
        done = moment.episode.actions[moment.start : moment.start + steps]
        row[: len(done)] = done
    left = np.array([len(moment.episode) - moment.start for moment in moments])
    return actions, left, np.array([bool(episode.terminated[-1]) for episode in episodes])


def _fit(head: nn.Linear, rows: Rows, config: DreamtEndConfig, seed: int) -> None:
    """Binary cross-entropy over all rows."""
    head.requires_grad_(True)
    optimizer = adam(head, config.learning_rate)
    generator = torch_generator(seed, "dreamt end batches")
    for batch in progress(range(config.batches), "dreamt end: learn"):
        for group in optimizer.param_groups:
            group["lr"] = annealed(config.learning_rate, 0.0, batch / config.batches)
        index = torch.randint(len(rows[0]), (config.batch_size,), generator=generator)
        h, ended = rows[0][index].float(), rows[1][index]
        loss = functional.binary_cross_entropy_with_logits(head(h).squeeze(-1), ended)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.requires_grad_(False)


@torch.inference_mode()
def _foretold(mdnrnn: MDNRNN, h: Float[Tensor, "N H"]) -> float:
    """Mean probability of the end."""
    assert mdnrnn.dreamt_end is not None
    return float(torch.sigmoid(mdnrnn.dreamt_end(h.float())).mean())
