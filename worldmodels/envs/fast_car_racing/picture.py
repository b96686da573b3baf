"""Draws CarRacing's 96x96 observation with OpenCV; `car_kernel` does it twice as fast.

The track is painted once into a map of identities (`Raster`). A picture is one affine view of that
map, looked up in a palette, with the car and the state bar laid over it.

Three frames of reference: the *field* in the physics' units, the *window* of 1000x800 pixels in
which Gymnasium draws (y upwards before its flip), and the *picture* of 96x96 pixels.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import cv2
import gymnasium.envs.box2d.car_racing as official
import numpy as np
from gymnasium.envs.box2d import car_dynamics
from jaxtyping import Float, UInt8, UInt16, UInt32, UInt64

from worldmodels.envs.fast_car_racing.bar import BAR, DARKER, SCALE_X, SCALE_Y, SIDE, draw_bar

VIEW = SIDE - BAR  # rows in which the field is seen
CAR_X, CAR_Y = SIDE / 2, SIDE * 0.75  # where the hull's centre stands in the picture
FINE = 2  # samples per picture pixel and axis of the field
CAR_FINE = 8  # the same for the car's patch
CAR_BOX = (45, 66, 6, 12)  # picture pixels that can hold the car: left, top, width, height

DENSITY = 3.0  # map pixels per unit
HALF_FIELD = 336  # units from the centre to the map's edge; the field ends at 333.3
BACKGROUND, GRASS, ROAD = 1, 2, 3  # identities; 0 is black, ROAD + i the i-th polygon of the road
MOST_IDENTITIES = 4096  # tracks have up to 371 tiles and fewer borders
INSET = 0.1  # units; OpenCV fills half a pixel beyond an edge
SUBPIXEL = 4  # fractional bits of the coordinates given to OpenCV
CAR_SCALE = np.array([SCALE_X, -SCALE_Y]) * (CAR_FINE << SUBPIXEL)
CAR_CENTER = np.array([CAR_X - CAR_BOX[0], CAR_Y - CAR_BOX[1]]) * CAR_FINE - 0.5
CAR_CENTER *= 1 << SUBPIXEL
TYRE_X = car_dynamics.WHEEL_W * car_dynamics.SIZE
TYRE_Y = car_dynamics.WHEEL_R * car_dynamics.SIZE
MARK_ANGLE = 1.2  # radians of the wheel's turn that its white mark takes
BLACK, MARK, HULL = (0, 0, 0), (77 - DARKER,) * 3, (204 - DARKER, 0, 0)

Affine = Float[np.ndarray, "2 3"]
Box = tuple[int, int, int, int]  # left, top, width, height
Colored = UInt8[np.ndarray, "y x 4"]
Picture = UInt8[np.ndarray, "96 96 3"]
Polygons = Float[np.ndarray, "n 4 2"]
Quadrilateral = list[tuple[float, float]]


class Palette:
    """The colour of each identity, darkened as in Gymnasium's picture."""

    def __init__(self, background: Any, grass: Any) -> None:
        self.table: UInt32[np.ndarray, " n"] = np.zeros(MOST_IDENTITIES, np.uint32)
        self._channels = self.table.view(np.uint8).reshape(-1, 4)[:, :3]
        self._channels[BACKGROUND] = np.maximum(background, DARKER) - DARKER
        self._channels[GRASS] = np.maximum(grass, DARKER) - DARKER
        spread = self._channels.astype(np.uint64) << np.arange(0, 48, 16, dtype=np.uint64)
        self.sums: UInt64[np.ndarray, " n"] = spread.sum(axis=1)
        """The same with 16 bits a channel, for `car_kernel`, which sets the road's part."""

    def paint(self, road: Float[np.ndarray, "n 3"]) -> None:
        """Sets the colours of the road's polygons."""
        self._channels[ROAD : ROAD + len(road)] = np.maximum(road, DARKER) - DARKER

    def color(self, identities: UInt16[np.ndarray, "y x"]) -> Colored:
        """The identities' colours; the fourth channel is empty, for the sake of speed."""
        return self.table.take(identities).view(np.uint8).reshape(*identities.shape, 4)


