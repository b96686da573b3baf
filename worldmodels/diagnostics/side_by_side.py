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

from worldmodels.acting.evaluate import (
    BASELINES,
    ModelFiles,
    models_of,
    population_policy,
    real_envs,
    swept,
    world_text,
)
from worldmodels.acting.policies import ExploreConfig, Explorer
from worldmodels.acting.rollout import Policy
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
from worldmodels.envs.features import FeatureEnv
from worldmodels.files import load_json
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller
from worldmodels.models.senses import senses_of
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
class OpenLoop:
    """An entry of baselines.json: `constant` or `sweep`, in the environment's own actions."""

    name: str
    policy: str
    argument: Any


@dataclass(frozen=True)
class Controlled:
    """A controller, the only policy that looks at its observations."""

    name: str
    controller: Controller
    parameters: Float64[np.ndarray, " N"]


FixedPolicy = Exploring | OpenLoop | Controlled
"""A policy before its first step; it can be sent to a worker."""


def open_loop_policies(env: EnvConfig, explore: ExploreConfig) -> list[FixedPolicy]:
    """Random actions, the policy that collects, and the world's entries of baselines.json.

    Random networks, which look at frames, are left out.
    """
    found: list[FixedPolicy] = [Exploring()]
    if explore.policy != "random_network":
        found.append(Exploring("explorer", explore))
    entries = load_json(BASELINES).get(env.id, [])
    return found + [OpenLoop(e["name"], e["policy"], e["argument"]) for e in entries]


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
            return population_policy(policy.controller, policy.parameters[None], actions)
        case OpenLoop():
            return _open_loop(policy, actions, len(generators), action_repeat)


def _open_loop(policy: OpenLoop, actions: Actions, lanes: int, action_repeat: int) -> Policy:
    frame = -action_repeat

    def act(_: np.ndarray) -> np.ndarray:
        nonlocal frame
        frame += action_repeat
        own = swept(frame, policy.argument) if policy.policy == "sweep" else policy.argument
        return np.repeat(actions.from_environment(np.array([own])), lanes, axis=0)

    return act


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
        found = {}
        for policy, there in zip(policies, real, strict=True):
            dreamt = self._in_dreams(policy, moments)
            about = {"driver": held_out.driver, "starts": len(moments)}
            about["episodes"] = int(episodes.max()) + 1
            found[policy.name] = about | self._beside(dreamt, there, limits, episodes)
        return found

    def _in_reality(self, policy: FixedPolicy, replays: Sequence[Replay]) -> Outcomes:
        parts = [list(replays[i : i + LANES]) for i in range(0, len(replays), LANES)]
        fixed = world_text(self.world), self.models, policy
        jobs = [(*fixed, part, self.dream.horizon, self.seed) for part in parts]
        return Outcomes.joined(run_jobs(_real_job, jobs, self.workers, policy.name))

    def _in_dreams(self, policy: FixedPolicy, moments: Sequence[Moment]) -> Outcomes:
        """`dreams` lanes from each moment, one moment after the other."""
        lanes = len(moments) * self.dreams
        env = self.make_dream(lanes, starts_of(moments, self.dream.window), self.dream)
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
    """Lets a policy act from where an environment is, for `horizon` steps.

    Args:
        env: under AutoresetMode.DISABLED, so that ended lanes are frozen.
        observations: the present ones.
        policy: acts on all lanes at once.
        horizon: H.
        rewards_of: gives the rewards that are compared; by default the environment's.
    """
    live = np.ones(env.num_envs, bool)
    rewards, lengths = np.zeros((env.num_envs, horizon)), np.zeros(env.num_envs, np.int64)
    died, cut = np.zeros(env.num_envs, bool), np.zeros(env.num_envs, bool)
    for step in range(horizon):
        if not live.any():
            break
        observations, received, terminated, truncated, infos = env.step(policy(observations))
        rewards[:, step] = np.where(live, rewards_of(received, infos), 0.0)
        lengths += live
        died |= live & terminated
        cut |= live & truncated & ~terminated & (step < horizon - 1)
        live &= ~(terminated | truncated)
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
    world: str,
    models: ModelFiles,
    policy: FixedPolicy,
    replays: list[Replay],
    horizon: int,
    seed: int,
) -> Outcomes:
    """What happens to a policy after each replay."""
    looks = isinstance(policy, Controlled)
    envs = real_envs(world, len(replays), False)
    envs.drawing = looks
    envs.retire(np.ones(len(replays), bool))  # episodes of the job before
    actions, config = Actions.from_dict(envs.world.action), envs.world.config
    names = [(policy.name, replay.index, "reality") for replay in replays]
    generators = [numpy_generator(seed, *name) for name in names]
    act = begin(policy, actions, generators, config.action_repeat)
    env: VectorEnv[np.ndarray, np.ndarray, Any] = envs
    recorded = [replay.actions for replay in replays]
    if isinstance(policy, Controlled):
        settings = policy.controller.config
        env = FeatureEnv(envs, *senses_of(settings, *models_of(models)), actions, settings.inputs)
    else:
        recorded = [actions.to_environment(each) for each in recorded]
        choose = act

        def act(frames: np.ndarray) -> np.ndarray:
            return actions.to_environment(choose(frames))

    observations = go_to(env, [replay.seed for replay in replays], recorded)
    return follow(env, observations, act, horizon, dream_rewards(config))


def go_to(
    env: VectorEnv[np.ndarray, np.ndarray, Any],
    seeds: Sequence[int],
    actions: Sequence[np.ndarray],
) -> np.ndarray:
    """Replays each lane's actions; the observations there.

    Longer replays begin earlier, so that all lanes take their last action at the same step.
    """
    lengths = np.array([len(each) for each in actions])
    own = np.zeros((env.num_envs, *actions[0].shape[1:]), actions[0].dtype)
    for left in range(lengths.max(), -1, -1):
        if (begins := lengths == left).any():
            options = {"reset_mask": begins}
            observations, _ = env.reset(seed=list(seeds), options=options)  # type: ignore[arg-type]
        if left:
            for lane in map(int, np.flatnonzero(lengths >= left)):
                own[lane] = actions[lane][lengths[lane] - left]
            observations, *_ = env.step(own)
    return observations


def is_repeatable(world: World, file: Path, seed: int, workers: WorkersConfig) -> bool:
    """Whether the recorded actions give a recorded episode's frames again, on its seed."""
    return run_jobs(_replay_job, [(world_text(world), file, seed)], workers)[0]


def _replay_job(world: str, file: Path, seed: int) -> bool:
    envs, episode = real_envs(world, 1, False), Episode.load(file)
    envs.drawing = True
    own = Actions.from_dict(envs.world.action).to_environment(episode.actions)
    frames, _ = envs.reset(seed=[seed])
    for action, (now, after) in zip(own[:COMPARED], pairwise(episode.frames), strict=False):
        if not np.array_equal(frames[0], now):
            return False
        frames = envs.step(action[None])[0]
        if not np.array_equal(frames[0], after):
            return False
    return True
