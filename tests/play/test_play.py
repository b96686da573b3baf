"""The window lives without a screen, does what its keys say, and records films."""

import sys
from itertools import pairwise

import cv2
import numpy as np
import pygame
import pytest

from worldmodels.errors import InputError
from worldmodels.play.play import play
from worldmodels.play.session import PlayConfig
from worldmodels.play.window import LIT

SMALL = PlayConfig(scale=4)


class Clock:
    """Does not wait."""

    ticks: list[float] = []  # noqa: RUF012

    def tick(self, fps):
        self.ticks.append(fps)


@pytest.fixture
def screens(monkeypatch):
    """What was shown, picture by picture; time does not pass."""
    shown = []

    def flip():
        shown.append(pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1))

    monkeypatch.setattr(pygame.display, "flip", flip)
    monkeypatch.setattr(pygame.time, "Clock", Clock)
    return shown


def press(monkeypatch, **pictures):
    """Keys that go down and up before some pictures: at_3="a space"."""
    batches = {int(name[3:]): keys.split() for name, keys in pictures.items()}
    numbers = iter(range(10**6))

    def get():
        keys = [pygame.key.key_code(key) for key in batches.get(next(numbers), [])]
        ways = pygame.KEYDOWN, pygame.KEYUP
        return [pygame.event.Event(way, {"key": key}) for key in keys for way in ways]

    monkeypatch.setattr(pygame.event, "get", get)


def films(folder):
    """Size and number of the pictures of each film in a folder."""
    found = {}
    for path in sorted(folder.glob("*.webm")):
        film, frames = cv2.VideoCapture(str(path)), []
        while (read := film.read())[0]:
            frames.append(read[1])
        moves = not np.array_equal(frames[0], frames[-1])
        found[path.name] = (frames[0].shape[:2], len(frames), moves)
    return found


@pytest.mark.parametrize(("mode", "width"), [("dream", 256), ("reality", 256), ("both", 516)])
def test_every_mode_plays_100_steps_and_records_them(
    tiny_bundle, tmp_path, monkeypatch, screens, capsys, mode, width
):
    press(monkeypatch, at_0="v")
    play(tiny_bundle, PlayConfig(mode=mode, scale=4), tmp_path / "videos", max_frames=100)
    assert len(screens) == 100
    assert Clock.ticks[-1] == pytest.approx(12.5)
    assert films(tmp_path / "videos") == {"play_1.webm": ((280, width), 101, True)}
    out = capsys.readouterr().out
    assert "play_1.webm shows 8.1 s" in out
    assert f"the last {'dream' if mode == 'dream' else 'reality'}: return" in out


def test_worlds_that_draw_with_pygame_leave_the_window_open(
    dark_bundle, tmp_path, monkeypatch, screens
):
    press(monkeypatch, at_1="m", at_2="m")
    play(dark_bundle, SMALL, tmp_path, max_frames=150)  # the cart falls, and begins again
    assert [screen.shape[1] for screen in screens] == [472] * 2 + [548] * 148
    assert not pygame.display.get_init()


def test_pictures_are_enlarged_and_the_text_is_there(tiny_bundle, tmp_path, monkeypatch, screens):
    press(monkeypatch)
    play(tiny_bundle, PlayConfig(mode="both"), tmp_path, max_frames=2)
    assert screens[0].shape == (652, 932, 3)
    for left in (12, 472):
        pixels = screens[1][40:488, left : left + 448]
        assert np.array_equal(pixels, pixels[::7, ::7].repeat(7, 0).repeat(7, 1))
        assert pixels.std() > 1
    legend = screens[1][550:, :]
    assert legend.max() > 200


