"""The same policies from the same held-out moments, in the dream and in reality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import Float32, Float64, Int64

from worldmodels.acting.environments import ModelFiles, feature_env, frame_env
from worldmodels.acting.policies import (
    Baseline,
    Candidates,
    ExploreConfig,
    Explorer,
    OpenLoop,
    Policy,
    Recorded,
)
from worldmodels.acting.rollout import steps
from worldmodels.data.episode import Episode
from worldmodels.data.starts import Moment, starts_of
from worldmodels.diagnostics.held_out import HeldOut
from worldmodels.diagnostics.survival import (
    Outcomes,
    Rewards,
    compare,
    dream_rewards,
    return_curve,
    returns_within,
    step_limits,
    steps_survived,
    survival_curve,
)
from worldmodels.envs.dream import DreamConfig, DreamEnv
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller
from worldmodels.seeding import numpy_generator
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import EnvConfig, World

LANES = 10
"""Starts of a job."""
COMPARED = 60
"""Frames of a replay that must equal the recorded ones."""


@dataclass(frozen=True)
class Exploring:
    """The policy that collects, or one that samples every action uniformly."""

    name: str = "random"
    config: ExploreConfig = field(default_factory=lambda: ExploreConfig(policy="uniform"))


@dataclass(frozen=True)
class Controlled:
    """A controller, the only policy that looks at its observations."""

    name: str
    controller: Controller
    parameters: Float64[np.ndarray, " N"]


FixedPolicy = Exploring | Baseline | Controlled
"""A policy before its first step; it can be sent to a worker."""


def open_loop_policies(env: EnvConfig, explore: ExploreConfig) -> list[FixedPolicy]:
    """Random actions, the policy that collects, and the world's entries of baselines.json.

    Random networks, which look at frames, are left out.
    """
    found: list[FixedPolicy] = [Exploring()]
    if explore.policy != "random_network":
        found.append(Exploring("explorer", explore))
    _, *best = Baseline.of_world(env)
    return found + best


def begin(
    policy: FixedPolicy,
    actions: Actions,
    generators: Sequence[np.random.Generator],
    action_repeat: int,
) -> Policy:
    """The policy at its first step, on one lane per generator; it returns actions a."""
    match policy:
        case Exploring():
            return Explorer(policy.config, actions, generators)
        case Controlled():
            return Candidates(policy.controller, policy.parameters[None], actions)
        case Baseline():
            return OpenLoop(policy, actions, generators, action_repeat)


@dataclass(frozen=True)
class SideBySide:
    """A run's dream and its real environment, and how policies are compared in them."""

    world: World
    models: ModelFiles
    make_dream: Callable[..., DreamEnv]
    """(num_envs, starts, config) -> a dream."""
    dream: DreamConfig
    """Its horizon holds for both worlds."""
    ends: bool
    """M predicts ends: survival is compared, not returns alone."""
    dreams: int
    """Dreams from each moment."""
    workers: WorkersConfig
    seed: int
    """Of the policies' samples."""

    def compare(
        self, policies: Sequence[FixedPolicy], held_out: HeldOut, moments: Sequence[Moment]
    ) -> dict[str, Any]:
        """What happens to each policy after some held-out moments, by the policy's name."""
        replays = [
            Replay(held_out.seed_of(moment.file), moment.episode.actions[: moment.start], index)
            for index, moment in enumerate(moments)
        ]
        real = [self._in_reality(policy, replays) for policy in policies]
        starts = np.array([moment.start for moment in moments], np.int64)
        limits = step_limits(starts, self.dream.horizon, real)
        _, episodes = np.unique([str(moment.file) for moment in moments], return_inverse=True)
        about = {"driver": held_out.driver, "starts": len(moments)}
        about["episodes"] = int(episodes.max()) + 1
        return {
            policy.name: about
            | self._beside(self._in_dreams(policy, moments), there, limits, episodes)
            for policy, there in zip(policies, real, strict=True)
        }

    def _in_reality(self, policy: FixedPolicy, replays: Sequence[Replay]) -> Outcomes:
        parts = [replays[i : i + LANES] for i in range(0, len(replays), LANES)]
        fixed = self.world, self.models, policy
        jobs = [(*fixed, part, self.dream.horizon, self.seed) for part in parts]
        return Outcomes.joined(run_jobs(_real_job, jobs, self.workers, policy.name))

    def _in_dreams(self, policy: FixedPolicy, moments: Sequence[Moment]) -> Outcomes:
        """`dreams` lanes from each moment, one moment after the other."""
        lanes = len(moments) * self.dreams
        env = self.make_dream(lanes, starts_of(moments, self.dream.warmup), self.dream)
        names = [divmod(lane, self.dreams) for lane in range(lanes)]
        generators = [numpy_generator(self.seed, policy.name, i, "dream", d) for i, d in names]
        act = begin(policy, env.actions, generators, self.world.config.action_repeat)
        return follow(env, env.begin_at([i for i, _ in names]), act, self.dream.horizon)

    def _beside(
        self,
        dream: Outcomes,
        real: Outcomes,
        limits: Int64[np.ndarray, " N"],
        episodes: Int64[np.ndarray, " N"],
    ) -> dict[str, Any]:
        """Means and curves of both; the dreams of one moment count as one value, their mean."""
        every = np.repeat(limits, self.dreams)
        curve = survival_curve if self.ends else return_curve
        found: dict[str, Any] = {
            "curves": {"dream": curve(dream, every), "real": curve(real, limits)}
        }
        measures = {"returns": returns_within} | ({"survival": steps_survived} if self.ends else {})
        for name, measure in measures.items():
            dreamt = measure(dream, every).reshape(-1, self.dreams).mean(axis=1)
            found[name] = asdict(compare(dreamt, measure(real, limits), episodes, self.seed))
        return found


