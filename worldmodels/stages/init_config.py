"""Write a config for an environment: the template your_world.yaml, filled in by the preflight."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from worldmodels.command_line import CONFIGS
from worldmodels.envs.make import is_doom
from worldmodels.envs.preflight import Preflight, preflight
from worldmodels.errors import InputError
from worldmodels.files import save_text
from worldmodels.run import say
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig

DECISIONS = 15
"""Actions per second that suffice in most environments; with more frames, actions are repeated."""
MOST_REPEATS = 4
SHORT = 500
"""Frames of an episode that is too short to hold actions."""
UNLIMITED = 1000
"""Frames after which an episode is cut where the environment has no time limit: an agent that does
not arrive would make evaluation take hours."""
MOST_STEPS, MOST_DREAMT = 1000, 200
"""Most steps of a recorded episode, and of a dream."""


@dataclass(frozen=True, kw_only=True)
class InitSections:
    """What `worldmodels init` needs."""

    env: EnvConfig = field(default_factory=EnvConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)


def init_config(env: EnvConfig, workers: WorkersConfig, file: Path) -> None:
    """Writes a config for an environment, and its first picture beside it.

    Args:
        env: its `env` section, as far as it is known.
        workers: where its first steps are played.
        file: the config.

    Raises:
        InputError: the file exists, or the environment cannot be made or played.
    """
    if file.exists():
        raise InputError(f"{file} already exists: move it, or name another file with --out")
    found = preflight(env, workers)
    save_text(file, filled((CONFIGS / "your_world.yaml").read_text(encoding="utf-8"), found))
    picture = file.with_suffix(".png")
    found.save_picture(picture)
    for line in (*found.lines, f"{picture} shows what V sees", f"{file} holds the config"):
        say(line)


def filled(template: str, found: Preflight) -> str:
    """The template with the environment's section, and the lengths that fit it."""
    env, limit = found.world.config, found.limit or UNLIMITED
    if found.limit is None and not is_doom(env.id):
        env = replace(env, max_episode_steps=limit)
    if env.action_repeat == 1 and limit > SHORT:
        held = min(MOST_REPEATS, max(1, round(found.world.fps / DECISIONS)))
        env = replace(env, action_repeat=held)
    steps = min(MOST_STEPS, math.ceil(limit / env.action_repeat))
    shown = [
        *found.lines,
        "docs/environments.md explains the fields, docs/your_world.md is a tutorial.",
    ]
    head = "\n".join(f"# {line}" for line in shown)
    section = yaml.safe_dump({"env": _stated(env)}, sort_keys=False, default_flow_style=None)
    rest = template[template.index("rounds:") :]
    rest = re.sub(r"max_steps: \d+", f"max_steps: {steps}", rest, count=1)
    rest = re.sub(r"horizon: \d+", f"horizon: {min(steps, MOST_DREAMT)}", rest, count=1)
    return f"{head}\n{section}{rest}"


def _stated(env: EnvConfig) -> dict[str, Any]:
    """The fields that a reader looks for, and those that are not at their defaults."""
    values, usual = asdict(env), asdict(EnvConfig())
    always = ("id", "reward", "terminates")
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if name in always or value != usual[name]
    }
