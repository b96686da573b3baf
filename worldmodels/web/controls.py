"""The buttons and keys of the page: one for each action."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate

from worldmodels.acting.keys import Controls
from worldmodels.models.action import Actions
from worldmodels.world import World

ARROWS = {"left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp", "down": "ArrowDown"}
"""What browsers call the keys."""


@dataclass(frozen=True)
class Pad:
    """Something to press, which replaces a part of the action at rest."""

    label: str
    key: str
    """As `KeyboardEvent.key` names it."""
    start: int
    """First number of the action that it replaces."""
    values: tuple[float, ...]


def pads_of(world: World) -> tuple[list[Pad], list[float]]:
    """The action buttons, with the keys of `worldmodels play`; and the action at rest."""
    actions = Actions.from_dict(world.action)
    controls = Controls(world.config.id, actions)
    starts = [0, *accumulate(actions.counts or [1] * actions.size)]
    pads = []
    for one in controls.keys.values():
        start, end = starts[one.part : one.part + 2]
        values = controls.action([one.key])[start:end]
        key = ARROWS.get(one.key, one.key)
        pads.append(Pad(one.name, key, start, tuple(values.tolist())))
    return pads, controls.action([]).tolist()


def title(world: World) -> str:
    """The environment's name without namespace and version, such as CarRacing."""
    name = re.sub(r"^.*[/:]|-v\d+$", "", world.config.id)
    return name.replace("Vizdoom", "Doom ")
