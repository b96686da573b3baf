"""Record the short real episodes of a bundle."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from worldmodels.acting.policies import Candidates
from worldmodels.acting.rollout import Step, steps
from worldmodels.artifacts import Bundle
from worldmodels.data.recording import Recording
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.real import RealEnvs
from worldmodels.seeding import environment_seeds

EPISODES = 3
LEAD, LENGTH = 4.0, 12.0
"""Seconds at an episode's start that are left out, if it is long enough, and most seconds kept."""


def record(bundle: Bundle, episodes: int = EPISODES) -> tuple[Recording, ...]:
    """Records the agent in the real environment, on the first test seeds, as `watch` films it.

    There are none without a live environment, and none of an agent whose C does not see its own V
    and M (`controller.senses`): no dream begins in what it has seen.
    """
    if bundle.controller.config.senses != "own" or not bundle.world.config.live:
        return ()
    mode, inputs = AutoresetMode.DISABLED, bundle.controller.config.inputs
    envs = RealEnvs(bundle.world, episodes, autoreset_mode=mode)
    reality = FeatureEnv(envs, bundle.vae, bundle.mdnrnn, bundle.actions, inputs)
    seconds = bundle.world.config.action_repeat / bundle.world.fps
    lead, length = (max(1, round(part / seconds)) for part in (LEAD, LENGTH))
    try:
        observations, _ = reality.reset(seed=environment_seeds("test", 0, episodes))
        moments, taken = [_moment(reality, envs)], list[Step]()
        acting = steps(reality, Candidates.of_bundle(bundle), observations)
        for step in islice(acting, lead + length):
            taken.append(step)
            moments.append(_moment(reality, envs))
    finally:
        reality.close()
    return tuple(_recording(lane, moments, taken, lead, length) for lane in range(episodes))


def _moment(reality: FeatureEnv, envs: RealEnvs) -> list[np.ndarray]:
    """z, h, c and the frame of all lanes."""
    memory = reality.memory
    return [*(part.numpy().copy() for part in (memory.z, memory.h, memory.c)), envs.frames.copy()]


def _recording(
    lane: int, moments: list[list[np.ndarray]], taken: list[Step], lead: int, length: int
) -> Recording:
    mine = [step for step in taken if step.took[lane]]
    begin = min(lead, max(0, len(mine) - length))
    mine, seen = mine[begin:], moments[begin : len(mine)]
    arrays = (
        np.stack([step.actions[lane] for step in mine]),
        np.array([step.rewards[lane] for step in mine], np.float32),
        np.stack([frames[lane] for *_, frames in seen]),
    )
    return Recording.of(
        [torch.from_numpy(part[lane]) for part in seen[0][:3]],
        *map(torch.from_numpy, arrays),
        ended=bool(mine[-1].terminated[lane]),
    )
