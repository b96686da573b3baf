"""The same policies from the same held-out moments, in the dream and in reality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import Float32, Float64, Int64

from worldmodels.acting.environments import ModelFiles, Reality, frame_env
from worldmodels.acting.policies import Baseline, Candidates, OpenLoop, Policy, Recorded
from worldmodels.acting.rollout import steps
from worldmodels.artifacts import load_controller
from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import Episode
from worldmodels.data.starts import Moment, sample_moments, starts_of
from worldmodels.diagnostics.inspection import HeldOut, Inspection, Rows
from worldmodels.diagnostics.survival import (
    Outcomes,
    Rewards,
    compare,
    dream_rewards,
    return_curve,
    step_limits,
    survival_curve,
    until_stalled,
)
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, controller_for
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.run import say
from worldmodels.seeding import numpy_generator
from worldmodels.stages.explore import ExploreConfig, Explorer
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import World

LANES = 10
"""Starts of a job."""
SURVIVED, UNTIL_STALLED = "steps survived", "steps until a second without a count"
"""Measures of survival; environments without either are compared by returns."""
COMPARED = 60
"""Frames of a replay that must equal the recorded ones."""


@dataclass(frozen=True)
class Controlled:
    """A controller, the only policy that looks at its observations."""

    controller: Controller
    parameters: Float64[np.ndarray, " N"]


FixedPolicy = ExploreConfig | Baseline | Controlled
"""A policy before its first step; it can be sent to a worker."""


def survival(inspection: Inspection) -> Rows:
    """Open-loop policies go on from the collecting policy's moments, C from its own."""
    explorer, *controllers = inspection.held_out
    config, world = inspection.config, inspection.world
    if not is_repeatable(world, explorer.files[0], explorer.seeds[0], config.workers):
        say("recorded actions do not give the recorded frames again: survival is not compared")
        return []
    rows = _compare(inspection, explorer, open_loop_policies(world, config.collect.explore))
    for one in controllers:
        saved = load_controller(inspection.run)
        controller = controller_for(saved.config, inspection.mdnrnn)
        parameters = saved.best.double().numpy()
        rows += _compare(inspection, one, {"controller": Controlled(controller, parameters)})
    return rows


def open_loop_policies(world: World, explore: ExploreConfig) -> dict[str, FixedPolicy]:
    """Random actions, the policy that collects, and the environment's entries of baselines.json.

    Random networks, which look at frames, are left out.
    """
    found: dict[str, FixedPolicy] = {"random": ExploreConfig(policy="held", hold=(1, 1))}
    if explore.policy != "random_network" and not explore.given:
        found["explorer"] = explore
    return found | {one.name: one for one in Baseline.shipped(world)}


def begin(
    policy: FixedPolicy,
    actions: Actions,
    generators: Sequence[np.random.Generator],
    action_repeat: int,
) -> Policy:
    """The policy at its first step, on one lane per generator; it returns actions a."""
    match policy:
        case ExploreConfig():
            return Explorer(policy, actions, generators)
        case Controlled():
            return Candidates(policy.controller, policy.parameters[None], actions)
        case Baseline():
            return OpenLoop(policy, actions, generators, action_repeat)


def _compare(inspection: Inspection, held_out: HeldOut, policies: dict[str, FixedPolicy]) -> Rows:
    """A row for each policy: what happens to it after some held-out moments."""
    config, seed = inspection.config, inspection.seed
    moments = sample_moments(
        EpisodeSource(held_out.latents),
        count=inspection.settings.starts,
        window=config.dream.warmup,
        seed=seed,
    )
    if not moments:
        say(f"{held_out.driver}: all held-out episodes are shorter than dream.warmup")
        return []
    seeds = dict(zip(held_out.latents, held_out.seeds, strict=True))
    replays = [
        Replay(seeds[moment.file], moment.episode.actions[: moment.start], index)
        for index, moment in enumerate(moments)
    ]
    real = [_in_reality(inspection, *policy, replays) for policy in policies.items()]
    starts = np.array([moment.start for moment in moments], np.int64)
    limits = step_limits(starts, config.dream.horizon, real)
    _, episodes = np.unique([str(moment.file) for moment in moments], return_inverse=True)
    about = {
        "driver": held_out.driver,
        "starts": len(moments),
        "episodes": int(max(episodes)) + 1,
        "horizon": config.dream.horizon,
    }
    return [
        {"policy": name, **about, **_beside(inspection, dreamt, there, limits, episodes)}
        for (name, policy), there in zip(policies.items(), real, strict=True)
        for dreamt in [_in_dreams(inspection, name, policy, moments)]
    ]


