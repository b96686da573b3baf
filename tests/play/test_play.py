"""Keys mean actions, and the window lives without a screen."""

import sys

import numpy as np
import pytest
from worldmodels.stages.play import PlayConfig, Session, action_of, play

from worldmodels.artifacts import Bundle
from worldmodels.errors import InputError
from worldmodels.models.action import Actions

CAR = Actions("box", (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0), clip=(2,))
BOX = Actions("box", (-2.0, -1.0), (2.0, 3.0))
FIVE = Actions("discrete", counts=(5,))
PARTS = Actions("multi_discrete", counts=(3, 2, 2))
PADS = Actions("multi_binary", counts=(1, 1, 1))


@pytest.mark.parametrize(
    ("actions", "held", "expected"),
    [
        (CAR, "", [0, 0, 0]),
        (CAR, "left", [-1, 0, 0]),
        (CAR, "right up", [1, 1, 0]),
        (CAR, "down", [0, 0, 1]),
        (CAR, "left right up down", [0, 0, 0]),
        (BOX, "", [0, 0]),
        (BOX, "right down", [2, -1]),
        (BOX, "left up", [-2, 3]),
        (Actions("thirds", (-1.0,), (1.0,)), "left", [-1]),
        (Actions("thirds", (-1.0,), (1.0,)), "up", [0]),
        (Actions("box", (1.0,), (2.0,)), "", [1]),
        (FIVE, "", [1, 0, 0, 0, 0]),
        (FIVE, "right", [0, 1, 0, 0, 0]),
        (FIVE, "4 9", [0, 0, 0, 0, 1]),
        (FIVE, "down 4", [0, 0, 0, 1, 0]),
        (PARTS, "", [0, 1, 0, 1, 0, 1, 0]),
        (PARTS, "right up", [0, 0, 1, 0, 1, 1, 0]),
        (PARTS, "left 2", [1, 0, 0, 1, 0, 0, 1]),
        (PADS, "", [0, 0, 0]),
        (PADS, "left 2", [1, 0, 1]),
    ],
)
def test_keys_mean_actions(actions, held, expected):
    action = action_of(actions, frozenset(held.split()))
    assert action.tolist() == expected
    assert actions.space.contains(action)


def test_keys_change_the_session(tiny_bundle):
    session = Session(Bundle.load(tiny_bundle), PlayConfig())
    for key in ("left", "up", "a"):
        session.press(key)
    assert (session.held, session.driver) == ({"left", "up"}, "agent")
    session.press("a")
    assert session.driver == "you"
    session.press("t")
    assert session.dream.config.temperature == 1.05
    for _ in range(30):
        session.press("g")
    assert session.dream.config.temperature == 0.05


def test_a_session_sums_its_rewards_and_begins_again(tiny_bundle):
    session = Session(Bundle.load(tiny_bundle), PlayConfig(horizon=5, temperature=0.5, seed=3))
    first = session.frame()
    for _ in range(7):
        session.advance()
    assert session.ended
    assert session.line().endswith("0.4 s   the dream is over")
    assert session.episode_return != 0
    assert session.dream.config.temperature == 0.5
    session.press("space")
    assert (session.ended, session.episode_return) == (False, 0.0)
    session.advance()
    assert not np.array_equal(first, session.frame())


def test_driver_decides_who_acts(tiny_bundle, monkeypatch):
    session = Session(Bundle.load(tiny_bundle), PlayConfig())
    taken, seen = [], []
    step = session.dream.step

    def watched(actions):
        taken.append(actions)
        seen.append(step(actions))
        return seen[-1]

    monkeypatch.setattr(session.dream, "step", watched)
    session.press("up")
    session.advance()
    assert taken[0].tolist() == [[0, 1, 0]]
    session.press("a")
    session.advance()
    assert np.array_equal(taken[1], session.agent(seen[0][0], np.ones(1, bool)))


@pytest.fixture
def screens(monkeypatch):
    """What was shown, frame by frame."""
    import pygame

    shown = []

    def flip():
        shown.append(pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1))

    monkeypatch.setattr(pygame.display, "flip", flip)
    return shown


def happen(monkeypatch, *frames):
    """Events of the first frames; none after them."""
    import pygame

    batches = [[pygame.event.Event(*event) for event in events] for events in frames]
    monkeypatch.setattr(pygame.event, "get", lambda: batches.pop(0) if batches else [])


def test_the_window_lives_until_escape(tiny_bundle, monkeypatch, capsys, screens):
    import pygame

    down, up = pygame.KEYDOWN, pygame.KEYUP
    happen(
        monkeypatch,
        [(down, {"key": pygame.K_UP}), (down, {"key": pygame.K_LEFT})],
        [(up, {"key": pygame.K_LEFT}), (down, {"key": pygame.K_t})],
        [(down, {"key": pygame.K_a})],
        [(pygame.WINDOWFOCUSLOST, {})],
        [(down, {"key": pygame.K_ESCAPE})],
    )
    play(tiny_bundle, PlayConfig(scale=4))
    out = capsys.readouterr().out
    assert "the agent acts   temperature 1.05" in out
    assert "0.3 s" in out
    assert len(screens) == 4
    assert screens[0].shape == (256 + 48, 256, 3)
    pixels = screens[0][:256, :256]
    assert np.array_equal(pixels, pixels[::4, ::4].repeat(4, 0).repeat(4, 1))
    assert screens[0][256:].max() > 200  # the text
    assert not pygame.display.get_init()


def test_the_window_closes_by_its_cross_and_after_max_frames(tiny_bundle, monkeypatch, screens):
    import pygame

    happen(monkeypatch)
    play(str(tiny_bundle), PlayConfig(driver="agent", scale=1), max_frames=3)
    assert len(screens) == 3
    happen(monkeypatch, [], [(pygame.QUIT, {})])
    play(tiny_bundle, PlayConfig(scale=1))
    assert len(screens) == 4


def test_mistakes_are_named(tiny_bundle, monkeypatch):
    with pytest.raises(InputError, match="nowhere is no bundle"):
        play("nowhere", PlayConfig())
    with monkeypatch.context() as patch:
        patch.setenv("SDL_VIDEODRIVER", "no such driver")
        with pytest.raises(InputError, match="no window can be opened"):
            play(tiny_bundle, PlayConfig(), max_frames=1)
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(InputError, match=r"pip install worldmodels-dream\[play\]"):
        play(tiny_bundle, PlayConfig(), max_frames=1)
