"""A run's dream and its real world side by side: the same policies from the same moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from worldmodels.acting.arena import Evaluations
from worldmodels.acting.evaluate import ModelFiles
from worldmodels.data.starts import Moment, starts_of
from worldmodels.diagnostics.moments import places_of, recorded
from worldmodels.diagnostics.policies import Fixed, begin
from worldmodels.diagnostics.reality import Replay, follow_in_reality
from worldmodels.diagnostics.survival import (
    Course,
    compare,
    earned,
    follow,
    in_dreams_currency,
    limits_of,
    return_curve,
    survival_curve,
    survived,
    time_limit,
)
from worldmodels.envs.dream import DreamConfig
from worldmodels.models.action import Actions
from worldmodels.seeding import numpy_generator
from worldmodels.workers import WorkersConfig


@dataclass(frozen=True)
class Worlds:
    """Both, and how they are compared."""

    evaluations: Evaluations
    senses: ModelFiles
    """V and M."""
    dream: DreamConfig
    """Its horizon is that of both."""
    ends: bool
    """M predicts ends: lives are compared, not returns alone."""
    workers: WorkersConfig
    seed: int
    """Of what policies draw."""

    @property
    def kind(self) -> str:
        return "survival" if self.ends else "returns"


def compare_policies(
    worlds: Worlds,
    policies: Sequence[Fixed],
    starts: Sequence[tuple[Moment, int]],
    dreams: int,
) -> dict[str, Any]:
    """What becomes of each policy, by name.

    Args:
        worlds: where.
        policies: who.
        starts: moments where they begin, and the seeds of the environments that lead there.
        dreams: of each moment.
    """
    replays = [
        Replay(seed, moment.episode.actions[: moment.start], (index, "reality"))
        for index, (moment, seed) in enumerate(starts)
    ]
    moments = [moment for moment, _ in starts]
    fixed = worlds.dream.horizon, worlds.seed, worlds.workers
    real = {
        policy.name: follow_in_reality(
            worlds.evaluations.world, worlds.senses, policy, replays, *fixed
        )
        for policy in policies
    }
    places = places_of(moments)
    limits = limits_of(
        places, worlds.dream.horizon, min(time_limit(places, course) for course in real.values())
    )
    return {
        policy.name: _beside(
            worlds, _dreamt(worlds, policy, moments, dreams), real[policy.name], limits
        )
        for policy in policies
    }


def compare_recorded(
    worlds: Worlds, policy: Fixed, moments: Sequence[Moment], max_steps: int
) -> dict[str, Any]:
    """The policy that collected, going on in the dream with fresh draws, and what was recorded.

    Args:
        worlds: of which only the dream is needed.
        policy: who drove the recorded episodes.
        moments: of these.
        max_steps: after which they were cut.
    """
    paid, places = in_dreams_currency(worlds.evaluations.world.config), places_of(moments)
    real = recorded(moments, worlds.dream.horizon, paid)
    limit = min(float(max_steps), time_limit(places, real))
    limits = limits_of(places, worlds.dream.horizon, limit)
    return _beside(worlds, _dreamt(worlds, policy, moments, 1), real, limits)


def _dreamt(worlds: Worlds, policy: Fixed, moments: Sequence[Moment], dreams: int) -> Course:
    """`dreams` lanes from each moment, one moment after the other."""
    lanes, config = len(moments) * dreams, worlds.evaluations.world.config
    starts = starts_of(moments, worlds.dream.window)
    env = worlds.evaluations.make_dream(lanes, starts, worlds.dream)
    names = [divmod(lane, dreams) for lane in range(lanes)]
    generators = [numpy_generator(worlds.seed, policy.name, i, "dream", d) for i, d in names]
    actions = Actions.from_dict(worlds.evaluations.world.action)
    act = begin(policy, actions, generators, config.action_repeat)
    return follow(env, env.begin_at([i for i, _ in names]), act, worlds.dream.horizon)


def _beside(
    worlds: Worlds, dream: Course, real: Course, limits: Int64[np.ndarray, " N"]
) -> dict[str, Any]:
    """Means and curves of both; the dreams of a moment count as one value."""
    dreams = len(dream.lengths) // len(limits)
    every = np.repeat(limits, dreams)
    curve = survival_curve if worlds.ends else return_curve
    found: dict[str, Any] = {"curves": {"dream": curve(dream, every), "real": curve(real, limits)}}
    for name, measure in (("returns", earned), ("survival", survived))[: 1 + worlds.ends]:
        values = measure(dream, every).reshape(-1, dreams).mean(axis=1)
        found[name] = asdict(compare(values, measure(real, limits), worlds.seed))
    return found
