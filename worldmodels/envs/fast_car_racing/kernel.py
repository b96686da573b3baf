"""CarRacing's observation drawn by compiled loops.

`paint` draws all of it, `paint_overlays` the car and the bar over a field that `Camera.field` has
drawn. Trap: nothing here checks shapes.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np

from worldmodels.envs.fast_car_racing.bar import (
    BAR,
    DARKER,
    GAUGE_COLORS,
    GAUGE_UNITS,
    GAUGES,
    ROTATION,
    ROTATION_UNIT,
    SCALE_X,
    SCALE_Y,
    SIDE,
    STEERING,
    STEERING_UNIT,
)
from worldmodels.envs.fast_car_racing.field import (
    CAR_BOX,
    CAR_FINE,
    CAR_X,
    CAR_Y,
    DENSITY,
    HALF_FIELD,
    HULL,
    MARK,
    MARK_ANGLE,
    ROAD,
    TYRE_X,
    TYRE_Y,
    VIEW,
)

LEFT, TOP, WIDTH, HEIGHT = CAR_BOX
ONE = 1 << 16  # a map pixel in fixed point
EDGE = 0.5 / CAR_FINE  # picture pixels by which OpenCV fills beyond an edge
NOTHING, TYRE, WHITE = 0, 1, 2
POSE, WHEEL = 6, 5  # numbers of the hull and of each wheel in `numbers`

compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


@compiled
@no_type_check
def paint(picture, identities, sums, road, hull, text, numbers, zoom):
    """Draws the whole picture.

    Args:
        picture: uint8 (96, 96, 3), filled.
        identities: `Raster.identities`. Trap: the whole view must lie inside of it.
        sums: `Palette.sums`; its part for the road is set here.
        road: colours of the road's polygons (n, 3).
        hull: `hull_at(zoom)`.
        text: `text_of` the sum of rewards.
        numbers: `numbers_of(car)`.
        zoom: `zoom_at(time)`.
    """
    for i in range(len(road)):
        sums[ROAD + i] = _summand(road[i])
    _paint_field(picture, identities.reshape(-1), len(identities), sums, numbers, zoom)
    paint_overlays(picture, hull, text, numbers, zoom)


@compiled
@no_type_check
def paint_overlays(picture, hull, text, numbers, zoom):
    """Draws the car and the bar; arguments as in `paint`."""
    _paint_car(picture, hull, numbers, zoom)
    _paint_bar(picture, text, numbers)


@compiled
@no_type_check
def _summand(color):
    """The darkened colour in one number, 16 bits a channel: one addition then adds colours."""
    total = np.uint64(0)
    for k in range(3):
        total |= np.uint64(max(color[k], DARKER) - DARKER) << np.uint64(16 * k)
    return total


@compiled
@no_type_check
def _paint_field(picture, identities, side, sums, numbers, zoom):
    """Averages two by two samples a pixel; see `Camera._to_map`."""
    cosine, sine = math.cos(numbers[2]) * DENSITY, math.sin(numbers[2]) * DENSITY
    step_x, step_y = 0.5 / (SCALE_X * zoom), -0.5 / (SCALE_Y * zoom)
    first_x, first_y = (0.5 - 2 * CAR_X) * step_x, (0.5 - 2 * CAR_Y) * step_y
    start_x = DENSITY * (numbers[0] + HALF_FIELD) + cosine * first_x - sine * first_y
    start_y = DENSITY * (numbers[1] + HALF_FIELD) + sine * first_x + cosine * first_y
    right_x, right_y = np.int32(cosine * step_x * ONE), np.int32(sine * step_x * ONE)
    down_x, down_y = np.int32(-sine * step_y * ONE), np.int32(cosine * step_y * ONE)
    left_x, left_y = np.int32(start_x * ONE), np.int32(start_y * ONE)
    places = np.empty((2, 2 * SIDE), np.uint32)
    for row in range(VIEW):
        for i in range(2):  # in 32 bits, in a loop of its own: vector instructions
            for j in range(2 * SIDE):
                x = np.int32(left_x + np.int32(j) * right_x)
                y = np.int32(left_y + np.int32(j) * right_y)
                places[i, j] = np.int32(y >> 16) * np.int32(side) + np.int32(x >> 16)
            left_x, left_y = np.int32(left_x + down_x), np.int32(left_y + down_y)
        for column in range(SIDE):
            total = np.uint64(0x0002_0002_0002)  # a half, to round
            for sample in range(4):
                total += sums[identities[places[sample // 2, 2 * column + sample % 2]]]
            for k in range(3):
                picture[row, column, k] = total >> np.uint64(16 * k + 2) & np.uint64(0xFF)


@compiled
@no_type_check
def _paint_car(picture, hull, numbers, zoom):
    """Blends hull, white marks and tyres with the field by their shares of a pixel's samples."""
    patch = np.zeros(hull.shape, np.uint8)
    for wheel in range(4):
        _paint_wheel(patch, numbers, POSE + wheel * WHEEL, zoom)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            hulls = whites = tyres = 0
            for i in range(y * CAR_FINE, (y + 1) * CAR_FINE):
                for j in range(x * CAR_FINE, (x + 1) * CAR_FINE):
                    above = hull[i, j] == 0
                    hulls += not above
                    whites += above & (patch[i, j] == WHITE)
                    tyres += above & (patch[i, j] == TYRE)
            pixel = picture[TOP + y, LEFT + x]
            free, samples = CAR_FINE**2 - hulls - whites - tyres, CAR_FINE**2
            for k in range(3):
                light = free * pixel[k] + whites * MARK[k] + hulls * HULL[k]
                pixel[k] = (light + samples // 2) // samples


@compiled
@no_type_check
def _paint_wheel(patch, numbers, first, zoom):
    """Marks the samples of the patch that lie on a wheel, in the wheel's own frame."""
    x, y = numbers[first] - numbers[0], numbers[first + 1] - numbers[1]
    cosine, sine = math.cos(numbers[2]), math.sin(numbers[2])
    x, y = cosine * x + sine * y, cosine * y - sine * x
    turn, phase = numbers[first + 2] - numbers[2], numbers[first + 4]
    cosine, sine = math.cos(turn), math.sin(turn)
    shown = math.sin(phase) <= 0 or math.sin(phase + MARK_ANGLE) <= 0
    near, far = _edge(phase), _edge(phase + MARK_ANGLE)
    near, far = min(near, far), max(near, far)
    unit_x, unit_y = SCALE_X * zoom, SCALE_Y * zoom  # picture pixels per unit
    wide, long = TYRE_X + EDGE / unit_x, TYRE_Y + EDGE / unit_y
    center_i = (CAR_Y - TOP - y * unit_y) * CAR_FINE
    center_j = (CAR_X - LEFT + x * unit_x) * CAR_FINE
    reach = (abs(cosine) * long + abs(sine) * wide) * unit_y * CAR_FINE
    aside = (abs(cosine) * wide + abs(sine) * long) * unit_x * CAR_FINE
    for i in range(max(int(center_i - reach), 0), min(int(center_i + reach) + 1, len(patch))):
        up = (center_i - i - 0.5) / (unit_y * CAR_FINE)
        begin, end = int(center_j - aside), int(center_j + aside) + 1
        for j in range(max(begin, 0), min(end, patch.shape[1])):
            right = (j + 0.5 - center_j) / (unit_x * CAR_FINE)
            along, across = cosine * up - sine * right, cosine * right + sine * up
            if abs(along) <= long and abs(across) <= wide:
                white = shown and near - EDGE / unit_y <= along <= far + EDGE / unit_y
                patch[i, j] = WHITE if white else TYRE


@compiled
@no_type_check
def _edge(phase):
    """Where an edge of the white mark is seen on the tyre; at the rim where it is below."""
    cosine = math.cos(phase)
    return TYRE_Y * (math.copysign(1.0, cosine) if math.sin(phase) > 0 else cosine)


@compiled
@no_type_check
def _paint_bar(picture, text, numbers):
    """Draws the text, the gauges and the dials."""
    picture[VIEW:] = 0
    picture[VIEW:, : text.shape[1]] = text
    for i in range(5):
        speed = numbers[3] if i == 0 else numbers[POSE + (i - 1) * WHEEL + 3]
        if abs(speed) > 1e-4:
            top = int(80 - GAUGE_UNITS[i] * speed)
            _light(picture, GAUGES[i], GAUGES[i] + 25, top, 80, GAUGE_COLORS[i])
    if abs(numbers[4]) > 1e-4:
        right = int(STEERING - STEERING_UNIT * numbers[4])
        _light(picture, STEERING, right, 20, 60, (0, 255, 0))
    if abs(numbers[5]) > 1e-4:
        right = int(ROTATION - ROTATION_UNIT * numbers[5])
        _light(picture, ROTATION, right, 20, 60, (255, 0, 0))


@compiled
@no_type_check
def _light(picture, x1, x2, y1, y2, color):
    """Adds a rectangle to the bar; it includes both of its ends, as in pygame."""
    left, right = min(x1, x2) * SCALE_X, (max(x1, x2) + 1) * SCALE_X
    top, bottom = min(y1, y2) * SCALE_Y, (max(y1, y2) + 1) * SCALE_Y
    for row in range(max(int(top), 0), min(int(bottom) + 1, BAR)):
        height = min(bottom, row + 1) - max(top, row)
        for column in range(max(int(left), 0), min(int(right) + 1, SIDE)):
            share = height * (min(right, column + 1) - max(left, column))
            pixel = picture[VIEW + row, column]
            for k in range(3):
                pixel[k] = min(pixel[k] + int(max(share * color[k] - DARKER, 0)), 255)
