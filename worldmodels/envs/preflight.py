"""The preflight: a few random steps of an environment, and what they show.

It reports what later stages rely on, and refuses with one line an environment or a picture that
they cannot use.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import gymnasium
import numpy as np

from worldmodels.envs.guard import MOST_FRAMES, BrokenEnvError, Guard
from worldmodels.envs.make import is_doom, is_rendered
from worldmodels.envs.picture import choose, frame_of, picture_key, plain, record
from worldmodels.errors import InputError
from worldmodels.files import save_bytes
from worldmodels.film import captioned
from worldmodels.models.action import Actions
from worldmodels.versions import package_versions
from worldmodels.workers import WorkersConfig, run_jobs
from worldmodels.world import EnvConfig, World

STEPS = 32
"""Random steps."""
HERE = WorkersConfig(processes=1)
SEED = 0
"""Of the first reset; later ones have the next seeds."""
LEAST_SPAN = 16
"""Least difference between the brightest and the darkest pixel, of 255, that is usual."""
SHOWN = 256
"""Height of the pictures of first_frame.png, in pixels, at least."""


@dataclass(frozen=True)
class Preflight:
    """What a few random steps showed."""

    world: World
    first: np.ndarray
    """The first picture, plain: (height, width, 1 or 3)."""
    frame: np.ndarray
    """The same as V sees it."""
    rows: dict[str, str]
    """The table: what, and what was found."""
    limit: int | None
    """Frames after which an episode is cut; none: the environment has no limit."""
    warnings: tuple[str, ...]
    """What looks wrong, but hinders nothing."""

    @property
    def lines(self) -> list[str]:
        """What a user is told."""
        width = max(map(len, self.rows))
        table = [f"  {name:{width}}  {text}" for name, text in self.rows.items()]
        wrong = [f"looks wrong: {warning}" for warning in self.warnings]
        return [f"{self.world.config.id}, {STEPS} random steps:", *table, *wrong]

    def save_picture(self, path: Path) -> None:
        """Writes the first picture beside what V sees of it, as PNG."""
        panels = []
        sizes = "x".join(map(str, self.first.shape[:2])), "x".join(map(str, self.frame.shape[:2]))
        titles = f"the environment's picture, {sizes[0]}", f"what V sees of it, {sizes[1]}"
        for picture, title in zip((self.first, self.frame), titles, strict=True):
            scale = max(1, -(-SHOWN // picture.shape[0]))
            color = np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture
            panels.append(captioned(color.repeat(scale, 0).repeat(scale, 1), title))
        height = max(panel.shape[0] for panel in panels)
        padded = [np.pad(p, ((0, height - len(p)), (0, 8), (0, 0))) for p in panels]
        save_bytes(path, cv2.imencode(".png", np.hstack(padded)[:, :-8, ::-1])[1].tobytes())


_done: dict[str, Preflight] = {}


def describe(config: EnvConfig) -> World:
    """What world.json records of an environment.

    Raises:
        InputError: as `preflight`.
    """
    return preflight(config).world


def preflight(config: EnvConfig, workers: WorkersConfig = HERE) -> Preflight:
    """Plays a few random steps, once for each `env` section.

    Args:
        config: of the environment.
        workers: a worker outlives no environment that ends its process, but this process does.

    Raises:
        InputError: the environment cannot be made or played, or does not fit the config.
    """
    key = json.dumps(asdict(config), sort_keys=True, default=str)
    if key not in _done:
        _done[key] = run_jobs(_preflight, [(config,)], workers, apart=True)[0]
    return _done[key]


def _preflight(config: EnvConfig) -> Preflight:
    guard = Guard(config, official=True)
    try:
        actions = Actions.of_space(guard.env.action_space, config.action, config.action_clip)
        _check_choices(guard, config, actions)
        rendered, space = is_rendered(guard.env, config), guard.env.observation_space
        key = None if rendered else picture_key(config, space)
        played = _play(guard, key, rendered=rendered)
        if config.count_attribute and not guard.env.has_wrapper_attr(config.count_attribute):
            raise InputError(
                f"env.count_attribute: {config.id} has no `{config.count_attribute}`: name an "
                "attribute of the environment or of a wrapper"
            )
        raw = record(config, played.pictures, _part(space, key), rendered=rendered, key=key)
        fps = float(guard.env.metadata.get("render_fps") or 30)
        world = World(config, actions.to_dict(), fps, package_versions(), raw)
        first = plain(raw, np.asarray(played.pictures[0]))
        rows, limit = _rows(guard, world, played), guard.limit
        warnings = _warnings(played, world)
    except BrokenEnvError as error:
        raise InputError(str(error)) from error
    finally:
        guard.close()
    return Preflight(world, first, frame_of(first, config), rows, limit, warnings)


def _check_choices(guard: Guard, config: EnvConfig, actions: Actions) -> None:
    if config.mirrored_actions and actions.counts != (len(config.mirrored_actions),):
        raise InputError(
            f"env.mirrored_actions has {len(config.mirrored_actions)} choices: it needs "
            f"env.action auto and as many actions, but {config.id} has {guard.env.action_space}"
        )


def _part(space: gymnasium.Space[Any], key: str | None) -> gymnasium.Space[Any]:
    """The space of the picture at a key, as far as the spaces tell."""
    if isinstance(space, gymnasium.spaces.Dict) and key in space.spaces:
        return space.spaces[str(key)]
    first, _, rest = (key or "").partition(".")
    if isinstance(space, gymnasium.spaces.Dict) and first in space.spaces:
        return _part(space.spaces[first], rest)
    return space


@dataclass
class _Played:
    """What the steps returned."""

    pictures: list[Any] = field(default_factory=list)
    """Of the first episode, without its last one."""
    rewards: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    """Of the episodes that ended."""
    terminated: int = 0
    """Episodes that ended so."""
    seconds: float = 0.0
    same_seed: tuple[Any, ...] = ()
    """The first picture, and that of another episode of the same seed."""


def _play(guard: Guard, key: str | None, *, rendered: bool) -> _Played:
    played, over, age = _Played(), False, 0

    def look(observation: Any) -> Any:
        picture = choose(key, guard.picture(observation, rendered=rendered))
        return picture.copy() if isinstance(picture, np.ndarray) else picture

    guard.env.action_space.seed(SEED)
    played.pictures.append(look(guard.reset(SEED)))
    begun = time.perf_counter()
    for _ in range(STEPS):
        if over:
            guard.reset(SEED + len(played.lengths))
            age = 0
        observation, reward, terminated, truncated = guard.step(guard.env.action_space.sample())
        over, age = terminated or truncated, age + 1
        played.rewards.append(reward)
        if over:
            played.lengths.append(age)
            played.terminated += terminated and not truncated
        elif not played.lengths:
            played.pictures.append(look(observation))
    played.seconds = time.perf_counter() - begun
    played.same_seed = played.pictures[0], look(guard.reset(SEED))
    return played


def _rows(guard: Guard, world: World, played: _Played) -> dict[str, str]:
    rewards = np.array(played.rewards)
    field = "env.kwargs.episode_timeout" if is_doom(world.config.id) else "env.max_episode_steps"
    cut = f"no registered time limit: cut at {MOST_FRAMES} frames ({field})"
    ends = f"{len(played.lengths)} episodes ended, {played.terminated} of them terminated; "
    return {
        "picture": _source(world),
        "V sees": _sight(world),
        "actions": _choices(guard, world),
        "reward": f"{rewards.min():g} to {rewards.max():g}, mean {rewards.mean():.3g}; not zero in "
        f"{np.count_nonzero(rewards)} of {len(rewards)} steps",
        "end": ends + (f"time limit {guard.limit} frames" if guard.limit else cut),
        "speed": f"{world.fps:g} frames per second (render_fps), "
        f"{STEPS / played.seconds:.0f} on this machine",
    }


def _source(world: World) -> str:
    raw = world.picture
    source = "render()" if raw.rendered else "the observation"
    if world.key is not None:
        source = f"the observation's `{world.key}`"
    return f"{source}, {raw}, {raw.low} to {raw.high}"


def _sight(world: World) -> str:
    raw, config = world.picture, world.config
    steps = {
        "HW": "grey",
        "HWC": "the alpha channel is dropped" if raw.shape[2:] == (4,) else "",
        "CHW": "channels are moved last",
        "HWK": f"the newest of {raw.shape[-1]} grey pictures",
        "KHW": f"the newest of {raw.shape[0]} grey pictures",
        "HW(KC)": f"the newest of {raw.shape[-1] // 3} pictures",
        "(KC)HW": f"the newest of {raw.shape[0] // 3} pictures, channels are moved last",
        "KHWC": f"the newest of {raw.shape[0]} pictures",
        "KCHW": f"the newest of {raw.shape[0]} pictures, channels are moved last",
    }[raw.layout]
    scaled = f"{raw.low} to {raw.high} becomes 0 to 255" if raw.high <= 1 else ""
    crop = f"rows and columns {list(config.crop)}" if config.crop else ""
    inset = f"rows and columns {list(config.inset)} enlarged below" if config.inset else ""
    size = f"{config.size}x{config.size}, averaged by area"
    size += {"stretch": "", "letterbox": ", whole between bars", "crop": ", its middle"}[config.fit]
    return "; ".join(part for part in (steps, scaled, crop, size, inset) if part)


def _choices(guard: Guard, world: World) -> str:
    space, size = (
        " ".join(str(guard.env.action_space).split()),
        Actions.from_dict(world.action).size,
    )
    held = world.config.action_repeat
    return f"{space}: C has {size} outputs" + (f", held for {held} frames" if held > 1 else "")


def _warnings(played: _Played, world: World) -> tuple[str, ...]:
    pictures = [np.asarray(picture) for picture in played.pictures]
    seen = np.stack([frame_of(plain(world.picture, one), world.config) for one in pictures])
    found, span = [], int(seen.max()) - int(seen.min())
    if 0 < span < LEAST_SPAN:
        found.append(
            f"V sees brightness from {seen.min()} to {seen.max()} of 255: if the numbers are "
            "codes, make a picture of them in a wrapper (env.wrappers)"
        )
    if all((picture == picture.flat[0]).all() for picture in pictures):
        found.append("the picture has one colour: name another in env.screen, or fix render()")
    elif len(pictures) > 2 and all(np.array_equal(pictures[0], other) for other in pictures):
        found.append("the picture never changes: is it the one that shows what happens?")
    first, again = map(np.asarray, played.same_seed)
    if not np.array_equal(first, again):
        found.append(
            "the same seed gives another first picture, so no result can be repeated: use "
            "self.np_random, which super().reset(seed=seed) sets"
        )
    return tuple(found)
