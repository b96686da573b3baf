"""The policies that collect episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float32, Float64, Shaped, UInt8

from worldmodels.acting.environments import ModelFiles, models_of
from worldmodels.acting.policies import Policy
from worldmodels.artifacts import load_controller
from worldmodels.data.manifest import SEED
from worldmodels.envs.features import Memory
from worldmodels.envs.lanes import own_actions
from worldmodels.envs.make import imported, reason
from worldmodels.envs.real import RealEnvs
from worldmodels.envs.senses import senses_of
from worldmodels.envs.trust import check_trusted
from worldmodels.errors import InputError
from worldmodels.files import load_arrays
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, ControllerConfig, controller_for
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.ranges import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from worldmodels.run import Run

BuiltIn = Literal["random_network", "held", "sweeps", "smooth"]
TRAILS = 32
"""Most episodes to go back to."""
SWEEP_SHARE = 0.5
"""Share of the episodes of the policy `sweeps` in which two actions alternate."""
OVERRULED = 1, 10
"""Fewest and most steps for which a random action replaces those of an evolved controller."""


@dataclass(frozen=True, kw_only=True)
class ExploreConfig:
    """The policy of the other episodes."""

    policy: str = "random_network"
    """`random_network`: a new random V, M and C for each episode (the paper's CarRacing);
    `held`: random actions, held for some steps (the paper's Doom); `sweeps`: as `held`, but each
    episode samples its own longest hold, and in half of the episodes the two actions of
    `sweep_between` alternate; `smooth`: the raw action walks randomly about a mean;
    `module:function` or `path/to/file.py:function`: your function (frames, info) -> actions."""
    share: ClosedUnitInterval = 1.0
    """Share of the episodes in which your function acts."""
    beside: BuiltIn = "held"
    """The policy of the other episodes, if `policy` is your function."""
    hold: tuple[PositiveInt, PositiveInt] = (1, 10)
    """Minimum and maximum number of steps for which `held` repeats an action; the paper's Doom: 1
    and 10. [1, 1]: a new action at every step."""
    sweep_between: tuple[NonNegativeInt, NonNegativeInt] | None = None
    """The two actions between which `sweeps` alternates; Doom: right and left, [1, 2]. Sweeps
    survive longer there, and reach later parts of an episode."""
    mean: tuple[float, ...] = (0.0,)
    """Mean of the random walk of `smooth`, before tanh; one number for all parts of the action, or
    one for each."""
    mean_spread: tuple[NonNegativeFloat, ...] = (0.5,)
    """Standard deviation of this mean between episodes; one number, or one for each part."""
    deviation: tuple[NonNegativeFloat, ...] = (0.7,)
    """Standard deviation of the walk around its mean; one number, or one for each part."""
    deviation_spread: float = 0.0
    """Each episode multiplies `deviation` by exp(deviation_spread x a standard normal number)."""
    memory: PositiveFloat = 10.0
    """Time constant of the walk in steps: its autocorrelation falls by 63% in this time."""
    go_back: ClosedUnitInterval = 0.0
    """Share of the episodes that return to one of the best earlier episodes: they use its seed,
    repeat its actions up to some steps before its largest reward, and explore from there. For rare
    rewards. Source: Ecoffet et al. 2021, Go-Explore."""
    noise: NonNegativeFloat = 0.5
    """In later rounds a random walk is added to an evolved controller's outputs; each episode
    samples its standard deviation between 0 and this."""
    overrule: ClosedUnitInterval = 0.0
    """In later rounds random actions, held for 1 to 10 steps, replace this share of an evolved
    controller's actions; each episode samples its share between 0 and this. M learns from them the
    effect of actions that the controller never takes. Source: Dabney et al. 2020, temporally
    extended ε-greedy."""

    @property
    def given(self) -> bool:
        """Whether the policy is a user's function."""
        return ":" in self.policy

    def __post_init__(self) -> None:
        if not self.given and self.policy not in get_args(BuiltIn):
            raise InputError(
                f"collect.explore.policy is {self.policy}: it must be one of "
                f"{', '.join(get_args(BuiltIn))}, or your function, as in my_policies:trained"
            )
        if self.hold[0] > self.hold[1]:
            raise InputError(f"collect.explore.hold is {self.hold}: the fewest steps come first")


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


class Held:
    """A random action of each lane that is held for some steps.

    Attributes:
        action: (E, A), of the lanes that hold one.
        left: steps for which each lane still holds it, (E,).
    """

    def __init__(
        self, actions: Actions, generators: Sequence[np.random.Generator], low: int, high: int
    ) -> None:
        self.actions, self.generators = actions, generators
        self.low, self.high = low, np.full(len(generators), high)
        self.action = np.zeros((len(generators), actions.size), np.float32)
        self.left = np.zeros(len(generators), int)

    def renew(self, lane: int) -> None:
        """Samples a lane's action, and for how long it is held."""
        self.action[lane] = _uniform(self.actions, self.generators[lane])
        self.left[lane] = self.generators[lane].integers(self.low, self.high[lane] + 1)

    def step(self) -> Bool[np.ndarray, " E"]:
        """The lanes that hold an action; moves on by a step."""
        holding = self.left > 0
        self.left -= holding
        return holding


class Explorer:
    """The policies `held`, `sweeps` and `smooth`, which do not look at the frames."""

    def __init__(
        self, config: ExploreConfig, actions: Actions, generators: Sequence[np.random.Generator]
    ) -> None:
        _check_fits(config, actions)
        self.config, self.actions = config, actions
        spread = np.stack([g.standard_normal(actions.size) for g in generators])
        self.mean = np.asarray(config.mean) + np.asarray(config.mean_spread) * spread
        scale = np.array([[g.standard_normal()] for g in generators])
        self.deviation = np.exp(config.deviation_spread * scale) * np.asarray(config.deviation)
        self.walk = Walk(generators, actions.size, config.memory)
        low, high = config.hold
        self.held, self.sweeping = Held(actions, generators, low, high), [False] * len(generators)
        if config.policy == "sweeps":
            self.sweeping = [g.random() < SWEEP_SHARE for g in generators]
            longest = [round(low * (high / low) ** g.random()) for g in generators]
            self.held.high = np.array(longest)

    def __call__(
        self, observations: Shaped[np.ndarray, "E ..."], live: Bool[np.ndarray, " E"]
    ) -> Float32[np.ndarray, "E A"]:
        if self.config.policy == "smooth":
            return _bound(self.actions, self.mean + self.deviation * self.walk.step())
        held = self.held
        for lane in map(int, np.flatnonzero(held.left == 0)):
            before = held.action[lane].copy()
            held.renew(lane)
            if self.sweeping[lane]:
                held.action[lane] = self._other_choice(before)
        held.step()
        return held.action.copy()

    def _other_choice(self, choice: np.ndarray) -> np.ndarray:
        """The choice of `sweep_between` that this one is not."""
        assert self.config.sweep_between is not None
        one, other = np.eye(self.actions.size, dtype=np.float32)[list(self.config.sweep_between)]
        return other if (choice == one).all() else one


def _check_fits(config: ExploreConfig, actions: Actions) -> None:
    for name in ("mean", "mean_spread", "deviation"):
        if len(getattr(config, name)) not in (1, actions.size):
            raise InputError(f"collect.explore.{name} needs 1 or {actions.size} numbers")
    between = config.sweep_between
    if config.policy == "sweeps" and between is None:
        raise InputError("collect.explore.policy sweeps needs sweep_between: name two choices")
    if between and not (actions.kind == "discrete" and max(between) < actions.size):
        raise InputError(f"collect.explore.sweep_between is {between}: there are no such choices")


class Overrule:
    """Random actions that now and then replace a policy's, and are held for 1 to 10 steps."""

    def __init__(
        self, share: float, actions: Actions, generators: Sequence[np.random.Generator]
    ) -> None:
        """`share` is the largest share of the steps; each lane samples its own up to it."""
        self.held, self.generators = Held(actions, generators, *OVERRULED), generators
        shares = np.array([g.uniform(0, share) for g in generators])
        # 5.5 steps each: for a share s they begin at s / (s + 5.5 (1 - s)) of the other steps
        self.chances = shares / (shares + np.mean(OVERRULED) * (1 - shares))

    def __call__(self, actions: Float32[np.ndarray, "E A"]) -> Float32[np.ndarray, "E A"]:
        """The actions that are done instead of these."""
        for lane, generator in enumerate(self.generators):
            if self.held.left[lane] == 0 and generator.random() < self.chances[lane]:
                self.held.renew(lane)
        return np.where(self.held.step()[:, None], self.held.action, actions)


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
        self, observations: UInt8[np.ndarray, "E S S 3"], live: Bool[np.ndarray, " E"]
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


Function = Callable[[np.ndarray, dict[str, Any]], Any]


def function_of(name: str) -> Function:
    """The function that `collect.explore.policy` names.

    Raises:
        InputError: there is none, or its module cannot be imported, or is not trusted.
    """
    check_trusted(name, "collect.explore.policy")
    home, _, function = name.rpartition(":")
    try:
        found = getattr(imported(home, "collect.explore.policy"), function, None)
    except InputError:
        raise
    except Exception as error:  # a module may raise anything
        raise InputError(
            f"collect.explore.policy: {home} cannot be imported ({reason(error)}): install it, or "
            "begin the command in its folder"
        ) from error
    if not callable(found):
        raise InputError(f"collect.explore.policy: {home} has no function {function}: check it")
    return found


class Given:
    """A user's function on some lanes, and another policy on the others.

    The function is called at every step, as `function(frames, info)`, with the frames of its lanes
    (N, S, S, 3), also of those that have ended. It returns the environment's own actions, one for
    each. `info` has `observations`, a list of the environment's own observations; `starts`, whether
    each frame opens an episode; and `live`, whether each lane's episode has not ended.
    """

    def __init__(
        self, config: ExploreConfig, envs: RealEnvs, generators: Sequence[np.random.Generator]
    ) -> None:
        self.name, self.function, self.envs = config.policy, function_of(config.policy), envs
        self.actions = Actions.from_dict(envs.world.action)
        self.lanes = np.flatnonzero([g.random() < config.share for g in generators]).tolist()
        other, size = replace(config, policy=config.beside), envs.world.config.size
        self.others = _explorer(other, self.actions, size, generators)
        self.begun = False

    def __call__(
        self, observations: UInt8[np.ndarray, "E S S 3"], live: Bool[np.ndarray, " E"]
    ) -> Float32[np.ndarray, "E A"]:
        actions = self.others(observations, live)
        if not self.begun:  # an environment that broke in its first reset has shown nothing
            self.lanes = [i for i in self.lanes if self.envs.observations[i] is not None]
        lanes = self.lanes
        if not lanes:
            return actions
        info = {
            "observations": [self.envs.observations[lane] for lane in lanes],
            "starts": np.full(len(lanes), not self.begun),
            "live": live[lanes],
        }
        self.begun = True
        try:
            space = batch_space(self.envs.single_action_space, len(lanes))
            own = own_actions(self.function(observations[lanes], info), space)
        except Exception as error:  # the function may raise anything
            why = str(error) if isinstance(error, InputError) else reason(error)
            raise InputError(f"collect.explore.policy {self.name}: {why}") from error
        actions[lanes] = self.actions.from_environment(own)
        return self.actions.canonical(torch.from_numpy(actions)).numpy()


@dataclass(frozen=True)
class Trail:
    """An episode that earned something, and the way to it."""

    seed: int
    """Of the environment."""
    actions: Float32[np.ndarray, "T A"]
    """Up to what it earned."""

    def part(self, generator: np.random.Generator) -> Float32[np.ndarray, "_ A"]:
        """The way less some steps, between 1 and all of them on a logarithmic scale."""
        steps = len(self.actions)
        return self.actions[: steps - round(steps ** generator.random())]


def trails_of(files: Sequence[Path]) -> tuple[Trail, ...]:
    """The ways of at most TRAILS episodes: those of the largest returns above the median.

    They end with the step of the largest reward, or with the last one where all are equal, as in a
    world where each step costs the same until the goal.
    """
    found = []
    for path in files:
        arrays = load_arrays(path)
        rewards = arrays["rewards"]
        last = int(rewards.argmax()) if rewards.max() > rewards.min() else len(rewards) - 1
        if SEED in arrays:
            trail = Trail(int(arrays[SEED]), arrays["actions"][: last + 1].copy())
            found.append((float(rewards.sum()), trail))
    found.sort(key=lambda one: -one[0])
    least = float(np.median([earned for earned, _ in found])) if found else 0.0
    return tuple(trail for earned, trail in found[:TRAILS] if earned > least)


class GoBack:
    """Repeats the actions of trails, and then lets another policy act."""

    def __init__(self, policy: Policy, ways: Sequence[Float32[np.ndarray, "_ A"]]) -> None:
        """`ways` has the actions of each lane, none where it starts a new episode."""
        self.policy, self.ways, self.step = policy, ways, 0

    def __call__(
        self, observations: Shaped[np.ndarray, "E ..."], live: Bool[np.ndarray, " E"]
    ) -> Float32[np.ndarray, "E A"]:
        actions = self.policy(observations, live)
        for lane, way in enumerate(self.ways):
            if self.step < len(way):
                actions[lane] = way[self.step]
        self.step += 1
        return actions


@dataclass(frozen=True)
class Evolved:
    """A controller of a run, and the V and M that it sees through; it can be sent to a worker."""

    models: ModelFiles
    config: ControllerConfig
    parameters: Float32[np.ndarray, " N"]

    @classmethod
    def of_run(cls, run: Run, which: Literal["best", "last"]) -> Evolved:
        """The best controller of a run, or the last one of its evolution."""
        saved = load_controller(run)
        return cls(ModelFiles.of_run(run), saved.config, getattr(saved, which).float().numpy())


def collecting_policy(
    config: ExploreConfig,
    evolved: Evolved | None,
    envs: RealEnvs,
    generators: Sequence[np.random.Generator],
) -> Policy:
    """The policy that collects, on one lane per generator: an evolved controller or an explorer."""
    actions = Actions.from_dict(envs.world.action)
    if evolved is not None:
        return _noisy(evolved, config, actions, generators)
    size = envs.world.config.size
    if config.given:
        return Given(config, envs, generators)
    return _explorer(config, actions, size, generators)


def _explorer(
    config: ExploreConfig, actions: Actions, size: int, generators: Sequence[np.random.Generator]
) -> Policy:
    """A built-in policy; `size` is the side of the frames."""
    if config.policy == "random_network":
        return _random_networks(config, actions, size, generators)
    return Explorer(config, actions, generators)


def _noisy(
    evolved: Evolved,
    config: ExploreConfig,
    actions: Actions,
    generators: Sequence[np.random.Generator],
) -> NoisyController:
    """A controller plus noise, with random actions now and then."""
    settings, (vae, mdnrnn) = evolved.config, models_of(evolved.models)
    parameters = evolved.parameters[None].repeat(len(generators), axis=0)
    noise = np.array([g.uniform(0, config.noise) for g in generators])
    memory = Memory(*senses_of(settings, vae, mdnrnn), settings.inputs, len(generators))
    walk = Walk(generators, actions.size, config.memory)
    overrule = Overrule(config.overrule, actions, generators) if config.overrule else None
    controller = controller_for(settings, mdnrnn)
    return NoisyController(controller, parameters, memory, actions, walk, noise, overrule)


def _random_networks(
    config: ExploreConfig, actions: Actions, size: int, generators: Sequence[np.random.Generator]
) -> NoisyController:
    """A random V and M of the paper's sizes for all lanes, and a random C for each."""
    with torch.random.fork_rng():
        torch.manual_seed(int(generators[0].integers(2**62)))
        vae = VAE(VAEConfig(), size).requires_grad_(False)
        mdnrnn = MDNRNN(MDNRNNConfig(), 32, actions.size).requires_grad_(False)
    settings = ControllerConfig()
    controller = controller_for(settings, mdnrnn)
    count = controller.num_parameters
    # Source: released code, weights Cauchy x U(0, 0.01)
    parameters = np.stack([g.standard_cauchy(count) * g.uniform(0, 0.01) for g in generators])
    memory = Memory(vae, mdnrnn, settings.inputs, len(generators))
    walk, noise = Walk(generators, actions.size, config.memory), np.zeros(len(generators))
    return NoisyController(controller, parameters.astype(np.float32), memory, actions, walk, noise)


def _bound(actions: Actions, raw: np.ndarray) -> np.ndarray:
    return actions.bound(torch.from_numpy(raw.astype(np.float32))).numpy()


def _uniform(actions: Actions, generator: np.random.Generator) -> np.ndarray:
    """A uniform action a; where actions are choices, uniform over them."""
    if actions.counts:
        return _bound(actions, generator.uniform(-1.0, 1.0, (1, actions.size)))[0]
    return generator.uniform(actions.low, actions.high).astype(np.float32)
