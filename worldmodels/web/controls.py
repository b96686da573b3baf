"""The buttons and keys of the page: one for each way to act in a world."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldmodels.models.action import Actions
from worldmodels.world import World

KEYS = {
    **{"left": "ArrowLeft", "right": "ArrowRight"},
    **{"gas": "ArrowUp", "up": "ArrowUp", "brake": "ArrowDown", "down": "ArrowDown"},
}
"""Keys of actions with these names; the others have a digit."""
CHOICES = {
    "VizdoomTakeCover": ("nothing", "right", "left"),
    "CartPole": ("left", "right"),
    "MountainCar": ("left", "nothing", "right"),
    "Acrobot": ("left", "nothing", "right"),
    "LunarLander": ("nothing", "left engine", "main engine", "right engine"),
}
"""Names of a Discrete space's choices, by environment; the others are called action 0, 1, ..."""
PARTS = {"CarRacing": (("left", "right"), ("", "gas"), ("", "brake"))}
"""Names of the two ends of a Box's parts, by environment."""


@dataclass(frozen=True)
class Control:
    """Something to press."""

    label: str
    key: str
    """As `KeyboardEvent.key` names it."""
    start: int
    """First number of the action that it changes."""
    values: tuple[float, ...]
    """What it puts there, or adds to the action at rest: see `controls_of`."""


def controls_of(world: World) -> tuple[list[Control], list[float], bool]:
    """The controls of a world; the action at rest; whether pressed controls are added to it.

    In a Box or MultiBinary space each pressed control adds its values to the action at rest. In the
    others it replaces the choice of its part.
    """
    actions, name = Actions.from_dict(world.action), title(world)
    match actions.kind:
        case "box":
            return _of_box(actions, PARTS.get(name, ())), _rest(actions), True
        case "thirds":
            return _keyed([("left", 0, (-1.0,)), ("right", 0, (1.0,))]), [0.0], True
        case "multi_binary":
            pressed = [(f"button {i}", i, (1.0,)) for i in range(actions.size)]
            return _keyed(pressed), [0.0] * actions.size, True
    names, found, start = CHOICES.get(name, ()), [], 0
    rest: list[float] = []
    for part, count in enumerate(actions.counts):
        labels = names if len(names) == count else [_label(part, i, actions) for i in range(count)]
        hot = np.eye(count).tolist()
        found += [(label, start, tuple(hot[i])) for i, label in enumerate(labels)]
        rest += hot[labels.index("nothing") if "nothing" in labels else 0]
        start += count
    return _keyed([each for each in found if each[0] != "nothing"]), rest, False


def title(world: World) -> str:
    """The environment's name without namespace and version, such as CarRacing."""
    name = re.split(r"[/:]", world.config.id)[-1]
    return re.sub(r"-v\d+$", "", name)


def _label(part: int, choice: int, actions: Actions) -> str:
    return f"action {choice}" if len(actions.counts) == 1 else f"part {part}: {choice}"


def _rest(actions: Actions) -> list[float]:
    """Zero, or the bound that is nearest to it."""
    return [float(x) for x in np.clip(0.0, actions.low, actions.high)]


def _of_box(actions: Actions, names: tuple[tuple[str, str], ...]) -> list[Control]:
    """Two controls for each part, one for each bound that is not the part's rest."""
    found = []
    for part, rest in enumerate(_rest(actions)):
        default = (f"{part} less", f"{part} more")
        ends = names[part] if len(names) == actions.size else default
        for label, bound in zip(ends, (actions.low[part], actions.high[part]), strict=True):
            if bound != rest:
                found.append((label, part, (bound - rest,)))
    return _keyed(found)


def _keyed(found: Sequence[tuple[str, int, tuple[float, ...]]]) -> list[Control]:
    """Controls with keys: their names' arrows, else digits, then letters that have no other use.

    Those with arrows come first, left before right.
    """
    order = list(KEYS)
    found = sorted(found, key=lambda one: order.index(one[0]) if one[0] in KEYS else len(order))
    free = list("1234567890bcefghijklmnoquvxyz")
    return [
        Control(label, KEYS.get(label) or (free.pop(0) if free else ""), start, values)
        for label, start, values in found
    ]
