"""The dream: M as a vector environment whose lanes are one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from worldmodels.artifacts import Bundle
from worldmodels.data.starts import StartKind, Starts
from worldmodels.envs.features import Memory
from worldmodels.envs.lanes import check_lanes, lane_actions, lane_mask, lane_seeds, reset_mask
from worldmodels.envs.noise import Noise
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.models.controller import (
    LATENT_BOUND,
    ControllerConfig,
    controller_for,
    feature_space,
    features,
)
from worldmodels.models.engine import CompiledEngine, DreamState, Engine, Outputs
from worldmodels.models.mdnrnn import MDNRNN, Head
from worldmodels.models.vae import VAE, frames_of
from worldmodels.precision import product_dtype
from worldmodels.ranges import PositiveFloat, PositiveInt, check_ranges
from worldmodels.schema import checked
from worldmodels.seeding import numpy_generator
from worldmodels.world import World

Ends = Literal["threshold", "sampled", "none"]
LEAST_WEIGHT = 0.01
"""A dream whose rewards weigh less than this ends."""


@dataclass(frozen=True, kw_only=True)
class DreamConfig:
    """The dream of M."""

    temperature: PositiveFloat = 1.0
    """τ: mixture weights to the power 1/τ, standard deviations times √τ. The paper's Doom: 1.15."""
    horizon: PositiveInt = 1000
    """Steps after which a dream is truncated."""
    goal: PositiveFloat | None = None
    """Return, without env.reward_per_frame, at which a dream ends. Let goal and horizon be the same
    share of an episode's total reward and of its time limit. null: no limit."""
    ends: Ends = "threshold"
    """When M's termination head ends a dream: `threshold`, if the predicted probability is above
    1/2 (the paper); `sampled`, with the predicted probability, at any temperature (needs
    mdnrnn.positive_weight 1); `none`, never."""
    weight: str = "none"
    """Multiplies each reward by the probability that the dream has not ended before, as predicted
    by M's `termination` head or by its `risk` head (no damage, at the shortest of
    mdnrnn.risk_horizons). A dream ends if it falls below 1%. Set dream.ends to none with it."""
    starts: StartKind = "windows"
    """Where in the data dreams start: `windows`, one place in each sampled episode; `moments`, any
    recorded moment with equal probability; `rewarded_windows`, windows that contain a count or a
    positive reward."""
    warmup: PositiveInt = 16
    """Frames of a start window. M's state is computed from all but the last, where the dream
    starts. 1: dreams start at the first frames of episodes with an empty state, as in the paper."""

    @property
    def plain(self) -> DreamConfig:
        """The dream without what only evolution needs, for playing and for statistics.

        It has no goal, and sampled ends in place of weights.
        """
        free = replace(self, goal=None)
        return free if self.weight == "none" else replace(free, ends="sampled", weight="none")


class Outcome(NamedTuple):
    """What a dreamt step of some lanes led to."""

    rewards: Float64[Tensor, " n"]
    ended: Bool[Tensor, " n"]
    """The dream has ended, but for its horizon."""
    weights: Float64[Tensor, " n"]
    """What each lane's next reward is multiplied by."""
    earned: Float64[Tensor, " n"]
    """What counts towards the goal so far."""


