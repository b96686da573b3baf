"""The field of CarRacing's observation: the map of a track, and OpenCV's view of it.

A track is drawn once into a map of identities (`Raster`). A picture is one affine view of this map,
with the colours of a `Palette`. `kernel.paint` draws that view where it is close and inside the
map; `Camera.field` draws all others: those of the first third of a second, and the map's edge.

There are three frames of reference: the *field* in the units of the physics, the *window* of
1000x800 pixels in which Gymnasium draws (y points upwards before its flip), and the *picture* of
96x96 pixels.
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

from worldmodels.envs.fast_car_racing.bar import BAR, DARKER, SCALE_X, SCALE_Y, SIDE

VIEW = SIDE - BAR  # rows in which the field is seen
CAR_X, CAR_Y = SIDE / 2, SIDE * 0.75  # where the hull's centre stands in the picture
FINE = 2  # samples per picture pixel and axis of the field
CAR_FINE = 8  # the same for the patch with the car
CAR_BOX = (45, 66, 6, 12)  # the patch, in picture pixels: left, top, width, height

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
MARK_ANGLE = 1.2  # radians of the wheel's circumference that its white mark covers
MARK, HULL = (77 - DARKER,) * 3, (204 - DARKER, 0, 0)

Affine = Float[np.ndarray, "2 3"]
Colored = UInt8[np.ndarray, "y x 4"]
Picture = UInt8[np.ndarray, "96 96 3"]
Polygons = Float[np.ndarray, "n 4 2"]


class Palette:
    """The colour of each identity, darkened as in Gymnasium's picture."""

    def __init__(self, background: Any, grass: Any) -> None:
        self.table: UInt32[np.ndarray, " n"] = np.zeros(MOST_IDENTITIES, np.uint32)
        self._channels = self.table.view(np.uint8).reshape(-1, 4)[:, :3]
        self._channels[BACKGROUND] = np.maximum(background, DARKER) - DARKER
        self._channels[GRASS] = np.maximum(grass, DARKER) - DARKER
        spread = self._channels.astype(np.uint64) << np.arange(0, 48, 16, dtype=np.uint64)
        self.sums: UInt64[np.ndarray, " n"] = spread.sum(axis=1)
        """The same with 16 bits a channel, for `kernel.paint`, which sets the road's part."""

    def paint(self, road: Float[np.ndarray, "n 3"]) -> None:
        """Sets the colours of the road's polygons."""
        self._channels[ROAD : ROAD + len(road)] = np.maximum(road, DARKER) - DARKER

    def color(self, identities: UInt16[np.ndarray, "y x"]) -> Colored:
        """The colours of identities; the fourth channel is empty, which is faster."""
        return self.table.take(identities).view(np.uint8).reshape(*identities.shape, 4)


class Raster:
    """The map of one track: an identity per pixel, the index of its colour in a palette."""

    def __init__(self, road: Polygons) -> None:
        self.identities = _empty_field().copy()
        _fill(self.identities, _narrowed(road), range(ROAD, ROAD + len(road)))
        self._levels: dict[int, Colored] = {}
        self._colors = b""

    def reduced(self, reduction: int, palette: Palette) -> Colored:
        """The coloured map at a 4th, 8th or 16th of its size, for the far view.

        Differs: a tile visited in the meantime keeps its first shade, which is off by 5 of 255 at
        most.
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
    """The map without a road: the field on black, with every other square of grass."""
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
    # a border has no width where the road does not turn
    inset = (right - left) * (INSET / np.maximum(widths, 1e-9))
    left, right = left + inset, right - inset
    return np.stack([left[:, 0], right[:, 0], right[:, 1], left[:, 1]], axis=1)


def zoom_at(time: float) -> float:
    """Window pixels per unit at a time in seconds: the view zooms in during the first second."""
    return official.SCALE * (0.1 * max(1 - time, 0) + official.ZOOM * min(time, 1))


@dataclass(frozen=True)
class Camera:
    """The view of the field: it follows the hull and turns with it.

    Gymnasium: window = (500, 200) + zoom * R(-angle) (field - hull), then flipped vertically.
    """

    x: float
    y: float
    cosine: float
    sine: float
    zoom: float

    @classmethod
    def following(cls, hull: Any, zoom: float) -> "Camera":
        """The camera above a hull."""
        x, y = hull.position
        return cls(x, y, math.cos(hull.angle), math.sin(hull.angle), zoom)

    def field(self, raster: Raster, palette: Palette) -> UInt8[np.ndarray, "84 96 3"]:
        """The field in the picture, without the car."""
        size = SIDE * FINE, VIEW * FINE
        density = self.zoom * FINE * (SCALE_X + SCALE_Y) / 2  # samples per unit
        if density > 0.4 * DENSITY:
            flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
            affine = self._to_map(DENSITY)
            seen = palette.color(cv2.warpAffine(raster.identities, affine, size, flags=flags))
        else:
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            reduction = 4 if density > 0.8 else 8 if density > 0.4 else 16
            affine = self._to_map(DENSITY / reduction)
            seen = cv2.warpAffine(raster.reduced(reduction, palette), affine, size, flags=flags)
        seen = cv2.resize(seen, (SIDE, VIEW), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(seen, cv2.COLOR_RGBA2RGB)

    def _to_map(self, density: float) -> Affine:
        """Takes a sample's indices to those of the map pixel that it shows."""
        step_x, step_y = 1 / (SCALE_X * self.zoom), -1 / (SCALE_Y * self.zoom)  # units per pixel
        first_x, first_y = (0.5 / FINE - CAR_X) * step_x, (0.5 / FINE - CAR_Y) * step_y
        step_x, step_y = step_x / FINE, step_y / FINE
        c, s = self.cosine * density, self.sine * density
        start_x = density * (self.x + HALF_FIELD) + c * first_x - s * first_y - 0.5
        start_y = density * (self.y + HALF_FIELD) + s * first_x + c * first_y - 0.5
        return np.array([(c * step_x, -s * step_y, start_x), (s * step_x, c * step_y, start_y)])


@functools.lru_cache(maxsize=64)
def hull_at(zoom: float) -> UInt8[np.ndarray, "y x"]:
    """Which samples of the car's patch show the hull; this depends on the zoom alone."""
    hull = np.zeros((CAR_BOX[3] * CAR_FINE, CAR_BOX[2] * CAR_FINE), np.uint8)
    for name in ("HULL_POLY1", "HULL_POLY2", "HULL_POLY3", "HULL_POLY4"):
        polygon = np.array(getattr(car_dynamics, name)) * car_dynamics.SIZE
        pixels = polygon * (CAR_SCALE * zoom) + CAR_CENTER
        cv2.fillConvexPoly(hull, pixels.astype(np.int32), 1, shift=SUBPIXEL)
    return hull
