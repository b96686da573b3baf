"""Play: a window in which you, or the agent, drive inside the dream."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float32, UInt8

from worldmodels.acting.policies import Candidates
from worldmodels.acting.rollout import steps
from worldmodels.artifacts import Bundle
from worldmodels.envs.dream import make_dream
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.ranges import PositiveFloat, PositiveInt, Seed
from worldmodels.run import say

Driver = Literal["you", "agent"]

ARROWS = ("left", "right", "up", "down")
BAR = 48
"""Height of the text below the picture, in pixels."""
HELP = "arrows, 0-9: act   a: agent or you   t/g: temperature   space: again   esc: quit"
TEMPERATURE_STEP = 0.05
"""Change of the temperature by one press of a key."""


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """The window and the dream in it."""

    driver: Driver = "you"
    """Who acts at first: you or the agent."""
    temperature: PositiveFloat | None = None
    """τ at first; none: the one that the agent was evolved at."""
    horizon: PositiveInt = 1000
    """Steps after which a dream ends."""
    scale: PositiveInt = 8
    """Size of the picture in frames of 64x64 pixels."""
    seed: Seed = 0
    """Seed of the dreams."""


@dataclass(frozen=True, kw_only=True)
class PlaySections:
    """Sections of the play command."""

    play: PlayConfig = field(default_factory=PlayConfig)


def action_of(actions: Actions, held: Set[str]) -> Float32[np.ndarray, " A"]:
    """The action a of the keys that are held.

    box, thirds: left and right move part 0, down and up part 1; where part 1 has no negative side
    (CarRacing's gas), up raises it and down raises part 2 (the brake).
    discrete, multi_binary: key i, or the i-th of left, right, up, down, stands for choice i.
    multi_discrete: the arrows move parts 0 and 1, key i raises part i.
    """
    right, up = _axis(held, "left", "right"), _axis(held, "down", "up")
    match actions.kind:
        case "box" | "thirds":
            return _moved(actions, right, up)
        case "multi_discrete":
            steps = [right, up, *(0 for _ in actions.counts)]
            steps = [_axis(held, "", str(i)) or step for i, step in enumerate(steps)]
            chosen = [_choice(n, step) for n, step in zip(actions.counts, steps, strict=False)]
            hot: np.ndarray = actions.from_environment(np.array([chosen]))[0]
            return hot
    choices = {i for i in range(actions.size) if {str(i), *ARROWS[i : i + 1]} & held}
    if actions.kind == "discrete":
        choices = {min(choices, default=0)}
    return np.array([i in choices for i in range(actions.size)], np.float32)


def _axis(held: Set[str], less: str, more: str) -> int:
    return (more in held) - (less in held)


def _choice(count: int, step: int) -> int:
    """The first, middle or last of `count` choices."""
    return ((count - 1) // 2, count - 1, 0)[step]


def _moved(actions: Actions, right: int, up: int) -> Float32[np.ndarray, " A"]:
    low, high = (np.array(bound, np.float32) for bound in (actions.low, actions.high))
    rest = np.clip(np.zeros_like(low), low, high)
    gas_and_brake = actions.size > 2 and rest[1] == low[1]
    steps = [right, up, -up if gas_and_brake else 0, *(0 for _ in low)]
    moved = [(rest[i], high[i], low[i])[steps[i]] for i in range(actions.size)]
    return np.array(moved, np.float32)


class Session:
    """A dream of one lane, who acts in it, its return, and the text about it."""

    def __init__(self, bundle: Bundle, config: PlayConfig) -> None:
        given: dict[str, Any] = {"horizon": config.horizon}
        if config.temperature is not None:
            given["temperature"] = config.temperature
        mode = AutoresetMode.DISABLED
        self.dream = make_dream(1, bundle=bundle, autoreset_mode=mode, **given)
        self.seconds = bundle.world.config.action_repeat / bundle.world.fps
        self.actions, self.driver = bundle.actions, config.driver
        self.agent = Candidates.of_bundle(bundle)
        self.held: set[str] = set()  # names of the keys that are down
        self._begin(config.seed)

    @property
    def ended(self) -> bool:
        return bool(self.dream.terminated[0] or self.dream.truncated[0])

    def press(self, key: str) -> None:
        """Changes what a key stands for; other keys act while they are held."""
        match key:
            case "space":
                self._begin(None)
            case "a":
                self.driver = "you" if self.driver == "agent" else "agent"
            case "t" | "g":
                change = TEMPERATURE_STEP if key == "t" else -TEMPERATURE_STEP
                warmer = round(max(TEMPERATURE_STEP, self.dream.config.temperature + change), 2)
                self.dream.config = replace(self.dream.config, temperature=warmer)
            case _:
                self.held.add(key)

    def advance(self) -> None:
        """One step of the dream, if it is not over."""
        step = next(self._dreaming, None)
        self.episode_return += float(step.rewards[0]) if step is not None else 0.0

    def frame(self) -> UInt8[np.ndarray, "64 64 3"]:
        return self.dream.render()[0]

    def line(self) -> str:
        """The text below the picture."""
        seconds = self.dream.steps[0] * self.seconds
        end = "   the dream is over" if self.ended else ""
        who = "you act" if self.driver == "you" else "the agent acts"
        return (
            f"{who}   temperature {self.dream.config.temperature:.2f}   "
            f"return {self.episode_return:.1f}   {seconds:.1f} s{end}"
        )

    def _begin(self, seed: int | None) -> None:
        observations, _ = self.dream.reset(seed=None if seed is None else [seed])
        self._dreaming = steps(self.dream, self._act, observations)
        self.episode_return = 0.0

    def _act(
        self, observations: Float32[np.ndarray, "1 F"], live: Bool[np.ndarray, " 1"]
    ) -> Float32[np.ndarray, "1 A"]:
        """The policy: the agent, or the keys that are down."""
        if self.driver == "agent":
            return self.agent(observations, live)
        return action_of(self.actions, self.held)[None]


def play(bundle: str | Path, config: PlayConfig, max_frames: int | None = None) -> None:
    """Opens the window until it is closed, or for `max_frames`.

    Raises:
        InputError: there is no such bundle, no pygame-ce or no display.
    """
    session = Session(Bundle.load(bundle), config)
    pygame, shown = _pygame(), 0
    with _window(pygame, 64 * config.scale) as draw:
        clock = pygame.time.Clock()
        while _stays_open(pygame, session) and shown != max_frames:
            session.advance()
            draw(session)
            clock.tick(1 / session.seconds)
            shown += 1
    say(f"the last dream: {session.line()}")


def _stays_open(pygame: Any, session: Session) -> bool:
    """Tells the session what the keys did; False where the window is to be closed."""
    for event in pygame.event.get():
        key = pygame.key.name(event.key) if event.type in (pygame.KEYDOWN, pygame.KEYUP) else ""
        if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and key == "escape"):
            return False
        if event.type == pygame.KEYDOWN:
            session.press(key)
        elif event.type == pygame.KEYUP:
            session.held.discard(key)
        elif event.type == pygame.WINDOWFOCUSLOST:  # no event comes when these keys go up
            session.held.clear()
    return True


def _pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ModuleNotFoundError as error:
        raise InputError(
            "playing needs pygame-ce: `pip install worldmodels-dream[play]`"
        ) from error
    return pygame


@contextmanager
def _window(pygame: Any, side: int) -> Iterator[Callable[[Session], None]]:
    """Opens a window; yields a function that draws a session into it."""
    try:
        pygame.display.init()
        screen = pygame.display.set_mode((side, side + BAR))
    except pygame.error as error:
        raise InputError(
            f"no window can be opened ({error}): play where there is a display"
        ) from error
    pygame.font.init()
    pygame.display.set_caption("worldmodels: the dream")
    font = pygame.font.Font(None, max(12, side // 27))

    def draw(session: Session) -> None:
        picture = pygame.image.frombuffer(session.frame().tobytes(), (64, 64), "RGB")
        screen.fill((24, 24, 24))
        screen.blit(pygame.transform.scale(picture, (side, side)), (0, 0))
        for row, text in enumerate((session.line(), HELP)):
            shade = (235, 235, 235) if row == 0 else (150, 150, 150)
            screen.blit(font.render(text, True, shade), (8, side + 4 + row * BAR // 2))
        pygame.display.flip()

    try:
        yield draw
    finally:
        pygame.quit()
