"""Recorded actions, replayed in the dream: do they return what they returned in reality?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from worldmodels.acting.environments import Dreams
from worldmodels.acting.policies import Recorded
from worldmodels.acting.rollout import steps, totals
from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.starts import Replays, sample_replays
from worldmodels.envs.dream import DreamEnv
from worldmodels.run import Metrics
from worldmodels.world import World

REPLAYS = 256
"""Start windows that are compared."""
HORIZON = 50
"""Most steps after each."""
DEVIATIONS, SHARE = 0.5, 0.1
"""The dream's mean return may differ by so many standard deviations of the recorded returns, or by
this share of their mean, where all are nearly equal."""


def check_dream(dreams: Dreams, source: EpisodeSource, metrics: Metrics, seed: int) -> None:
    """Checks, at temperature 1, that recorded actions return in the dream what they did in reality.

    Both begin at the same moments. A return outside the band prints one line, see `Metrics.check`.
    """
    horizon, window = min(dreams.config.horizon, HORIZON), dreams.config.warmup
    replays = sample_replays(source, count=REPLAYS, window=window, horizon=horizon, seed=seed)
    if replays is None:
        return
    config = replace(dreams.config.unweighted, horizon=horizon, temperature=1.0)
    env = dreams.make(len(replays.lengths), replays.starts, config)
    dreamt, recorded = replay(env, replays).mean(), recorded_returns(dreams.world, replays)
    real = float(recorded.mean())
    margin = max(DEVIATIONS * float(recorded.std()), SHARE * abs(real))
    metrics.log(0, replay_dream=dreamt, replay_real=real, engine=env.engine.name)
    metrics.check(
        f"the recorded actions' return in the dream ({real:.4g} in reality)",
        float(dreamt),
        real - margin,
        real + margin,
        "what is evolved in this dream will not hold: train V and M longer or collect more",
    )


def replay(env: DreamEnv, replays: Replays) -> Float64[np.ndarray, " N"]:
    """Returns of the recorded actions in the dream, until it or the record ends."""
    observations = env.begin_at(range(len(replays.lengths)))
    rows = [row[:length] for row, length in zip(replays.actions, replays.lengths, strict=True)]
    taken = steps(env, Recorded(rows), observations, max_steps=replays.actions.shape[1])
    return totals(taken, len(rows))[0]


def recorded_returns(world: World, replays: Replays) -> Float64[np.ndarray, " N"]:
    """Returns of the same steps in reality, with rewards as the dream computes them."""
    config = world.config
    steps = replays.lengths * config.reward_per_frame * config.action_repeat
    if config.reward == "real":
        return replays.rewards.sum(axis=1, dtype=np.float64)
    return replays.counts.sum(axis=1, dtype=np.float64) * config.reward_per_count + steps