class Rules:
    """What a dreamt step pays, and whether it ends the dream: functions of tensors on any device.

    A step pays if the dream has come to it, and so does the step that ends it, as in Gymnasium.
    With `config.weight` a reward is therefore multiplied by the probability that none of the steps
    before ended the dream; the risk of the step's own action weighs the rewards after it.
    """

    def __init__(self, mdnrnn: MDNRNN, config: DreamConfig, reward: float) -> None:
        """Reads the heads that pay, end and weigh.

        Args:
            mdnrnn: M.
            config: goal, ends, weight.
            reward: of every step, beside what the heads pay.

        Raises:
            InputError: M lacks the head that weighs.
        """
        self.config, self.reward = config, reward
        self.payers = [head for head in mdnrnn.heads if head.does("pays")]
        enders = [head for head in mdnrnn.heads if head.does("ends")]
        self.enders = [] if config.ends == "none" else enders
        self.weigher = _weigher(mdnrnn, config.weight)

    @property
    def sampled(self) -> bool:
        """Whether ends are sampled."""
        return bool(self.enders) and self.config.ends == "sampled"

    def __call__(
        self,
        mdnrnn: MDNRNN,
        before: tuple[Tensor, Tensor, Tensor] | None,
        outputs: Outputs,
        thresholds: Float[Tensor, "*n"],
        weights: Float64[Tensor, " n"],
        earned: Float64[Tensor, " n"],
    ) -> Outcome:
        """The outcome of a step.

        Args:
            mdnrnn: M, on the device of the tensors.
            before: z and h before the step, and its actions; only needed with `config.weight`.
            outputs: of the heads.
            thresholds: log-odds above which the dream ends.
            weights: what the step's reward is multiplied by.
            earned: what counts towards the goal so far.
        """
        rewards, later = torch.zeros_like(weights), weights
        for head in self.payers:
            rewards = rewards + head.pays(outputs[head.name])
        if self.weigher and before:
            own = outputs[self.weigher.name]
            later = weights * self.weigher.survives(mdnrnn, *before, own)
        ended = later < LEAST_WEIGHT
        for head in self.enders:
            ended = ended | (head.ends(outputs[head.name]) > thresholds)
        if self.config.goal is not None:
            rewards = rewards.minimum(self.config.goal - earned)
            earned = earned + rewards
            ended = ended | (earned >= self.config.goal)
        return Outcome((rewards + self.reward) * weights, ended, later, earned)


