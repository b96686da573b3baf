"""Policies: they choose the actions of all lanes, in any world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Shaped, UInt8

from worldmodels.envs.features import Memory
from worldmodels.errors import InputError
from worldmodels.files import load_json
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller
from worldmodels.ranges import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from worldmodels.world import EnvConfig

BASELINES = Path(__file__).parent / "baselines.json"
"""The best open-loop policies, found once for each world by worldmodels find-baselines."""


@dataclass(frozen=True, kw_only=True)
class ExploreConfig:
    """Policies that visit much of the world."""

    policy: Literal["random_network", "uniform", "held", "smooth"] = "random_network"
    """`random_network`: a new random V, M and C for each episode (the paper's CarRacing);
    `uniform`: a random action at every step; `held`: random actions, held for some steps (the
    paper's Doom); `smooth`: the raw action walks randomly about a mean."""
    hold: tuple[PositiveInt, PositiveInt] = (1, 10)
    """Fewest and most steps for which an action is held; the paper's Doom: 1 and 10."""
    vary_hold: bool = False
    """Each episode samples its own longest hold, log-uniformly within `hold`."""
    sweep_share: ClosedUnitInterval = 0.0
    """Share of the episodes in which held actions alternate between the two of `sweep_between`.
    Sweeps from side to side live longer in Doom, and show what comes late."""
    sweep_between: tuple[NonNegativeInt, NonNegativeInt] | None = None
    """The two choices of sweeps; Doom: right and left, [1, 2]."""
    mean: tuple[float, ...] = (0.0,)
    """Means of the walk, before the action is bounded: one for all parts of the action or one
    each."""
    mean_spread: tuple[NonNegativeFloat, ...] = (0.5,)
    """Standard deviation of the walk's mean between episodes; one for all parts or one each."""
    deviation: tuple[NonNegativeFloat, ...] = (0.7,)
    """Standard deviation of the walk about its mean; one for all parts or one each."""
    deviation_spread: float = 0.0
    """Each episode multiplies its deviations by exp(deviation_spread x a normal number)."""
    memory: PositiveFloat = 10.0
    """Steps after which the walk has forgotten 63% of where it was."""
    noise: NonNegativeFloat = 0.5
    """Largest standard deviation of the walk that is added to an evolved controller; each episode
    samples its own between 0 and this."""
    overrule: ClosedUnitInterval = 0.0
    """Largest share of steps at which random actions, held for 1 to 10 steps, replace those of an
    evolved controller; each episode samples its own between 0 and this. M learns from them what
    follows from actions that the controller never takes. Source: Dabney et al. 2020, temporally
    extended ε-greedy."""

    def __post_init__(self) -> None:
        if self.hold[0] > self.hold[1]:
            raise InputError(f"collect.explore.hold is {self.hold}: the fewest steps come first")


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
    def of_world(cls, env: EnvConfig) -> list[Baseline]:
        """The random policy, and the best ones that `find_baselines` found for an environment."""
        found = load_json(BASELINES).get(env.id, [])
        entries = (cls(entry["name"], entry["policy"], entry["argument"]) for entry in found)
        return [cls("random", "random"), *entries]


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


class Walk:
    """An Ornstein-Uhlenbeck walk per lane. x' = ρ x + sqrt(1 - ρ²) σ ε, ρ = exp(-1 / memory)."""

    def __init__(self, generators: Sequence[np.random.Generator], size: int, memory: float) -> None:
        self.generators, self.size = generators, size
        self.keep = float(np.exp(-1.0 / memory))
        self.x = self._sample()

    def step(self) -> np.ndarray:
        """Deviations (E, A) of unit variance; moves on by a step."""
        present = self.x
        self.x = self.keep * self.x + np.sqrt(1 - self.keep**2) * self._sample()
        return present

    def _sample(self) -> np.ndarray:
        return np.stack([g.standard_normal(self.size) for g in self.generators])


class Explorer:
    """The policies `uniform`, `held` and `smooth`, which do not look at the frames."""

    def __init__(
        self, config: ExploreConfig, actions: Actions, generators: Sequence[np.random.Generator]
    ) -> None:
        _check_fits(config, actions)
        self.config, self.actions, self.generators = config, actions, generators
        spread = np.stack([g.standard_normal(actions.size) for g in generators])
        self.mean = np.asarray(config.mean) + np.asarray(config.mean_spread) * spread
        scale = np.array([[g.standard_normal()] for g in generators])
        self.deviation = np.exp(config.deviation_spread * scale) * np.asarray(config.deviation)
        self.walk = Walk(generators, actions.size, config.memory)
        self.held = np.zeros((len(generators), actions.size), np.float32)
        self.left = np.zeros(len(generators), int)
        low, high = config.hold if config.policy == "held" else (1, 1)
        self.low, self.high = low, np.full(len(generators), high)
        self.sweeps = np.zeros(len(generators), bool)
        if config.sweep_share:
            self.sweeps = np.array([g.random() < config.sweep_share for g in generators])
        if config.vary_hold:
            self.high = np.array([round(low * (high / low) ** g.random()) for g in generators])

    def __call__(
        self, observations: Shaped[np.ndarray, "E ..."], live: Bool[np.ndarray, " E"]
    ) -> Float32[np.ndarray, "E A"]:
        if self.config.policy == "smooth":
            return _bound(self.actions, self.mean + self.deviation * self.walk.step())
        for lane in map(int, np.flatnonzero(self.left == 0)):
            generator = self.generators[lane]
            sample = _uniform(self.actions, generator)
            self.held[lane] = self._other_choice(lane) if self.sweeps[lane] else sample
            self.left[lane] = generator.integers(self.low, self.high[lane] + 1)
        self.left -= 1
        return self.held.copy()

    def _other_choice(self, lane: int) -> np.ndarray:
        """The choice of `sweep_between` that was not held."""
        assert self.config.sweep_between is not None
        one, other = np.eye(self.actions.size, dtype=np.float32)[list(self.config.sweep_between)]
        return other if (self.held[lane] == one).all() else one


def _check_fits(config: ExploreConfig, actions: Actions) -> None:
    for name in ("mean", "mean_spread", "deviation"):
        if len(getattr(config, name)) not in (1, actions.size):
            raise InputError(f"collect.explore.{name} needs 1 or {actions.size} numbers")
    between = config.sweep_between
    if config.sweep_share and between is None:
        raise InputError("collect.explore.sweep_share needs sweep_between: name two choices")
    if between and not (actions.kind == "discrete" and max(between) < actions.size):
        raise InputError(f"collect.explore.sweep_between is {between}: there are no such choices")


class Overrule:
    """Random actions that now and then replace a policy's, and are held for 1 to 10 steps."""

    def __init__(
        self, share: float, actions: Actions, generators: Sequence[np.random.Generator]
    ) -> None:
        """`share` is the largest share of the steps; each lane samples its own up to it."""
        self.actions, self.generators = actions, generators
        self.held = np.zeros((len(generators), actions.size), np.float32)
        self.left = np.zeros(len(generators), int)
        shares = np.array([g.uniform(0, share) for g in generators])
        # 5.5 steps each: for a share s they begin at s / (s + 5.5 (1 - s)) of the other steps
        self.chances = shares / (shares + 5.5 * (1 - shares))

    def __call__(self, actions: Float32[np.ndarray, "E A"]) -> Float32[np.ndarray, "E A"]:
        """The actions that are done instead of these."""
        for lane, generator in enumerate(self.generators):
            if self.left[lane] == 0 and generator.random() < self.chances[lane]:
                self.held[lane] = _uniform(self.actions, generator)
                self.left[lane] = generator.integers(1, 11)
        overruled = self.left > 0
        self.left -= overruled
        return np.where(overruled[:, None], self.held, actions)


class NoisyController:
    """A controller that sees frames through V and M, plus a walk and overruled steps.

    Each lane has a parameter vector of its own.
    """

    def __init__(
        self,
        controller: Controller,
        parameters: Float32[np.ndarray, "E N"],
        memory: Memory,
        actions: Actions,
        walk: Walk,
        noise: Float64[np.ndarray, " E"],
        overrule: Overrule | None = None,
    ) -> None:
        self.controller, self.parameters = controller, torch.from_numpy(parameters)
        self.memory, self.actions, self.walk, self.noise = memory, actions, walk, noise
        self.overrule = overrule
        self.taken: np.ndarray | None = None

    @torch.inference_mode()
    def __call__(
        self, observations: UInt8[np.ndarray, "E 64 64 3"], live: Bool[np.ndarray, " E"]
    ) -> Float32[np.ndarray, "E A"]:
        lanes = np.flatnonzero(live)
        if self.taken is None:
            self.memory.begin(lanes, observations[lanes])
        else:
            self.memory.advance(lanes, self.taken[lanes], observations[lanes])
        raw = self.controller.act(self.parameters, self.memory.features()[:, None])[:, 0].numpy()
        actions = _bound(self.actions, raw + self.noise[:, None] * self.walk.step())
        self.taken = actions if self.overrule is None else self.overrule(actions)
        return self.taken


def _bound(actions: Actions, raw: np.ndarray) -> np.ndarray:
    return actions.bound(torch.from_numpy(raw.astype(np.float32))).numpy()


def _uniform(actions: Actions, generator: np.random.Generator) -> np.ndarray:
    """A uniform action a; where actions are choices, uniform over them."""
    if actions.counts:
        return _bound(actions, generator.uniform(-1.0, 1.0, (1, actions.size)))[0]
    return generator.uniform(actions.low, actions.high).astype(np.float32)
