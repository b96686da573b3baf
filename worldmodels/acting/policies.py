"""Policies: they choose the actions of all lanes, in any environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Shaped

from worldmodels.artifacts import Bundle
from worldmodels.files import load_json
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller
from worldmodels.world import World

BASELINES = Path(__file__).parent / "baselines.json"
"""The best open-loop policies, found once for each environment by worldmodels find-baselines."""


@runtime_checkable
class Policy(Protocol):
    """Chooses the actions a of all lanes, step after step.

    `live` marks the lanes that go on; what is chosen for the others is not done.
    """

    def __call__(
        self, observations: Shaped[np.ndarray, "E ..."], live: Bool[np.ndarray, " E"]
    ) -> Float32[np.ndarray, "E A"]: ...


class Candidates:
    """The controllers of a population: candidate p acts on lanes p * R to p * R + R - 1."""

    def __init__(
        self, controller: Controller, parameters: Float[np.ndarray, "P N"], actions: Actions
    ) -> None:
        self.controller, self.actions = controller, actions
        self.parameters = torch.from_numpy(np.ascontiguousarray(parameters, np.float32))

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Candidates:
        """The controller of a bundle, on all lanes."""
        return cls(bundle.controller, bundle.parameters[None].numpy(), bundle.actions)

    def __call__(
        self, observations: Float32[np.ndarray, "E F"], live: Bool[np.ndarray, " E"]
    ) -> Float32[np.ndarray, "E A"]:
        features = torch.from_numpy(observations)
        features = features.view(len(self.parameters), -1, observations.shape[-1])
        actions = self.actions.bound(self.controller.act(self.parameters, features))
        return actions.reshape(len(observations), -1).numpy()


class Recorded:
    """Recorded actions, one row for each lane; where a row is over, its last action is held."""

    def __init__(self, rows: Sequence[Float32[np.ndarray, "_ A"]]) -> None:
        self.rows, self.step = rows, 0

    def __call__(
        self, observations: Shaped[np.ndarray, "E ..."], live: Bool[np.ndarray, " E"]
    ) -> Float32[np.ndarray, "E A"]:
        actions = np.stack([row[min(self.step, len(row) - 1)] for row in self.rows])
        self.step += 1
        return actions


@dataclass(frozen=True)
class Baseline:
    """An open-loop policy, in the environment's own actions.

    `random` samples uniformly at every step; `constant` repeats `argument`; `sweep` goes left (2)
    for the first half of every `argument` frames and right (1) for the second.
    """

    name: str
    policy: Literal["random", "constant", "sweep"]
    argument: Any = None

    @classmethod
    def shipped(cls, world: World) -> list[Baseline]:
        """The open-loop policies that the package has for an environment; for most it has none."""
        found = load_json(BASELINES).get(world.config.id, [])
        ones = (cls(entry["name"], entry["policy"], entry["argument"]) for entry in found)
        return [one for one in ones if one._fits(Actions.from_dict(world.action))]

    def _fits(self, actions: Actions) -> bool:
        if self.policy == "constant" and isinstance(self.argument, list):
            return actions.kind == "box" and len(self.argument) == actions.size
        return actions.choices == 3


RANDOM = Baseline("random", "random")


class OpenLoop:
    """Plays a baseline on one lane per generator."""

    def __init__(
        self,
        baseline: Baseline,
        actions: Actions,
        generators: Sequence[np.random.Generator],
        action_repeat: int = 1,
        space: gymnasium.Space[Any] | None = None,
    ) -> None:
        """`space` is the environment's own action space; only `random` needs it."""
        self.baseline, self.actions, self.generators = baseline, actions, generators
        self.action_repeat, self.space, self.frame = action_repeat, space, 0

    def __call__(
        self, observations: Shaped[np.ndarray, "E ..."], live: Bool[np.ndarray, " E"]
    ) -> Float32[np.ndarray, "E A"]:
        own = np.stack([self._own(generator) for generator in self.generators])
        self.frame += self.action_repeat
        return self.actions.from_environment(own)

    def _own(self, generator: np.random.Generator) -> Any:
        match self.baseline.policy:
            case "constant":
                return self.baseline.argument
            case "sweep":
                period = self.baseline.argument
                return 2 if self.frame % period < period / 2 else 1
        assert self.space is not None
        self.space.seed(int(generator.integers(2**31)))
        return self.space.sample()