def _in_reality(
    inspection: Inspection, name: str, policy: FixedPolicy, replays: Sequence[Replay]
) -> Outcomes:
    horizon, seed = inspection.config.dream.horizon, inspection.seed
    fixed = inspection.world, inspection.models, name, policy
    parts = [replays[i : i + LANES] for i in range(0, len(replays), LANES)]
    jobs = [(*fixed, part, horizon, seed) for part in parts]
    return Outcomes.joined(run_jobs(_real_job, jobs, inspection.config.workers, name))


def _in_dreams(
    inspection: Inspection, name: str, policy: FixedPolicy, moments: Sequence[Moment]
) -> Outcomes:
    """`dreams` lanes from each moment, one moment after the other."""
    settings, dream = inspection.settings, inspection.config.dream
    config = replace(dream.plain, temperature=settings.temperature)
    lanes = [divmod(lane, settings.dreams) for lane in range(len(moments) * settings.dreams)]
    env = inspection.dreams.make(len(lanes), starts_of(moments, dream.warmup), config)
    generators = [numpy_generator(inspection.seed, name, i, "dream", d) for i, d in lanes]
    act = begin(policy, env.actions, generators, inspection.world.config.action_repeat)
    return follow(env, env.begin_at([i for i, _ in lanes]), act, config.horizon)


def _beside(
    inspection: Inspection,
    dream: Outcomes,
    real: Outcomes,
    limits: Int64[np.ndarray, " N"],
    episodes: Int64[np.ndarray, " N"],
) -> dict[str, Any]:
    """Means and curves of survival and returns, or of returns only, in the dream and in reality.

    The dreams of one moment count as one value, their mean.
    """
    every = np.repeat(limits, inspection.settings.dreams)
    dream, real = dream.within(every), real.within(limits)
    env = inspection.world.config

    def compared(dreamt: np.ndarray, there: np.ndarray) -> dict[str, Any]:
        means = dreamt.reshape(len(limits), -1).mean(axis=1)
        return compare(means, there, episodes, inspection.seed)

    returns = compared(dream.rewards.sum(axis=1), real.rewards.sum(axis=1))
    measure, lives = "return", list[Outcomes]()
    if inspection.mdnrnn.find(TerminationHead) is not None:
        measure, lives = SURVIVED, [dream, real]
    elif env.reward == "count" and env.reward_per_count:
        measure, lives = UNTIL_STALLED, [until_stalled(o, inspection.world) for o in (dream, real)]
    curves = (
        [survival_curve(one) for one in lives]
        if lives
        else [return_curve(dream, every), return_curve(real, limits)]
    )
    return {
        "measure": measure,
        **(compared(*(one.lengths.astype(np.float64) for one in lives)) if lives else returns),
        "returns": returns,
        "curves": dict(zip(("dream", "real"), curves, strict=True)),
    }


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
    name: str,
    policy: FixedPolicy,
    replays: Sequence[Replay],
    horizon: int,
    seed: int,
) -> Outcomes:
    """What happens to a policy after each replay."""
    generators = [numpy_generator(seed, name, r.index, "reality") for r in replays]
    lanes = len(replays)
    with (
        Reality(world, models, policy.controller).open(lanes)
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
        frames, _ = env.reset(seed=[seed])  # type: ignore[arg-type]
        taken = steps(env, Recorded([episode.actions]), frames, max_steps=len(recorded) - 1)
        again = [frames[0], *(step.observations[0] for step in taken)]
    return np.array_equal(again, recorded)
