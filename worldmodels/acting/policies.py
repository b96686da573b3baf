"""Policies that explore: what drives the car while data is collected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from worldmodels.envs.features import Memory
from worldmodels.errors import InputError, check_above_zero, check_at_least, check_share
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller


@dataclass(frozen=True, kw_only=True)
class ExploreConfig:
    """Actions that visit much of the world."""

    policy: Literal["random_network", "uniform", "held", "smooth"] = "random_network"
    """`random_network`: a fresh random V, M and C an episode (the paper's CarRacing); `uniform`: an
    action drawn every step; `held`: drawn and held (the paper's Doom); `smooth`: a random walk of
    the raw action about a mean drawn for the episode."""
    hold: tuple[int, int] = (1, 10)
    """Steps an action is held, from and to; the paper's Doom: 1 to 10."""
    vary_hold: bool = False
    """Each episode draws its own longest hold, log-uniformly within `hold`: from trembling to
    sweeping."""
    sweep_share: float = 0.0
    """Share of the episodes in which held actions take turns on both sides of the middle: sweeps
    from side to side live longer in Doom, and show what comes late."""
    sweep_between: tuple[int, int] | None = None
    """Two choices that sweeps alternate between, where actions are choices; Doom: right and left,
    [1, 2]."""
    mean: tuple[float, ...] = (0.0,)
    """Means of the walk, in raw units; one for all parts of the action, or one each."""
    mean_spread: tuple[float, ...] = (0.5,)
    """Standard deviation of the walk's mean from episode to episode; one for all or one each."""
    deviation: tuple[float, ...] = (0.7,)
    """Standard deviation of the walk about its mean; one for all or one each."""
    deviation_spread: float = 0.0
    """Each episode multiplies its deviations by exp(this x a normal number)."""
    memory: float = 10.0
    """Steps after which the walk has forgotten 63% of where it was."""
    noise: float = 0.5
    """Largest standard deviation of the walk added to an evolved controller; each episode draws
    its own between 0 and this."""
    overrule: float = 0.0
    """Largest share of the steps of an evolved controller's episode that it loses to drawn actions,
    held for 1 to 10 steps; each episode draws its own share between 0 and this. Shows M what would
    have come of what the controller never does. Source: Dabney et al. 2020, temporally extended
    ε-greedy."""

    def __post_init__(self) -> None:
        if not 1 <= self.hold[0] <= self.hold[1]:
            raise InputError(f"collect.explore.hold is {self.hold}: 1 <= from <= to is needed")
        check_above_zero("collect.explore", self, "memory")
        check_at_least("collect.explore", self, 0, "noise")
        check_share("collect.explore", self, "sweep_share", "overrule")
        for name in ("mean_spread", "deviation"):
            if not all(value >= 0 for value in getattr(self, name)):
                raise InputError(f"collect.explore.{name} must hold numbers of at least 0")


@runtime_checkable
class Driver(Protocol):
    """Chooses actions a (E, A) for the frames of all lanes, step after step.

    `live` is a mask of those that go on; what is chosen for the others is not done.
    """

    def __call__(
        self, frames: UInt8[np.ndarray, "E 64 64 3"], live: Bool[np.ndarray, " E"]
    ) -> Float32[np.ndarray, "E A"]: ...


class Walk:
    """An Ornstein-Uhlenbeck walk per lane. x' = ρ x + sqrt(1 - ρ²) σ ε, ρ = exp(-1 / memory)."""

    def __init__(self, generators: Sequence[np.random.Generator], size: int, memory: float) -> None:
        self.generators, self.size = generators, size
        self.keep = float(np.exp(-1.0 / memory))
        self.x = self._draw()

    def step(self) -> np.ndarray:
        """Unit-variance deviations (E, A), moved on by a step."""
        present = self.x
        self.x = self.keep * self.x + np.sqrt(1 - self.keep**2) * self._draw()
        return present

    def _draw(self) -> np.ndarray:
        return np.stack([g.standard_normal(self.size) for g in self.generators])


class Explorer:
    """The policies without eyes."""

    def __init__(
        self, config: ExploreConfig, actions: Actions, generators: Sequence[np.random.Generator]
    ) -> None:
        self.config, self.actions, self.generators = config, actions, generators
        for name in ("mean", "mean_spread", "deviation"):
            if len(getattr(config, name)) not in (1, actions.size):
                raise InputError(f"collect.explore.{name} needs 1 or {actions.size} numbers")
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
            _check_sweeps(config, actions)
            self.sweeps = np.array([g.random() < config.sweep_share for g in generators])
        if config.vary_hold:
            self.high = np.array([round(low * (high / low) ** g.random()) for g in generators])

    def __call__(self, frames: np.ndarray, live: np.ndarray | None = None) -> np.ndarray:
        if self.config.policy == "smooth":
            return _bound(self.actions, self.mean + self.deviation * self.walk.step())
        for lane in map(int, np.flatnonzero(self.left == 0)):
            generator = self.generators[lane]
            drawn = _uniform(self.actions, generator)
            self.held[lane] = self._other_side(lane, drawn) if self.sweeps[lane] else drawn
            self.left[lane] = generator.integers(self.low, self.high[lane] + 1)
        self.left -= 1
        return self.held.copy()

    def _other_side(self, lane: int, drawn: np.ndarray) -> np.ndarray:
        """The drawn action, or its mirror image, whichever lies across the middle.

        Of choices, the one of `sweep_between` that was not held.
        """
        if self.config.sweep_between is not None:
            one, other = np.eye(self.actions.size, dtype=np.float32)[
                list(self.config.sweep_between)
            ]
            return other if (self.held[lane] == one).all() else one
        low, high = (np.array(bound, np.float32) for bound in (self.actions.low, self.actions.high))
        middle = (low + high) / 2
        side = np.sign(middle - self.held[lane])
        mirrored = middle + side * np.abs(drawn - middle)
        return np.where(side == 0, drawn, mirrored).astype(np.float32)  # the first goes anywhere


def _check_sweeps(config: ExploreConfig, actions: Actions) -> None:
    between = config.sweep_between
    if between is None and actions.counts:
        raise InputError(
            "collect.explore.sweep_share needs sweep_between where actions are choices"
        )
    if between is not None and not (actions.kind == "discrete" and max(between) < actions.size):
        raise InputError(f"collect.explore.sweep_between is {between}: there are no such choices")


class Slips:
    """Drawn actions that now and then overrule a driver's, and are held for 1 to 10 steps."""

    def __init__(
        self, overrule: float, actions: Actions, generators: Sequence[np.random.Generator]
    ) -> None:
        self.actions, self.generators = actions, generators
        self.held = np.zeros((len(generators), actions.size), np.float32)
        self.left = np.zeros(len(generators), int)
        shares = np.array([g.uniform(0, overrule) for g in generators])
        # a share s of slips of 5.5 steps each begins at s / (s + 5.5 (1 - s)) of the other steps
        self.chances = shares / (shares + 5.5 * (1 - shares))

    def __call__(self, driven: Float32[np.ndarray, "E A"]) -> Float32[np.ndarray, "E A"]:
        """What is done where `driven` was meant."""
        for lane, generator in enumerate(self.generators):
            if self.left[lane] == 0 and generator.random() < self.chances[lane]:
                self.held[lane] = _uniform(self.actions, generator)
                self.left[lane] = generator.integers(1, 11)
        slipping = self.left > 0
        self.left -= slipping
        return np.where(slipping[:, None], self.held, driven)


class Evolved:
    """A controller seeing through V and M, plus a walk and slips: one parameter vector per lane."""

    def __init__(
        self,
        controller: Controller,
        parameters: Float32[np.ndarray, "E N"],
        memory: Memory,
        actions: Actions,
        walk: Walk,
        noise: np.ndarray,
        slips: Slips | None = None,
    ) -> None:
        self.slips = slips
        self.controller, self.parameters = controller, torch.from_numpy(parameters)
        self.memory, self.actions, self.walk, self.noise = memory, actions, walk, noise
        self.action: np.ndarray | None = None

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray, live: np.ndarray) -> np.ndarray:
        lanes = np.flatnonzero(live)
        if self.action is None:
            self.memory.begin(lanes, frames[lanes])
        else:
            self.memory.advance(lanes, self.action[lanes], frames[lanes])
        raw = self.controller.act(self.parameters, self.memory.features()[:, None])[:, 0].numpy()
        driven = _bound(self.actions, raw + self.noise[:, None] * self.walk.step())
        self.action = driven if self.slips is None else self.slips(driven)
        return self.action


def _bound(actions: Actions, raw: np.ndarray) -> np.ndarray:
    return actions.bound(torch.from_numpy(raw.astype(np.float32))).numpy()


def _uniform(actions: Actions, generator: np.random.Generator) -> np.ndarray:
    """A uniform action a; for choices, uniform over them."""
    if actions.counts:
        return _bound(actions, generator.uniform(-1.0, 1.0, (1, actions.size)))[0]
    return generator.uniform(actions.low, actions.high).astype(np.float32)