class DreamEnv(VectorEnv[np.ndarray, np.ndarray, Any]):
    """Dreams side by side, one per lane. The observation is the controller's input, [z h].

    Lanes with equal seeds have the same start and noise. Under AutoresetMode.DISABLED a finished
    lane is frozen and costs nothing. `render` decodes z through V.

    Attributes:
        engine: steps M.
        rules: what a step pays, and whether it ends a dream.
        noise: of all lanes.
        state: z, h, c and restart flag of each lane.
        keys: (seed, episode number) of each lane: these decide its start and its noise.
        steps: of each lane's dream so far, (E,).
        earned: what counts towards the goal so far, (E,).
        weights: what each lane's next reward is multiplied by, (E,).
        terminated, truncated: flags of each lane, (E,).
    """

    def __init__(
        self,
        mdnrnn: MDNRNN,
        starts: Starts,
        world: World,
        config: DreamConfig,
        num_envs: int,
        *,
        inputs: str = "zh",
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        vae: VAE | None = None,
    ) -> None:
        """Makes the lanes; all are finished until `reset`.

        Args:
            mdnrnn: M.
            starts: windows in which dreams begin.
            world: what the actions mean, and what a step pays.
            config: temperature, horizon, ends.
            num_envs: lanes.
            inputs: parts of the observation, see `ControllerConfig`.
            autoreset_mode: NEXT_STEP or DISABLED.
            vae: V, for `render` only.

        Raises:
            InputError: the config is out of range, or M lacks the head that it needs.
        """
        check_lanes(num_envs)
        check_ranges(config, "dream.")
        if autoreset_mode == AutoresetMode.SAME_STEP:
            raise InputError("autoreset_mode SAME_STEP is not offered: use NEXT_STEP or DISABLED")
        self.mdnrnn, self.config, self.vae = mdnrnn, config, vae
        self.actions = Actions.from_dict(world.action)
        self.num_envs, self.inputs = num_envs, inputs
        self.autoreset_mode, self.render_mode = autoreset_mode, "rgb_array"
        self.metadata = {
            "autoreset_mode": autoreset_mode,
            "render_modes": ["rgb_array"],
            "render_fps": world.fps / world.config.action_repeat,
        }
        self.single_observation_space = feature_space(mdnrnn, inputs)
        self.single_action_space = self.actions.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._starts = warm(mdnrnn, starts)
        self.rules = Rules(mdnrnn, config, world.config.reward_per_step)
        sizes = mdnrnn.uniforms, mdnrnn.latent_size
        self.noise = Noise(num_envs, *sizes, ends=self.rules.sampled)
        self.engine: Engine = CompiledEngine(mdnrnn, product_dtype(), num_envs)
        self.state = DreamState.empty(mdnrnn, num_envs)
        self.steps = np.zeros(num_envs, np.int64)
        self.weights, self.earned = np.ones(num_envs), np.zeros(num_envs)
        unseeded = np.random.default_rng().integers(2**62, size=num_envs)
        self.keys = [(int(seed), -1) for seed in unseeded]
        self.terminated, self.truncated = (np.ones(num_envs, bool) for _ in range(2))

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins a dream in all lanes, or in those of `options["reset_mask"]`.

        A lane without a seed continues with its next episode number; one that never had a seed
        begins with a random one.

        Raises:
            InputError: there is not one seed, or one boolean of the mask, per lane.
        """
        seeds = lane_seeds(seed, self.num_envs)
        self._begin(np.flatnonzero(reset_mask(options, self.num_envs)), seeds)
        return self._observation(), {}

    @torch.inference_mode()
    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dreams one step of the lanes that have not ended.

        Raises:
            InputError: the actions are not finite real numbers, one row per lane.
        """
        actions = lane_actions(actions, self.num_envs, self.actions.size)
        rewards = np.zeros(self.num_envs)
        ended = self.terminated | self.truncated
        lanes = np.flatnonzero(~ended)
        if len(lanes):
            rewards[lanes] = self._advance(lanes, actions)
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and ended.any():
            self._begin(np.flatnonzero(ended), [None] * self.num_envs)
        flags = self.terminated.copy(), self.truncated.copy()
        return self._observation(), rewards, *flags, {}

    def retire(self, lanes: np.ndarray) -> np.ndarray:
        """Freezes the lanes of a mask until they are reset, as if truncated.

        Returns:
            What the steps that each of them had left cost (E,): env.reward_per_frame, if negative.
        """
        lanes = lane_mask(lanes, self.num_envs, "lanes")
        self.truncated |= lanes
        return lanes * (self.config.horizon - self.steps) * min(self.rules.reward, 0.0)

    @torch.inference_mode()
    def render(self) -> tuple[np.ndarray, ...]:
        """One frame uint8 (S, S, 3) per lane."""
        if self.vae is None:
            raise InputError("rendering a dream needs V: pass vae=")
        return tuple(frames_of(self.vae.decode(self.state.z)).numpy())

    def begin_at(self, windows: Sequence[int]) -> np.ndarray:
        """Begins lane i at start window `windows[i]`; returns the observation.

        Raises:
            InputError: there is not one window per lane, or one does not exist.
        """
        count = len(self._starts[0])
        if len(windows) != self.num_envs or not all(0 <= window < count for window in windows):
            raise InputError(
                f"{self.num_envs} lanes need one start window each, from 0 to {count - 1}, not "
                f"{list(windows)}"
            )
        self.reset(seed=0)
        self._start(np.arange(self.num_envs), list(windows))
        return self._observation()

    def begin_as(self, memory: Memory) -> np.ndarray:
        """Begins all lanes, with new noise, where reality's are; returns the observation."""
        self.reset()
        state = self.state
        state.z[:], state.h[:], state.c[:] = memory.z, memory.h, memory.c
        state.first[:] = memory.first
        return self._observation()

    def _begin(self, lanes: np.ndarray, seeds: Sequence[int | None]) -> None:
        for lane in lanes:
            seed, before = seeds[lane], self.keys[lane]
            self.keys[lane] = (before[0], before[1] + 1) if seed is None else (seed, 0)
        keys = [self.keys[lane] for lane in lanes]
        windows = {key: self._start_of(key) for key in dict.fromkeys(keys)}
        self.noise.begin(lanes.tolist(), keys)
        self._start(lanes, [windows[key] for key in keys])
        self.steps[lanes], self.weights[lanes], self.earned[lanes] = 0, 1.0, 0.0
        self.terminated[lanes] = self.truncated[lanes] = False

    def _start(self, lanes: np.ndarray, windows: list[int]) -> None:
        index = torch.from_numpy(lanes)
        for part, start in zip(self.state.parts, self._starts, strict=True):
            part[index] = start[windows]

    def _start_of(self, key: tuple[int, int]) -> int:
        return int(numpy_generator(key[0], "dream start", key[1]).integers(len(self._starts[0])))

    def _advance(self, lanes: np.ndarray, actions: np.ndarray) -> np.ndarray:
        index, state = torch.from_numpy(lanes), self.state
        taken = self.actions.canonical(torch.from_numpy(actions))
        rows, weighed = self.noise.rows(lanes, self.steps[lanes]), self.rules.weigher
        before = (state.z[index], state.h[index], taken[index]) if weighed else None
        noise = self.noise.tape, rows, self.config.temperature
        outputs = self.engine.step(state, lanes, taken.numpy(), *noise)
        state.first[index] = 0.0
        self.steps[lanes] += 1
        self.truncated[lanes] = self.steps[lanes] >= self.config.horizon
        given = self.noise.thresholds(rows), self.weights[lanes], self.earned[lanes]
        outcome = self.rules(self.mdnrnn, before, outputs, *map(torch.from_numpy, given))
        rewards, *rest = (part.numpy() for part in outcome)
        self.terminated[lanes], self.weights[lanes], self.earned[lanes] = rest
        return rewards

    @torch.inference_mode()
    def _observation(self) -> np.ndarray:
        mine = self.state.z, self.state.h, self.state.c
        return features(self.mdnrnn, *mine, self.inputs).numpy()


