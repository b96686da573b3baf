"""Import: converts recordings to episodes, in place of `collect`."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from worldmodels.data.episode import Episode
from worldmodels.data.manifest import entry_of, save_manifest
from worldmodels.data.readers import Record, Source, Steps, checked, open_source
from worldmodels.envs.picture import check_matches, frame_of, plain, record
from worldmodels.envs.real import describe
from worldmodels.errors import InputError
from worldmodels.files import load_json, save_bytes, save_json
from worldmodels.models.action import Actions
from worldmodels.run import Metrics, Run, progress, say
from worldmodels.stages.replay import with_pictures
from worldmodels.versions import package_versions
from worldmodels.world import RECORDED, EnvConfig, RawPicture, World

FIRST = 500_000
"""Number of the first imported episode; `collect` counts its own from 0."""
LOOKED_AT = 9
"""Pictures that tell the layout, such as that of a stack."""
SOURCE = "source.json"
"""The file beside the episodes that names what they were imported from."""
MOST_CHOICES = 1000
"""Larger whole numbers are no choices."""


def import_episodes(run: Run, source: str, env: EnvConfig) -> None:
    """Writes episodes/ and world.json of recordings.

    All actions, rewards and ends are checked before anything is written, and the folder gets its
    name when it is whole.

    Args:
        run: where they go.
        source: as for `open_source`.
        env: the live environment that the recordings are of; with id `recorded` there is none, and
            the action space is the data's.

    Raises:
        InputError: names the file and the key of the first record that is wrong.
    """
    opened, found = with_pictures(open_source(source, env.screen), env), _Found()
    about = {"source": str(Path(source).resolve() if Path(source).exists() else source)}
    if run.episodes.exists():
        known = run.episodes / SOURCE
        if known.exists() and load_json(known) == about:
            say(f"{run.episodes} already exists")
            return
        raise InputError(f"{run.folder} has episodes already: use another --run")
    for one in progress(opened.records(), "check"):
        found.add(one, checked(one))
    if not found.episodes:
        raise InputError(f"{source} holds no episodes: name one with recordings")
    world = _world(env, opened, found)
    with Metrics(run, "import") as metrics:
        partial = run.folder / "episodes.importing"
        shutil.rmtree(partial, ignore_errors=True)
        records = progress(opened.records(), "import", total=found.episodes)
        try:
            entries = {}
            for number, one in enumerate(records, FIRST):
                episode, name = _episode(world, one), f"{run.number:02d}_{number:06d}.npz"
                contents = episode.packed()
                save_bytes(partial / name, contents)
                entries[name] = entry_of(contents, len(episode))
            save_manifest(partial, entries)
            save_json(partial / SOURCE, about)
            save_json(run.world_file, world.to_dict())
            os.replace(partial, run.episodes)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        metrics.log(found.episodes, frames=found.steps, episode_return=found.mean_return)
    _tell(run, opened, world, found)


@dataclass
class _Found:
    """What the records hold together."""

    first: Record | None = None
    episodes: int = 0
    steps: int = 0
    returns: list[float] = field(default_factory=list)
    rewarded: int = 0
    terminated: int = 0
    dtypes: set[str] = field(default_factory=set)
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    @property
    def mean_return(self) -> float:
        return float(np.mean(self.returns))

    def add(self, record: Record, steps: Steps) -> None:
        """Counts an episode in.

        Raises:
            InputError: its actions are of another kind than those of the first.
        """
        actions = steps.actions
        kind = "float" if actions.dtype.kind == "f" else "whole"
        low, high = actions.min(axis=0), actions.max(axis=0)
        if self.first is None or self.low is None or self.high is None:
            self.first, self.low, self.high, self.dtypes = record, low, high, {kind}
        if low.shape != self.low.shape or kind not in self.dtypes:
            raise InputError(
                f"{record.named('actions')} holds {kind} numbers of shape {actions.shape}, but "
                f"{self.first.named('actions')} {self.dtypes.pop()} ones of {self.low.shape} a "
                "step: make all alike"
            )
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.episodes, self.steps = self.episodes + 1, self.steps + len(actions)
        self.returns.append(float(steps.rewards.sum()))
        self.rewarded += int(np.count_nonzero(steps.rewards))
        self.terminated += bool(steps.terminated[-1])

    def space(self) -> gymnasium.Space[Any]:
        """The action space that the data shows: whole numbers are choices, floats a box.

        A box has the bounds -1 and 1 where all numbers lie between, else those of the data.
        """
        assert self.first is not None
        low, high = np.asarray(self.low), np.asarray(self.high)
        if "float" in self.dtypes:
            low, high = (np.atleast_1d(np.asarray(b, np.float32)) for b in (low, high))
            if (np.abs([low, high]) <= 1).all():
                low, high = np.full_like(low, -1.0), np.full_like(high, 1.0)
            return gymnasium.spaces.Box(low, high)
        if low.min() < 0 or high.max() >= MOST_CHOICES:
            raise InputError(
                f"{self.first.named('actions')}: whole numbers from {low.min()} to {high.max()} "
                "are no choices, which are counted from 0: save strengths as floats"
            )
        counts = high.astype(int) + 1
        if counts.ndim == 0:
            return gymnasium.spaces.Discrete(int(counts))
        return gymnasium.spaces.MultiDiscrete(counts)


def _world(env: EnvConfig, source: Source, found: _Found) -> World:
    """The live environment's world, or that of the data."""
    if env.live:
        return describe(env)
    assert found.first is not None
    space = source.space
    if space is None or (isinstance(space, gymnasium.spaces.Box) and not space.is_bounded()):
        space = found.space()
    try:
        actions = Actions.of_space(space, env.action, env.action_clip)
    except InputError as error:
        raise InputError(f"{found.first.named('actions')}: {error}") from error
    return World(env, actions.to_dict(), source.fps, package_versions(), _raw_picture(env, found))


