"""Reality brought back to recorded moments, and left to a policy there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float32

from worldmodels.acting.evaluate import ModelFiles, models_of, real_envs, world_text
from worldmodels.data.episode import Episode, numbers_of
from worldmodels.diagnostics.policies import Driving, Fixed, begin
from worldmodels.diagnostics.survival import Course, follow, in_dreams_currency
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.real import RealEnvs
from worldmodels.models.action import Actions
from worldmodels.models.senses import senses_of
from worldmodels.run import Run
from worldmodels.seeding import numpy_generator, recorded_seed
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import World

LANES = 10
"""Starts of a job."""
ATTEMPTS = 20
"""Seeds of an episode that are tried."""
COMPARED = 60
"""Frames that must be the recorded ones to the last bit: at first all games of Doom look alike."""


@dataclass(frozen=True)
class Replay:
    """How reality gets to a recorded moment, and the name of what is drawn from there on."""

    seed: int
    """The environment's."""
    actions: Float32[np.ndarray, "T A"]
    name: tuple[int | str, ...]


def frames_file(run: Run, name: str) -> Path | None:
    """Where the frames of latents are: in the run, in its round, or in a sister round."""
    number = f"{numbers_of(Path(name))[0]:02d}"
    folders = run.folder, run.folder / "rounds" / number, run.folder.parent / number
    return next((f for f in (Run(f).episodes / name for f in folders) if f.exists()), None)


def find_seeds(
    world: World, files: Sequence[Path], seed: int, workers: WorkersConfig
) -> list[int | None]:
    """Environment seeds of recorded episodes; none where no replay gives the recorded frames.

    Args:
        world: in which they were recorded.
        files: of `collect`, whose names hold round and episode.
        seed: the run's.
        workers: where they are replayed.
    """
    parts = [list(files[i : i + LANES]) for i in range(0, len(files), LANES)]
    found = run_jobs(_find_job, [(world_text(world), part, seed) for part in parts], workers)
    return [one for part in found for one in part]


def _find_job(world: str, files: list[Path], seed: int) -> list[int | None]:
    envs = real_envs(world, 1, False)
    envs.drawing = True
    return [_find(envs, path, seed) for path in files]


def _find(envs: RealEnvs, path: Path, seed: int) -> int | None:
    episode = Episode.load(path)
    tries = (recorded_seed(seed, *numbers_of(path), attempt) for attempt in range(ATTEMPTS))
    return next((one for one in tries if _is_recorded(envs, episode, one)), None)


def _is_recorded(envs: RealEnvs, episode: Episode, seed: int) -> bool:
    """Whether the recorded actions show the recorded frames again."""
    own = Actions.from_dict(envs.world.action).to_environment(episode.actions)
    frames, _ = envs.reset(seed=[seed])
    for action, (now, after) in zip(own[:COMPARED], pairwise(episode.frames), strict=False):
        if not np.array_equal(frames[0], now):
            return False
        frames = envs.step(action[None])[0]
        if not np.array_equal(frames[0], after):
            return False
    return True


def follow_in_reality(
    world: World,
    senses: ModelFiles,
    policy: Fixed,
    replays: Sequence[Replay],
    horizon: int,
    seed: int,
    workers: WorkersConfig,
) -> Course:
    """What becomes of a policy after each replay, in the dream's currency.

    Args:
        world: the real one; its fast twin, where it has one.
        senses: V and M.
        policy: takes over at the moments.
        replays: the moments.
        horizon: steps.
        seed: of what the policy draws.
        workers: where they are played.
    """
    parts = [list(replays[i : i + LANES]) for i in range(0, len(replays), LANES)]
    fixed = world_text(world), senses, policy
    jobs = [(*fixed, part, horizon, seed) for part in parts]
    return Course.joined(run_jobs(_follow_job, jobs, workers, policy.name))


def _follow_job(
    world: str, senses: ModelFiles, policy: Fixed, replays: list[Replay], horizon: int, seed: int
) -> Course:
    envs = real_envs(world, len(replays), False)
    envs.drawing = isinstance(policy, Driving)
    envs.retire(np.ones(len(replays), bool))  # of the job before
    actions, config = Actions.from_dict(envs.world.action), envs.world.config
    generators = [numpy_generator(seed, policy.name, *replay.name) for replay in replays]
    act = begin(policy, actions, generators, config.action_repeat)
    paid = in_dreams_currency(config)
    if isinstance(policy, Driving):
        seeing = policy.controller.config
        through = senses_of(seeing, *models_of(senses))
        env = FeatureEnv(envs, *through, actions, seeing.inputs)
        observations, live = go_to(env, [r.seed for r in replays], [r.actions for r in replays])
        return follow(env, observations, act, horizon, paid, live)
    own = [actions.to_environment(replay.actions) for replay in replays]
    observations, live = go_to(envs, [r.seed for r in replays], own)

    def act_blindly(frames: np.ndarray) -> np.ndarray:
        return actions.to_environment(act(frames))

    return follow(envs, observations, act_blindly, horizon, paid, live)


def go_to(
    env: VectorEnv[np.ndarray, np.ndarray, Any],
    seeds: Sequence[int],
    actions: Sequence[np.ndarray],
) -> tuple[np.ndarray, Bool[np.ndarray, " E"]]:
    """Replays each lane's actions, so that all lanes come to their last one at the same step.

    Returns:
        The observations there, and which lanes have not ended on the way.
    """
    lengths = np.array([len(each) for each in actions])
    own = np.zeros((env.num_envs, *actions[0].shape[1:]), actions[0].dtype)
    live = np.zeros(env.num_envs, bool)
    for left in range(lengths.max(), -1, -1):
        if (begins := lengths == left).any():
            options = {"reset_mask": begins}
            observations, _ = env.reset(seed=list(seeds), options=options)  # type: ignore[arg-type]
            live |= begins
        if left:
            for lane in map(int, np.flatnonzero(lengths >= left)):
                own[lane] = actions[lane][lengths[lane] - left]
            observations, _, terminated, truncated, _ = env.step(own)
            live &= ~(terminated | truncated)
    return observations, live
