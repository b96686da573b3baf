"""The action keys, named after the environment's actions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from worldmodels.models.action import Actions

DIGITS = "0123456789"
LIT = 0.1
"""A key is lit where the action goes this share of its way."""

Arrows = dict[str, tuple[int, str]]

BOXES: dict[str, dict[str, str]] = {
    "CarRacing": {"left": "steer left", "right": "steer right", "up": "gas", "down": "brake"},
    "VizdoomTakeCover": {"left": "left", "right": "right"},
    "MountainCarContinuous": {"left": "push left", "right": "push right"},
}
"""What the arrows do where actions are numbers, by Gymnasium's id without its version."""
CHOICES: dict[str, Arrows] = {
    "CarRacing": {
        "left": (2, "steer left"),
        "right": (1, "steer right"),
        "up": (3, "gas"),
        "down": (4, "brake"),
    },
    "VizdoomTakeCover": {"left": (2, "left"), "right": (1, "right")},
    "CartPole": {"left": (0, "push left"), "right": (1, "push right")},
    "MountainCar": {"left": (0, "push left"), "right": (2, "push right")},
    "LunarLander": {
        "left": (1, "left engine"),
        "right": (3, "right engine"),
        "up": (2, "main engine"),
    },
}
"""The same where an action is one choice. The first choice without a key is done where no key is
held."""


@dataclass(frozen=True)
class ActionKey:
    """A key that moves one part of the environment's action."""

    key: str
    """As pygame calls it."""
    name: str
    """Of what it does."""
    part: int
    to: float
    """The part's value, or its choice, while the key is held."""


class Controls:
    """Turns the keys that are held into actions a, and actions into the keys that would do them.

    In known environments the arrows have the actions' names. In others, part 0 of a box moves left
    and right, part 1 down and up; what remains, and all choices, are on the digits.
    """

    def __init__(self, env_id: str, actions: Actions) -> None:
        self.actions = actions
        world = re.sub(r"^.*[/:]|-v\d+$", "", env_id)
        arrows = CHOICES.get(world, {}) if actions.kind == "discrete" else {}
        self.rest = _rest(actions, arrows)
        found: Iterable[ActionKey]
        if arrows:
            found = (ActionKey(key, name, 0, float(to)) for key, (to, name) in arrows.items())
        elif actions.counts:
            found = _numbered(actions, self.rest)
        else:
            found = _moved(actions, self.rest, BOXES.get(world, {}))
        self.keys = {one.key: one for one in found}

    def action(self, held: Sequence[str]) -> Float32[np.ndarray, " A"]:
        """The action a of the keys that are held. Of two that move one part, the later one counts.

        Args:
            held: keys in the order in which they were pressed; those of no action are left out.
        """
        parts = list(self.rest)
        for one in (self.keys[key] for key in held if key in self.keys):
            parts[one.part] = one.to
        if not self.actions.counts:
            return np.array(parts, np.float32)
        own = int(parts[0]) if self.actions.kind == "discrete" else [int(part) for part in parts]
        action: np.ndarray = self.actions.from_environment(np.array([own]))[0]
        return action

    def lit(self, action: Float32[np.ndarray, " A"]) -> set[str]:
        """The keys that would do what this action does."""
        parts = self._parts(action)
        if self.actions.counts:
            return {key for key, one in self.keys.items() if parts[one.part] == one.to}
        least = 1 / 3 if self.actions.kind == "thirds" else LIT
        return {key for key, one in self.keys.items() if self._share(one, parts) > least}

    def _share(self, one: ActionKey, parts: Sequence[float]) -> float:
        """How far a part of a box has gone from its rest towards what a key does."""
        rest = self.rest[one.part]
        return (parts[one.part] - rest) / (one.to - rest)

    def _parts(self, action: Float32[np.ndarray, " A"]) -> list[float]:
        if not self.actions.counts:
            return action.tolist()
        own = self.actions.to_environment(action[None])[0]
        return np.ravel(own).astype(float).tolist()


def _rest(actions: Actions, arrows: Arrows) -> list[float]:
    """The parts of the action while no key is held: what is nearest to 0, or a choice."""
    if not actions.counts:
        return np.clip(0.0, actions.low, actions.high).tolist()
    if actions.kind != "discrete":
        return [0.0] * len(actions.counts)
    named = {choice for choice, _ in arrows.values()}
    return [float(next((i for i in range(actions.size) if arrows and i not in named), 0))]


def _numbered(actions: Actions, rest: Sequence[float]) -> Iterator[ActionKey]:
    """A digit for each choice; those of several parts without the choice 0, which is the rest."""
    match actions.kind:
        case "discrete":
            moves = [(f"action {choice}", 0, choice) for choice in range(actions.size)]
        case "multi_binary":
            moves = [(f"button {part}", part, 1) for part in range(actions.size)]
        case _:
            moves = [
                (f"part {part}: {choice}", part, choice)
                for part, count in enumerate(actions.counts)
                for choice in range(count)
                if choice != rest[part]
            ]
    for key, (name, part, to) in zip(DIGITS, moves, strict=False):
        yield ActionKey(key, name, part, float(to))


def _moved(actions: Actions, rest: Sequence[float], names: dict[str, str]) -> Iterator[ActionKey]:
    """Keys for both directions of each part of a box in which it can move."""
    ways = {
        (part, sign): to
        for part, bounds in enumerate(zip(actions.low, actions.high, strict=True))
        for sign, to in zip("-+", bounds, strict=True)
        if to != rest[part]
    }
    arrows = {"left": (0, "-"), "right": (0, "+"), "up": (1, "+"), "down": (1, "-")}
    if (1, "-") not in ways:  # a part without a negative side, such as gas: the next one brakes
        arrows["down"] = (2, "+")
    keys = {way: key for key, way in arrows.items() if way in ways}
    others = (way for way in ways if way not in keys)
    keys = {**keys, **dict(zip(others, DIGITS, strict=False))}
    for (part, sign), key in keys.items():
        yield ActionKey(key, names.get(key, f"part {part} {sign}"), part, ways[part, sign])