def follow(
    env: VectorEnv[np.ndarray, np.ndarray, Any],
    observations: np.ndarray,
    policy: Policy,
    horizon: int,
    rewards_of: Rewards = lambda rewards, _: rewards,
) -> Outcomes:
    """Lets a policy act from the present `observations` on, for `horizon` steps.

    Args:
        env: under AutoresetMode.DISABLED, so that ended lanes are frozen.
        observations: the present ones.
        policy: acts on all lanes at once.
        horizon: H, in steps.
        rewards_of: gives the rewards that are compared; by default the environment's.
    """
    rewards, lengths = np.zeros((env.num_envs, horizon)), np.zeros(env.num_envs, np.int64)
    died, cut = np.zeros(env.num_envs, bool), np.zeros(env.num_envs, bool)
    for k, step in enumerate(steps(env, policy, observations, max_steps=horizon)):
        rewards[:, k] = np.where(step.took, rewards_of(step.rewards, step.infos), 0.0)
        lengths += step.took
        died |= step.took & step.terminated
        cut |= step.took & step.truncated & ~step.terminated & (k < horizon - 1)
    return Outcomes(rewards, lengths, died, cut)


@dataclass(frozen=True)
class Replay:
    """How reality gets to a recorded moment."""

    seed: int
    """The environment's."""
    actions: Float32[np.ndarray, "T A"]
    index: int
    """The moment's: names what the policy samples from there on."""


def _real_job(
    world: World,
    models: ModelFiles,
    policy: FixedPolicy,
    replays: Sequence[Replay],
    horizon: int,
    seed: int,
) -> Outcomes:
    """What happens to a policy after each replay."""
    generators = [numpy_generator(seed, policy.name, r.index, "reality") for r in replays]
    lanes = len(replays)
    with (
        feature_env(world, models, policy.controller.config, lanes)
        if isinstance(policy, Controlled)
        else frame_env(world, lanes, drawing=False)
    ) as env:
        act = begin(policy, env.actions, generators, world.config.action_repeat)
        observations = go_to(env, [r.seed for r in replays], [r.actions for r in replays])
        return follow(env, observations, act, horizon, dream_rewards(world.config))


def go_to(
    env: VectorEnv[np.ndarray, np.ndarray, Any],
    seeds: Sequence[int],
    actions: Sequence[Float32[np.ndarray, "_ A"]],
) -> np.ndarray:
    """Replays each lane's actions; the observations there.

    Longer replays begin earlier, so that all lanes take their last action at the same step.
    """
    lengths, live = np.array([len(each) for each in actions]), np.zeros(len(actions), bool)
    nothing = np.zeros((1, actions[0].shape[1]), np.float32)
    for left, later in pairwise([*sorted({*lengths.tolist(), 0}, reverse=True), 0]):
        if (begins := lengths == left).any():
            options = {"reset_mask": begins}
            observations, _ = env.reset(seed=list(seeds), options=options)  # type: ignore[arg-type]
            live = live | begins
        rows = [each[len(each) - left :] if len(each) >= left > 0 else nothing for each in actions]
        for step in steps(env, Recorded(rows), observations, live, max_steps=left - later):
            observations, live = step.observations, step.live
    return observations


def is_repeatable(world: World, file: Path, seed: int, workers: WorkersConfig) -> bool:
    """Whether the recorded actions give a recorded episode's frames again, on its seed."""
    return run_jobs(_replay_job, [(world, file, seed)], workers)[0]


def _replay_job(world: World, file: Path, seed: int) -> bool:
    episode = Episode.load(file)
    recorded = episode.frames[: COMPARED + 1]
    with frame_env(world, 1) as env:
        frames, _ = env.reset(seed=[seed])
        taken = steps(env, Recorded([episode.actions]), frames, max_steps=len(recorded) - 1)
        again = [frames[0], *(step.observations[0] for step in taken)]
    return np.array_equal(again, recorded)
