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
TOLERANCE = 0.5
"""Standard deviations of the recorded returns."""


def check_dream(dreams: Dreams, source: EpisodeSource, metrics: Metrics, seed: int) -> None:
    """The sanity band of a dream, before anything is evolved in it, at temperature 1.

    Recorded actions must return in the dream what they returned in reality from the same moments,
    within half a standard deviation of the recorded returns.
    """
    horizon, window = min(dreams.config.horizon, HORIZON), dreams.config.warmup
    replays = sample_replays(source, count=REPLAYS, window=window, horizon=horizon, seed=seed)
    if replays is None:
        return
    config = replace(dreams.config.unweighted, horizon=horizon, temperature=1.0)
    env = dreams.make(len(replays.lengths), replays.starts, config)
    dreamt, recorded = replay(env, replays), recorded_returns(dreams.world, replays)
    metrics.log(0, replay_dream=dreamt.mean(), replay_real=recorded.mean(), engine=env.engine.name)
    metrics.check(
        "the recorded actions' return in the dream, less that in reality, in deviations",
        float(dreamt.mean() - recorded.mean()) / _spread(recorded),
        -TOLERANCE,
        TOLERANCE,
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


def _spread(returns: Float64[np.ndarray, " N"]) -> float:
    """Their standard deviation; at least a fifth of their mean, as all are equal if all survive."""
    return max(float(returns.std()), 0.2 * abs(float(returns.mean())), 1e-6)
