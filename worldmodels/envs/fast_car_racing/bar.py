"""The state bar of CarRacing's observation: where its parts lie, and the number in it.

Coordinates are window pixels from the bar's upper left corner, rounded down as pygame does.
"""

import functools

import gymnasium.envs.box2d.car_racing as official
import numpy as np
import pygame
from jaxtyping import UInt8

SIDE = official.STATE_W  # the picture is square
BAR = 12  # rows of the bar
SCALE_X = SIDE / official.WINDOW_W  # picture pixels per window pixel
SCALE_Y = SIDE / official.WINDOW_H
DARKER = 2  # what pygame's smoothscale loses by rounding down, once per axis

GAUGES = (125, 175, 200, 225, 250)  # left edges: speed and the four wheels
GAUGE_UNITS = (0.4, 0.2, 0.2, 0.2, 0.2)  # window pixels per unit of speed
GAUGE_COLORS = ((255, 255, 255), (0, 0, 255), (0, 0, 255), (51, 0, 255), (51, 0, 255))
STEERING, ROTATION = 500, 750  # where the dials begin
STEERING_UNIT, ROTATION_UNIT = 250, 20  # window pixels per radian, and per radian a second


@functools.lru_cache(maxsize=4096)
def text_of(text: str) -> UInt8[np.ndarray, "12 96 3"]:
    """A bar that holds only a text, centred at (60, 50)."""
    label = _label(text)
    window = pygame.Surface((125, 100))  # 12 x 12 picture pixels
    window.blit(label, label.get_rect(center=(60, 50)))
    small = pygame.transform.smoothscale(window, (BAR, BAR))
    bar = np.zeros((BAR, SIDE, 3), np.uint8)
    bar[:, :BAR] = pygame.surfarray.array3d(small).transpose(1, 0, 2)
    return bar


def _label(text: str) -> pygame.Surface:
    white, black = (255, 255, 255), (0, 0, 0)
    try:
        return _font().render(text, True, white, black)
    except pygame.error:  # closing any pygame window invalidates the fonts made before
        _font.cache_clear()
        return _font().render(text, True, white, black)


@functools.lru_cache(maxsize=1)
def _font() -> pygame.font.Font:
    """Gymnasium's font, kept because making it and its glyphs takes a millisecond."""
    pygame.font.init()
    return pygame.font.Font(pygame.font.get_default_font(), 42)
