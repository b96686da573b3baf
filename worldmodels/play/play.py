"""The window in which the agent, or you, act in the dream, in reality, or in both."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from jaxtyping import UInt8

from worldmodels.artifacts import Bundle
from worldmodels.errors import InputError, install
from worldmodels.film import beside, filming
from worldmodels.play.session import PlayConfig, Session
from worldmodels.play.window import window
from worldmodels.run import say

FILM_SCALE = 4
"""Enlargement of a film's pictures."""


@dataclass(frozen=True, kw_only=True)
class PlaySections:
    """Sections of the play command."""

    play: PlayConfig = field(default_factory=PlayConfig)


class Film:
    """Records what a session shows, a picture for each step, until it stops or the mode changes.

    Attributes:
        pictures: recorded so far; None: nothing is being recorded.
    """

    def __init__(self, folder: Path, session: Session) -> None:
        self._folder, self._session = folder, session
        self._file = ExitStack()
        self.pictures: int | None = None

    @property
    def seconds(self) -> float | None:
        """Length so far; None: nothing is being recorded."""
        return None if self.pictures is None else self.pictures * self._session.seconds

    def toggle(self) -> None:
        """Starts or ends a film."""
        if self.pictures is None:
            self._start()
        else:
            self.close()

    def add(self) -> None:
        """Records the present picture, if a film is being recorded."""
        if self.pictures is not None:
            self._add(self._picture())
            self.pictures += 1

    def close(self) -> None:
        """Ends the film, if there is one; its file is then there."""
        if self.pictures is None:
            return
        shown, self.pictures = self.seconds, None
        self._file.close()
        self._session.message = f"{self._path} shows {shown:.1f} s"
        say(self._session.message)

    def _start(self) -> None:
        numbers = (self._folder / f"play_{number}.webm" for number in count(1))
        self._path = next(path for path in numbers if not path.exists())
        first = self._picture()
        film = filming(self._path, first.shape[1::-1], 1 / self._session.seconds)
        self._add = self._file.enter_context(film)
        self.pictures = 0
        self.add()

    def _picture(self) -> UInt8[Any, "height width 3"]:
        session = self._session
        who = "agent" if session.driver == "agent" else "you"
        names = {"dream": f"dream {session.temperature:.2f}", "reality": "reality"}
        titles = [
            f"{names[panel.name]}, {who}, {panel.steps * session.seconds:.1f} s"
            for panel in session.panels
        ]
        return beside([panel.frame for panel in session.panels], titles, FILM_SCALE)


def play(
    bundle: str | Path, config: PlayConfig, videos: Path, max_frames: int | None = None
) -> None:
    """Opens the window until it is closed, or for `max_frames`.

    Args:
        bundle: a bundle, a shipped one's name, or a run folder.
        config: what is shown at first.
        videos: the folder of the films that are recorded.
        max_frames: pictures after which the window closes; none: never.

    Raises:
        InputError: there is no such bundle, no pygame-ce, no display, or no such real environment.
    """
    loaded, pygame, shown = Bundle.load(bundle), _pygame(), 0
    with (
        window(pygame, config.scale) as screen,
        closing(Session(loaded, config)) as session,
        closing(Film(videos, session)) as film,
    ):
        commands, clock = _commands(session, film), pygame.time.Clock()
        while _stays_open(pygame, session, commands) and shown != max_frames:
            if not session.paused:
                _step(session, film)
            screen.draw(session, film.seconds)
            clock.tick(1 / session.seconds)
            shown += 1
    for panel in session.panels:
        seconds = panel.steps * session.seconds
        say(f"the last {panel.name}: return {panel.episode_return:.1f} in {seconds:.1f} s")


def _step(session: Session, film: Film) -> None:
    session.advance()
    film.add()


def _commands(session: Session, film: Film) -> dict[str, Callable[[], None]]:
    """What the keys other than action keys do."""

    def show_next() -> None:
        film.close()  # its pictures have one size
        session.show_next()

    def pause() -> None:
        session.paused = not session.paused

    def one_step() -> None:
        session.paused = True
        _step(session, film)

    return {
        "a": session.hand_over,
        "m": show_next,
        "s": session.meet,
        "space": pause,
        "n": one_step,
        "t": partial(session.warm, 1),
        "g": partial(session.warm, -1),
        "r": session.restart,
        "v": film.toggle,
    }


def _stays_open(pygame: Any, session: Session, commands: dict[str, Callable[[], None]]) -> bool:
    """Does what the keys say; False where the window is to be closed."""
    for event in pygame.event.get():
        key = pygame.key.name(event.key) if event.type in (pygame.KEYDOWN, pygame.KEYUP) else ""
        if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and key == "escape"):
            return False
        if event.type == pygame.KEYDOWN:
            _press(session, commands, key)
        elif event.type == pygame.KEYUP:
            session.release(key)
        elif event.type == pygame.WINDOWFOCUSLOST:  # no event comes when these keys go up
            session.held.clear()
    return True


def _press(session: Session, commands: dict[str, Callable[[], None]], key: str) -> None:
    """A key goes down. What it cannot do is told in the window, which stays open."""
    session.message = ""
    try:
        commands.get(key, partial(session.hold, key))()
    except InputError as error:
        session.message = str(error)
        say(session.message)


def _pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ModuleNotFoundError as error:
        raise InputError(f"playing needs pygame-ce: {install('play')}") from error
    return pygame