def inputs_of(bundle: Bundle, inputs: str | None) -> str:
    """The parts of an observation: the given ones, or those that the bundle's C sees.

    Raises:
        InputError: they are unknown, or M has none.
    """
    config = bundle.controller.config
    if inputs is not None:
        config = checked(ControllerConfig, {"inputs": inputs})
        controller_for(config, bundle.mdnrnn)
    return config.inputs


def _weigher(mdnrnn: MDNRNN, name: str) -> Head | None:
    """The head that weighs rewards; none: nothing does."""
    able = {head.name: head for head in mdnrnn.heads if head.does("survives")}
    if name not in ("none", *able):
        raise InputError(
            f"dream.weight is {name}, but M has no such head, only {sorted(able)}: set it to none "
            "or train M with mdnrnn.termination_head or mdnrnn.risk_horizons"
        )
    return able.get(name)


@torch.inference_mode()
def warm(mdnrnn: MDNRNN, starts: Starts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z, h, c and the restart flag at the last frame of each window."""
    z, first = starts.mu[:, -1].clamp(-LATENT_BOUND, LATENT_BOUND), starts.first
    if starts.mu.shape[1] == 1:
        return z, *mdnrnn.initial_state(len(starts)), first
    flags = torch.zeros(starts.mu.shape[0], starts.mu.shape[1] - 1)
    flags[:, 0] = first
    _, (h, c) = mdnrnn(starts.mu[:, :-1], starts.actions[:, :-1], flags)
    return z, h, c, torch.zeros_like(first)


def make_dream(
    num_envs: int = 1,
    *,
    bundle: Bundle | str | Path,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    inputs: str | None = None,
    **changes: Any,
) -> DreamEnv:
    """The dream of a bundle.

    Args:
        num_envs: lanes.
        bundle: a bundle, a shipped one's name, its folder, or a run folder.
        autoreset_mode: NEXT_STEP or DISABLED.
        inputs: parts of the observation, see `ControllerConfig`; none: those of the bundle's C.
        changes: fields of `DreamConfig`, such as temperature and horizon, in place of the bundle's.

    Raises:
        InputError: there is no such bundle, or it is broken, or a field is unknown or wrong.
    """
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    try:
        config = checked(DreamConfig, {**loaded.dream, **changes})
    except InputError as error:
        raise InputError(f"dream.{error}") from error
    return DreamEnv(
        loaded.mdnrnn,
        loaded.starts,
        loaded.world,
        config,
        num_envs,
        inputs=inputs_of(loaded, inputs),
        autoreset_mode=AutoresetMode(autoreset_mode),
        vae=loaded.vae,
    )