class Raster:
    """The painted map of one track: an identity per pixel, to be looked up in a palette."""

    def __init__(self, road: Polygons) -> None:
        self.identities = _empty_field().copy()
        _fill(self.identities, _narrowed(road), range(ROAD, ROAD + len(road)))
        self._levels: dict[int, Colored] = {}
        self._colors = b""

    def reduced(self, reduction: int, palette: Palette) -> Colored:
        """The coloured map at a 4th, 8th or 16th of its size, for the first second's far view.

        Tiles visited meanwhile keep their first shade in it: 5 of 255 at most.
        """
        colors = palette.table[: ROAD + 1].tobytes()
        if self._colors != colors:
            self._colors = colors
            level = palette.color(np.ascontiguousarray(self.identities[::2, ::2]))
            for key in (4, 8, 16):
                size = (level.shape[1] // 2, level.shape[0] // 2)
                self._levels[key] = level = cv2.resize(level, size, interpolation=cv2.INTER_AREA)
        return self._levels[reduction]


@functools.lru_cache(maxsize=1)
def _empty_field() -> UInt16[np.ndarray, "y x"]:
    """The map without a road: the field in its black surroundings, every other square of grass."""
    side = int(2 * HALF_FIELD * DENSITY)
    field = np.zeros((side, side), np.uint16)
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    patch = official.GRASS_DIM
    corners = [(x + 0.5, y + 0.5) for x in range(-20, 20, 2) for y in range(-20, 20, 2)]
    grass = np.array(corners)[:, None] * patch + square * (patch / 2 - INSET)
    _fill(field, square[None] * (official.PLAYFIELD - INSET), [BACKGROUND])
    _fill(field, grass, [GRASS] * len(grass))
    return field


def _fill(field: UInt16[np.ndarray, "y x"], polygons: Polygons, identities: Any) -> None:
    pixels = ((polygons + HALF_FIELD) * DENSITY - 0.5) * (1 << SUBPIXEL)
    for polygon, identity in zip(np.rint(pixels).astype(np.int32), identities, strict=True):
        cv2.fillConvexPoly(field, polygon, identity, shift=SUBPIXEL)


def _narrowed(road: Polygons) -> Polygons:
    """Polygons (left, right, right, left) with their sides moved inwards by `INSET`."""
    left, right = road[:, [0, 3]], road[:, [1, 2]]
    widths = np.linalg.norm(right - left, axis=-1, keepdims=True)
    # a border on a stretch that doesn't turn has no width
    inset = (right - left) * (INSET / np.maximum(widths, 1e-9))
    left, right = left + inset, right - inset
    return np.stack([left[:, 0], right[:, 0], right[:, 1], left[:, 1]], axis=1)


def zoom_at(time: float) -> float:
    """Window pixels per unit after some seconds: the view zooms in during the first."""
    return official.SCALE * (0.1 * max(1 - time, 0) + official.ZOOM * min(time, 1))


@dataclass(frozen=True)
class Camera:
    """What the picture shows: it follows the hull and turns with it.

    Gymnasium: window = (500, 200) + zoom * R(-angle) (field - hull), then flipped vertically.
    """

    x: float
    y: float
    cosine: float
    sine: float
    zoom: float

    @classmethod
    def following(cls, hull: Any, time: float) -> "Camera":
        """The camera at a time in seconds."""
        x, y = hull.position
        return cls(x, y, math.cos(hull.angle), math.sin(hull.angle), zoom_at(time))

    def seen(self, raster: Raster, palette: Palette, box: Box, fine: int) -> Colored:
        """The field in a part of the picture, `fine` x `fine` samples a pixel."""
        size = (box[2] * fine, box[3] * fine)
        density = self.zoom * FINE * (SCALE_X + SCALE_Y) / 2  # samples per unit
        if density > 0.4 * DENSITY:
            affine = self._to_map(box, fine, DENSITY)
            flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
            return palette.color(cv2.warpAffine(raster.identities, affine, size, flags=flags))
        reduction = 4 if density > 0.8 else 8 if density > 0.4 else 16
        affine = self._to_map(box, fine, DENSITY / reduction)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(raster.reduced(reduction, palette), affine, size, flags=flags)

    def _to_map(self, box: Box, fine: int, density: float) -> Affine:
        """Takes a sample's indices to those of the map pixel it shows."""
        step_x, step_y = 1 / (SCALE_X * self.zoom), -1 / (SCALE_Y * self.zoom)  # units per pixel
        first_x = (box[0] + 0.5 / fine - CAR_X) * step_x
        first_y = (box[1] + 0.5 / fine - CAR_Y) * step_y
        step_x, step_y = step_x / fine, step_y / fine
        c, s = self.cosine * density, self.sine * density
        start_x = density * (self.x + HALF_FIELD) + c * first_x - s * first_y - 0.5
        start_y = density * (self.y + HALF_FIELD) + s * first_x + c * first_y - 0.5
        return np.array([(c * step_x, -s * step_y, start_x), (s * step_x, c * step_y, start_y)])


def draw_picture(raster: Raster, palette: Palette, car: Any, time: float, total: float) -> Picture:
    """The observation after `time` seconds with the sum of rewards `total` in its bar."""
    camera = Camera.following(car.hull, time)
    picture = np.empty((SIDE, SIDE, 3), np.uint8)
    field = camera.seen(raster, palette, (0, 0, SIDE, VIEW), FINE)
    field = cv2.resize(field, (SIDE, VIEW), interpolation=cv2.INTER_AREA)
    cv2.cvtColor(field, cv2.COLOR_RGBA2RGB, dst=picture[:VIEW])
    patch = camera.seen(raster, palette, CAR_BOX, CAR_FINE)
    _draw_car(patch, car, camera)
    left, top, width, height = CAR_BOX
    patch = cv2.resize(patch, (width, height), interpolation=cv2.INTER_AREA)
    picture[top : top + height, left : left + width] = patch[..., :3]
    picture[VIEW:] = draw_bar(car, total)
    return picture


def _draw_car(patch: Colored, car: Any, camera: Camera) -> None:
    wheels, colors = _wheels(car, camera)
    pixels = (np.array(wheels) * (CAR_SCALE * camera.zoom) + CAR_CENTER).astype(np.int32)
    for polygon, color in zip(pixels, colors, strict=True):
        cv2.fillConvexPoly(patch, polygon, color, shift=SUBPIXEL)
    cv2.copyTo(*hull_at(camera.zoom), patch)


@functools.lru_cache(maxsize=64)
def hull_at(zoom: float) -> tuple[Colored, UInt8[np.ndarray, "y x"]]:
    """The hull on the patch and the mask of its pixels; both change with the zoom alone."""
    hull = np.zeros((CAR_BOX[3] * CAR_FINE, CAR_BOX[2] * CAR_FINE, 4), np.uint8)
    for name in ("HULL_POLY1", "HULL_POLY2", "HULL_POLY3", "HULL_POLY4"):
        polygon = np.array(getattr(car_dynamics, name)) * car_dynamics.SIZE
        pixels = polygon * (CAR_SCALE * zoom) + CAR_CENTER
        cv2.fillConvexPoly(hull, pixels.astype(np.int32), HULL, shift=SUBPIXEL)
    return hull, hull[..., 0].copy()


def _wheels(car: Any, camera: Camera) -> tuple[list[Quadrilateral], list[tuple[int, ...]]]:
    """Tyres and the white marks on them in the hull's frame, and their colours."""
    polygons: list[Quadrilateral] = []
    colors: list[tuple[int, ...]] = []
    angle = car.hull.angle
    for wheel in car.wheels:
        x, y = wheel.position
        x, y = x - camera.x, y - camera.y
        center = (camera.cosine * x + camera.sine * y, camera.cosine * y - camera.sine * x)
        turn = wheel.angle - angle
        polygons.append(_across(center, turn, TYRE_Y, -TYRE_Y))
        colors.append(BLACK)
        start, end = wheel.phase, wheel.phase + MARK_ANGLE
        if math.sin(start) <= 0 or math.sin(end) <= 0:
            polygons.append(_across(center, turn, _mark_edge(start), _mark_edge(end)))
            colors.append(MARK)
    return polygons, colors


def _mark_edge(phase: float) -> float:
    """Where an edge of the white mark is seen on the tyre; at its rim when it is below."""
    cosine = math.cos(phase)
    return TYRE_Y * (math.copysign(1, cosine) if math.sin(phase) > 0 else cosine)


def _across(center: tuple[float, float], turn: float, front: float, rear: float) -> Quadrilateral:
    """The part of a turned wheel between two lines across it."""
    (x, y), cosine, sine = center, math.cos(turn), math.sin(turn)
    side_x, side_y = cosine * TYRE_X, sine * TYRE_X
    front_x, front_y = x - sine * front, y + cosine * front
    rear_x, rear_y = x - sine * rear, y + cosine * rear
    return [
        (front_x - side_x, front_y - side_y),
        (front_x + side_x, front_y + side_y),
        (rear_x + side_x, rear_y + side_y),
        (rear_x - side_x, rear_y - side_y),
    ]
