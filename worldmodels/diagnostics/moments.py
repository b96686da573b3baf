"""Moments of the recorded episodes from which dream and reality go on side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from worldmodels.data.starts import Moment
from worldmodels.diagnostics.survival import Course, Paid


def places_of(moments: Sequence[Moment]) -> Int64[np.ndarray, " N"]:
    """Steps before each."""
    return np.array([moment.start for moment in moments], np.int64)


def recorded(moments: Sequence[Moment], horizon: int, paid: Paid) -> Course:
    """What was recorded after them."""
    return Course.joined([_recorded(moment, horizon, paid) for moment in moments])


def _recorded(moment: Moment, horizon: int, paid: Paid) -> Course:
    episode, span = moment.episode, slice(moment.start, moment.start + horizon)
    received = paid(episode.rewards[span], {"count": episode.counts[span]})
    rewards = np.zeros((1, horizon))
    rewards[0, : len(received)] = received
    ends = moment.start + len(received) == len(episode)
    died = ends and bool(episode.terminated[-1])
    cut = ends and not died
    return Course(rewards, np.array([len(received)]), np.array([died]), np.array([cut]))
