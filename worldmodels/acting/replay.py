"""Is the dream honest? What was recorded in reality, played again in the dream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.starts import Replays, sample_replays
from worldmodels.envs.dream import DreamConfig, DreamEnv
from worldmodels.run import Metrics
from worldmodels.world import World

REPLAYS = 256
"""Start windows that are compared."""
HORIZON = 50
"""Most steps after each."""
TOLERANCE = 0.5
"""Standard deviations of the recorded returns."""


def check_dream(
    make_dream: Callable[..., DreamEnv],
    dream: DreamConfig,
    source: EpisodeSource,
    world: World,
    metrics: Metrics,
    seed: int,
) -> None:
    """The sanity band of a dream, before anything is evolved in it, at temperature 1.

    Recorded actions must return in the dream what they did in reality from the same moments,
    within half a standard deviation of the recorded returns.
    """
    horizon = min(dream.horizon, HORIZON)
    replays = sample_replays(source, count=REPLAYS, window=dream.window, horizon=horizon, seed=seed)
    if replays is None:
        return
    calm = replace(dream.unweighted, horizon=horizon, temperature=1.0)
    env = make_dream(len(replays.lengths), replays.starts, calm)
    dreamt, recorded = replay(env, replays), recorded_returns(world, replays)
    metrics.log(0, replay_dream=dreamt.mean(), replay_real=recorded.mean(), engine=env.engine.name)
    metrics.check(
        "the recorded actions' return in the dream, less that in reality, in deviations",
        float(dreamt.mean() - recorded.mean()) / _spread(recorded),
        -TOLERANCE,
        TOLERANCE,
        "what is evolved in this dream won't hold: train V and M longer or collect more",
    )


def replay(env: DreamEnv, replays: Replays) -> Float64[np.ndarray, " N"]:
    """Returns (N,) of the recorded actions in the dream, until it or the record ends."""
    env.begin_at(range(len(replays.lengths)))
    returns = np.zeros(len(replays.lengths))
    live = np.ones(len(returns), bool)
    for step in range(replays.actions.shape[1]):
        # after a recorded death there are no actions: the last ones are held
        last = np.minimum(step, replays.lengths - 1)
        actions = replays.actions[np.arange(len(last)), last]
        _, rewards, terminated, truncated, _ = env.step(actions)
        returns += rewards * live
        live &= ~(terminated | truncated)
    return returns


def recorded_returns(world: World, replays: Replays) -> Float64[np.ndarray, " N"]:
    """Returns (N,) of the same steps in reality, in the dream's currency."""
    config = world.config
    steps = replays.lengths * config.reward_per_frame * config.action_repeat
    if config.reward == "real":
        return replays.rewards.sum(axis=1, dtype=np.float64)
    return replays.counts.sum(axis=1, dtype=np.float64) * config.reward_per_count + steps


def _spread(returns: Float64[np.ndarray, " N"]) -> float:
    """Their deviation, or a fifth of their mean where they hardly differ (all survived)."""
    return max(float(returns.std()), 0.2 * abs(float(returns.mean())), 1e-6)
