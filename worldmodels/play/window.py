"""The window: dream and reality, who acts, and the keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from worldmodels.errors import InputError
from worldmodels.play.session import Panel, Session
from worldmodels.run import say

Colour = tuple[int, int, int]

BACKGROUND, CAP, LIT = (24, 24, 24), (62, 62, 62), (205, 130, 30)
BRIGHT, DIM, RED = (235, 235, 235), (170, 170, 170), (225, 70, 60)
MARGIN, LINE, FONT, CAP_HEIGHT = 12, 28, 20, 22
"""Pixels: around the pictures, of a line of text, of its letters, of a key."""
LEAST_WIDTH = 448
"""Of the text, however small the pictures are."""
ROWS = 2
"""Of text between the pictures and the legend: the state, and the last message."""
TURNS = {"right": 0, "down": 1, "left": 2, "up": 3}
"""Right angles by which an arrow that points to the right is turned."""
COMMANDS = (
    ("a", "agent or you"),
    ("m", "dream, reality, both"),
    ("s", "same moment"),
    ("space", "pause"),
    ("n", "one step"),
    ("t g", "temperature"),
    ("r", "restart"),
    ("v", "record"),
    ("esc", "quit"),
)
"""The keys other than action keys, and what they do."""


@dataclass(frozen=True)
class Entry:
    """A part of the legend at its place: keys, and what they do."""

    keys: tuple[str, ...]
    text: str
    x: int
    row: int


class Window:
    """Draws a session; its size depends on the number of panels."""

    def __init__(self, pygame: Any, scale: int) -> None:
        self._pygame, self._side, self._count = pygame, 64 * scale, 0
        self._font = pygame.font.Font(None, FONT)

    def draw(self, session: Session, recorded: float | None) -> None:
        """Shows the session as it is.

        Args:
            session: what to show.
            recorded: seconds of the film that is being recorded; none: there is none.
        """
        if self._count != len(session.panels):
            self._open(session)
        self._screen.fill(BACKGROUND)
        for index, panel in enumerate(session.panels):
            self._panel(session, panel, self._left + index * (self._side + MARGIN))
        top = 2 * MARGIN + LINE + self._side
        self._state(session, recorded, top)
        on = {"space": session.paused, "v": recorded is not None}
        lit = session.controls.lit(session.action) | {key for key in on if on[key]}
        for entry in self._legend:
            self._entry(entry, top + LINE * (ROWS + entry.row), lit)
        self._pygame.display.flip()

    def _open(self, session: Session) -> None:
        """Opens the window, or changes its size."""
        self._count = len(session.panels)
        pictures = self._count * (self._side + MARGIN) - MARGIN
        self._width = max(pictures, LEAST_WIDTH) + 2 * MARGIN
        self._left = (self._width - pictures) // 2
        self._legend = list(self._laid_out(session))
        height = 3 * MARGIN + LINE * (2 + ROWS + self._legend[-1].row) + self._side
        self._screen = self._pygame.display.set_mode((self._width, height))

    def _laid_out(self, session: Session) -> Iterator[Entry]:
        """The action keys and, in a new row, the others."""
        acting = [(one.key, one.name) for one in session.controls.keys.values()]
        row = -1
        for group in (acting, COMMANDS):
            x, row = MARGIN, row + 1
            for keys, text in group:
                names = tuple(keys.split())
                width = sum(map(self._cap_width, names)) + self._font.size(text)[0] + 2 * MARGIN
                if x > MARGIN and x + width > self._width:
                    x, row = MARGIN, row + 1
                yield Entry(names, text, x, row)
                x += width

    def _panel(self, session: Session, panel: Panel, x: int) -> None:
        """A panel: its name and return, its picture, and its end."""
        pygame, side, seconds = self._pygame, self._side, panel.steps * session.seconds
        told = f"return {panel.episode_return:.1f}   {seconds:.1f} s"
        beside = session.mode == "both" and panel is session.dream
        name = f"{panel.name}, alone" if beside else panel.name
        self._text(name, x, MARGIN, BRIGHT)
        self._text(told, x + side - self._font.size(told)[0], MARGIN, DIM)
        picture = pygame.image.frombuffer(panel.frame.tobytes(), panel.frame.shape[:2], "RGB")
        self._screen.blit(pygame.transform.scale(picture, (side, side)), (x, MARGIN + LINE))
        if panel.over:
            band = pygame.Surface((side, LINE + 4), pygame.SRCALPHA)
            band.fill((0, 0, 0, 190))
            y = MARGIN + LINE + side - LINE - 4
            self._screen.blit(band, (x, y))
            what = "dream" if panel is session.dream else "episode"
            self._text(f"the {what} is over", x + MARGIN, y + 2, BRIGHT)

    def _state(self, session: Session, recorded: float | None, y: int) -> None:
        """Who acts, the temperature, whether time stands still, the film; and the last message."""
        words = ["the agent acts" if session.driver == "agent" else "you act"]
        if session.mode != "reality":
            words.append(f"temperature {session.temperature:.2f}")
        if session.paused:
            words.append("paused")
        x = self._text("     ".join(words), MARGIN, y, BRIGHT)
        if recorded is not None:
            centre = (x + 2 * MARGIN, y + LINE // 2)
            self._pygame.draw.circle(self._screen, RED, centre, 6)
            self._text(f"recording {recorded:.1f} s", x + 3 * MARGIN, y, BRIGHT)
        self._text(self._shortened(session.message), MARGIN, y + LINE, DIM)

    def _entry(self, entry: Entry, y: int, lit: set[str]) -> None:
        x = entry.x
        for key in entry.keys:
            x = self._cap(key, x, y, LIT if key in lit else CAP)
        self._text(entry.text, x + 2, y, BRIGHT if lit & {*entry.keys} else DIM)

    def _cap(self, key: str, x: int, y: int, colour: Colour) -> int:
        """Draws a key; returns where the next thing begins."""
        width = self._cap_width(key)
        box = (x, y + (LINE - CAP_HEIGHT) // 2, width - 4, CAP_HEIGHT)
        self._pygame.draw.rect(self._screen, colour, box, border_radius=5)
        if key in TURNS:
            self._arrow(TURNS[key], x + (width - 4) / 2, y + LINE / 2)
        else:
            self._text(key, x + (width - 4 - self._font.size(key)[0]) // 2, y, BRIGHT)
        return x + width

    def _cap_width(self, key: str) -> int:
        wide = 0 if key in TURNS else self._font.size(key)[0] + 12
        return max(CAP_HEIGHT, wide) + 4

    def _arrow(self, turns: int, x: float, y: float) -> None:
        points = [(6, 0), (-4, -5), (-4, 5)]
        for _ in range(turns):
            points = [(-down, right) for right, down in points]
        self._pygame.draw.polygon(self._screen, BRIGHT, [(x + a, y + b) for a, b in points])

    def _text(self, text: str, x: int, y: int, colour: Colour) -> int:
        """Writes a line; returns where it ends."""
        drawn = self._font.render(text, True, colour)
        self._screen.blit(drawn, (x, y + (LINE - drawn.get_height()) // 2))
        return x + int(drawn.get_width())

    def _shortened(self, text: str) -> str:
        most = self._width - 2 * MARGIN
        if self._font.size(text)[0] <= most:
            return text
        while text and self._font.size(f"{text}...")[0] > most:
            text = text[:-1]
        return f"{text}..."


@contextmanager
def window(pygame: Any, scale: int) -> Iterator[Window]:
    """Opens pygame's display for a window, and closes it.

    Raises:
        InputError: there is no display.
    """
    try:
        pygame.display.init()
        driver = pygame.display.get_driver()
        if driver == "offscreen" and not os.environ.get("SDL_VIDEODRIVER"):
            pygame.quit()  # SDL's last resort
            raise pygame.error("no display was found")
    except pygame.error as error:
        raise InputError(f"no window can be opened ({error}): playing needs a display") from error
    try:
        if driver in ("dummy", "offscreen"):
            say(f"SDL_VIDEODRIVER is {driver}: the window is on no screen")
        pygame.font.init()
        pygame.display.set_caption("worldmodels")
        yield Window(pygame, scale)
    finally:
        pygame.quit()
