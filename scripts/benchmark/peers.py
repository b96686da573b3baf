"""What a user would pick instead, where it is installed: EnvPool's CarRacing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmark.timing import Row, Work, side_by_side
from benchmark.worlds import OURS, driving, smooth_actions
from worldmodels.run import say
from worldmodels.workers import one_thread

ENVS = 8


def peer_rows(quick: bool) -> Iterable[Row]:
    """A row for each peer; none, and the command that installs it, if it is not installed."""
    try:
        import envpool
    except ImportError:
        say("the row about EnvPool is left out: pip install envpool")
        return
    steps, rounds = (400, 2) if quick else (1000, 5)
    with one_thread():
        yield side_by_side(
            f"{OURS}, 1 episode of {steps} frames per track, 1 core",
            f"EnvPool's CarRacing-v3, {ENVS} environments, 1 thread",
            "frames/s",
            driving(OURS, steps, ENVS, shared=False),
            _driving_envpool(envpool, steps),
            rounds=rounds,
        )


def _driving_envpool(envpool: Any, steps: int) -> Work:
    """Episodes on tracks never seen before in each call."""
    actions = np.stack([smooth_actions(driver, steps) for driver in range(ENVS)], axis=1)
    envs = envpool.make_gymnasium("CarRacing-v3", num_envs=ENVS, num_threads=1, seed=0)

    def work() -> float:
        envs.reset()
        for action in actions:
            envs.step(action)
        return float(ENVS * steps)

    return work
