"""Policies that stay as they are: followed in the dream and in reality from the same starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from worldmodels.acting.evaluate import BASELINES, population_policy, swept
from worldmodels.acting.policies import ExploreConfig, Explorer
from worldmodels.acting.rollout import Policy
from worldmodels.files import load_json
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller
from worldmodels.world import EnvConfig


@dataclass(frozen=True)
class Exploring:
    """The policy that collects, or the one that draws every action uniformly."""

    name: str = "random"
    config: ExploreConfig = field(default_factory=lambda: ExploreConfig(policy="uniform"))


@dataclass(frozen=True)
class Blind:
    """An entry of baselines.json: `constant` or `sweep`, in the environment's own actions."""

    name: str
    policy: str
    argument: Any


@dataclass(frozen=True)
class Driving:
    """A controller, the only one that looks."""

    name: str
    controller: Controller
    parameters: Float64[np.ndarray, " N"]


Fixed = Exploring | Blind | Driving
"""A policy before it begins; it can be sent to a worker."""


def policies_of(
    env: EnvConfig, explore: ExploreConfig, driving: Driving | None = None
) -> list[Fixed]:
    """Random, the one that collected (if it has no eyes), the world's blind ones, the run's C."""
    found: list[Fixed] = [Exploring()]
    if explore.policy != "random_network":
        found.append(Exploring("explorer", explore))
    for entry in load_json(BASELINES).get(env.id, []):
        found.append(Blind(entry["name"], entry["policy"], entry["argument"]))
    return found if driving is None else [*found, driving]


def begin(
    policy: Fixed,
    actions: Actions,
    generators: Sequence[np.random.Generator],
    action_repeat: int,
) -> Policy:
    """The policy at its first step, on one lane per generator; it gives actions a."""
    match policy:
        case Exploring():
            return Explorer(policy.config, actions, generators)
        case Driving():
            return population_policy(policy.controller, policy.parameters[None], actions)
        case Blind():
            return _blind(policy, actions, len(generators), action_repeat)


def _blind(policy: Blind, actions: Actions, lanes: int, action_repeat: int) -> Policy:
    """All lanes do the same, by the clock."""
    frame = -action_repeat

    def act(_: np.ndarray) -> np.ndarray:
        nonlocal frame
        frame += action_repeat
        own = swept(frame, policy.argument) if policy.policy == "sweep" else policy.argument
        return np.repeat(actions.from_environment(np.array([own])), lanes, axis=0)

    return act
