"""Draws the state bar of CarRacing's observation: the return so far, gauges and dials.

Coordinates are window pixels from the bar's upper left corner, rounded down as pygame does.
"""

import functools
import math
from typing import Any

import cv2
import gymnasium.envs.box2d.car_racing as official
import numpy as np
import pygame
from jaxtyping import Float, UInt8

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

Bar = UInt8[np.ndarray, "12 96 3"]


def draw_bar(car: Any, total: float) -> Bar:
    """The bar for a car in its present state and a sum of rewards."""
    bar = text_of(f"{total:04.0f}").copy()
    speeds = (math.hypot(*car.hull.linearVelocity), *(wheel.omega for wheel in car.wheels))
    for left, unit, speed, color in zip(GAUGES, GAUGE_UNITS, speeds, GAUGE_COLORS, strict=True):
        if abs(speed) > 1e-4:
            cv2.add(bar, _rectangle(left, left + 25, int(80 - unit * speed), 80, color), dst=bar)
    steering, rotation = car.wheels[0].joint.angle, car.hull.angularVelocity
    if abs(steering) > 1e-4:
        right = int(STEERING - STEERING_UNIT * steering)
        cv2.add(bar, _rectangle(STEERING, right, 20, 60, (0, 255, 0)), dst=bar)
    if abs(rotation) > 1e-4:
        right = int(ROTATION - ROTATION_UNIT * rotation)
        cv2.add(bar, _rectangle(ROTATION, right, 20, 60, (255, 0, 0)), dst=bar)
    return bar


@functools.lru_cache(maxsize=4096)
def _rectangle(x1: int, x2: int, y1: int, y2: int, color: tuple[int, int, int]) -> Bar:
    """A bar with one rectangle, both of its ends included as in pygame."""
    columns = _covered(min(x1, x2), max(x1, x2) + 1, SCALE_X, SIDE)
    rows = _covered(min(y1, y2), max(y1, y2) + 1, SCALE_Y, BAR)
    light = rows[:, None, None] * columns[:, None] * np.array(color)
    bar: Bar = np.maximum(light - DARKER, 0).astype(np.uint8)
    return bar


def _covered(start: int, end: int, scale: float, count: int) -> Float[np.ndarray, " n"]:
    """The share of each of `count` picture pixels between two window coordinates."""
    pixels = np.arange(count)
    overlap = np.minimum(end * scale, pixels + 1) - np.maximum(start * scale, pixels)
    share: Float[np.ndarray, " n"] = np.clip(overlap, 0, 1)
    return share


@functools.lru_cache(maxsize=4096)
def text_of(text: str) -> Bar:
    """A bar with a text alone, centred at (60, 50)."""
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
    except pygame.error:  # closing any pygame window ends the life of the fonts made before
        _font.cache_clear()
        return _font().render(text, True, white, black)


@functools.lru_cache(maxsize=1)
def _font() -> pygame.font.Font:
    """Gymnasium's font, kept because making it and its glyphs takes a millisecond."""
    pygame.font.init()
    return pygame.font.Font(pygame.font.get_default_font(), 42)