def test_the_window_grows_with_the_mode_and_a_film_ends_with_it(
    tiny_bundle, tmp_path, monkeypatch, screens
):
    press(monkeypatch, at_1="v", at_4="m", at_5="m", at_6="v", at_8="v", at_9="escape")
    play(tiny_bundle, SMALL, tmp_path)
    assert len(screens) == 9
    assert [screen.shape[1] for screen in screens] == [472] * 5 + [548] * 4
    assert {name: film[:2] for name, film in films(tmp_path).items()} == {
        "play_1.webm": ((280, 256), 4),
        "play_2.webm": ((280, 516), 3),
    }


def test_pause_and_single_steps(tiny_bundle, tmp_path, monkeypatch, screens, capsys):
    press(monkeypatch, at_3="space", at_5="n", at_7="n n", at_9="space", at_10="escape")
    play(tiny_bundle, SMALL, tmp_path)
    changes = [
        not np.array_equal(one[40:296, 108:364], two[40:296, 108:364])
        for one, two in pairwise(screens)
    ]
    assert changes == [True, True, False, False, True, False, True, False, True]
    assert "in 0.6 s" in capsys.readouterr().out  # 3 + 1 + 2 + 1 steps


def test_keys_change_who_acts_and_the_temperature_and_begin_again(
    tiny_bundle, tmp_path, monkeypatch, screens, capsys
):
    drawn = []
    from worldmodels.play.window import Window

    draw = Window.draw

    def spy(self, session, recorded):
        drawn.append((session.driver, session.temperature, session.dream.steps))
        draw(self, session, recorded)

    monkeypatch.setattr(Window, "draw", spy)
    press(monkeypatch, at_1="a t t", at_2="g", at_3="r", at_4="a")
    play(tiny_bundle, SMALL, tmp_path, max_frames=5)
    assert drawn == [
        ("agent", 1.0, 1),
        ("you", 1.1, 2),
        ("you", 1.05, 3),
        ("you", 1.05, 1),
        ("agent", 1.05, 2),
    ]


def test_what_fails_is_told_and_the_window_stays(
    tiny_bundle, tmp_path, monkeypatch, screens, capsys
):
    (tmp_path / "file").touch()
    press(monkeypatch, at_1="v", at_3="escape")
    play(tiny_bundle, SMALL, tmp_path / "file" / "videos")
    assert len(screens) == 3
    assert "play_1.webm" in capsys.readouterr().out
    message = screens[1][40 + 256 + 12 + 28 :][:28]
    assert message.max() > 150
    assert screens[0][40 + 256 + 12 + 28 :][:28].max() < 50


def test_the_window_closes_by_its_cross_and_lets_go_of_keys(
    tiny_bundle, tmp_path, monkeypatch, screens
):
    events = [
        [pygame.event.Event(pygame.KEYDOWN, {"key": pygame.K_UP})],
        [pygame.event.Event(pygame.WINDOWFOCUSLOST)],
        [],
        [pygame.event.Event(pygame.QUIT)],
    ]
    monkeypatch.setattr(pygame.event, "get", lambda: events.pop(0))
    play(tiny_bundle, PlayConfig(driver="you", scale=4), tmp_path)
    assert len(screens) == 3
    assert not pygame.display.get_init()
    lit = [(screen[300:] == LIT).all(-1).any() for screen in screens]
    assert lit == [True, False, False]


def test_mistakes_are_named(tiny_bundle, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="nowhere is not a bundle"):
        play("nowhere", PlayConfig(), tmp_path)
    pygame.quit()  # worlds of other tests may have left it open
    with monkeypatch.context() as patch:
        patch.setenv("SDL_VIDEODRIVER", "no such driver")
        with pytest.raises(InputError, match="no window can be opened"):
            play(tiny_bundle, PlayConfig(), tmp_path, max_frames=1)
    with monkeypatch.context() as patch:
        for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"):
            patch.delenv(name, raising=False)
        with pytest.raises(InputError, match="no window can be opened"):
            play(tiny_bundle, PlayConfig(), tmp_path, max_frames=1)
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[play\]'"):
        play(tiny_bundle, PlayConfig(), tmp_path, max_frames=1)