def _episode(world: World, record: Record) -> Episode:
    steps = checked(record)
    frames = [_frame(world, record, picture) for picture in record.frames()]
    if len(frames) > len(steps.actions) and not frames[-1].any():
        del frames[-1]  # as in `rollout.record`: the environment has no last picture
    if len(frames) - len(steps.actions) not in (0, 1):
        raise InputError(
            f"{record.named('frames')} holds {len(frames)} pictures for {len(steps.actions)} "
            "actions: one before each action is needed, and perhaps a last one"
        )
    actions = _actions(world, record, steps.actions)
    counts = np.zeros_like(steps.rewards)
    rest = steps.rewards, counts, steps.terminated, steps.truncated
    return Episode(np.stack(frames), actions, *rest)


def _raw_picture(env: EnvConfig, found: _Found) -> RawPicture:
    assert found.first is not None
    pictures = list(islice(found.first.frames(), LOOKED_AT)) or [None]
    shape = getattr(pictures[0], "shape", (1,))
    try:
        whole = getattr(pictures[0], "dtype", None) == np.uint8
        space = gymnasium.spaces.Box(0, 255 if whole else np.inf, shape)
        return record(env, pictures, space, rendered=False)
    except InputError as error:
        raise InputError(f"{found.first.named('frames')}: {error}") from error


def _frame(world: World, record: Record, picture: np.ndarray) -> np.ndarray:
    try:
        check_matches(world, picture)
    except InputError as error:
        raise InputError(f"{record.named('frames')}: {error}") from error
    return frame_of(plain(world.picture, picture), world.config)


def _actions(world: World, record: Record, own: np.ndarray) -> np.ndarray:
    """The environment's own actions (T, ...) as actions a (T, A)."""
    actions = Actions.from_dict(world.action)
    space = actions.own_space
    if own.ndim == 1 and space.shape:
        own = own[:, None]
    if own.shape[1:] == (1,) and not space.shape:
        own = own[:, 0]
    box = isinstance(space, gymnasium.spaces.Box)
    if own.shape[1:] != space.shape or (own.dtype.kind == "f" and not box):
        raise InputError(
            f"{record.named('actions')} holds {own.dtype} {own.shape}, but the actions of "
            f"{world.config.id} are {space}: each step needs one"
        )
    if box:
        bounds = (np.array(bound, np.float32) for bound in (actions.low, actions.high))
        return np.clip(own.astype(np.float32), *bounds)
    counts = np.maximum(actions.counts, 2) if actions.counts else np.array([actions.choices])
    if (wrong := (own < 0) | (own >= (counts if space.shape else counts[0]))).any():
        step = int(np.argwhere(wrong)[0][0])
        raise InputError(
            f"{record.named('actions')} is {own[step]} at step {step}, which {space} does not have"
        )
    return actions.from_environment(own.astype(np.int64))


def _tell(run: Run, source: Source, world: World, found: _Found) -> None:
    returns, space = np.array(found.returns), Actions.from_dict(world.action).own_space
    ends = f"{found.terminated} of them terminate, the others are truncated"
    say(f"{found.episodes} episodes of {source.kind} in {run.episodes}:")
    say(f"  steps     {found.steps}, {world.fps:g} a second; {ends}")
    say(f"  picture   {world.picture}, as {world.config.size}x{world.config.size}")
    say(f"  actions   {' '.join(str(space).split())}")
    say(f"  returns   {returns.min():g} to {returns.max():g}; not zero in {found.rewarded} steps")
    if world.config.reward == "real" and not found.rewarded:
        say(
            "looks wrong: no step has a reward, so C can learn nothing in dreams: add rewards, "
            "or set env.reward to constant, with env.reward_per_frame, where surviving is the task"
        )
    if not world.config.live:
        say(f"env.id is {RECORDED}: nothing will be measured in reality, dreams select C")
