"""CarRacing with its observation redrawn: Gymnasium's physics, tracks and rewards, much faster.

Gymnasium spends 98% of a step on drawing. Here `kernel.paint` draws. In the far view of the first
third of a second and near the map's edge OpenCV draws the field (`field.Camera`). `motion` moves
the car by the parent's arithmetic: rewards, ends and positions are equal to the last bit.
"""

import math
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import gymnasium.envs.box2d.car_racing as official
import numpy as np
from jaxtyping import Float64

from worldmodels.envs.abilities import SkipsDrawing
from worldmodels.envs.fast_car_racing.bar import SIDE, text_of
from worldmodels.envs.fast_car_racing.field import (
    HALF_FIELD,
    VIEW,
    Camera,
    Palette,
    Picture,
    Raster,
    hull_at,
    zoom_at,
)
from worldmodels.envs.fast_car_racing.kernel import paint, paint_overlays
from worldmodels.envs.fast_car_racing.motion import Car

CACHED_TRACKS = 64
NEAR = 6.0  # zoom above which two samples a pixel and axis are enough
REACH = math.hypot(official.WINDOW_W / 2, official.WINDOW_H * 0.75)  # from the car to a corner


@dataclass
class Track:
    """A generated track, cached under the state of the generator that it came from."""

    path: list[tuple[float, float, float, float]]
    start_alpha: float
    road: list[tuple[list[tuple[float, float]], Any]]
    """Corners in drawing order, with the colour of a border, or None for a tile."""
    state_after: Any
    _raster: "weakref.ref[Raster] | None" = None

    def raster(self) -> Raster:
        """The map, shared by all environments on this track as long as one of them exists."""
        raster = self._raster() if self._raster else None
        if raster is None:
            raster = Raster(np.array([corners for corners, _ in self.road], float))
            self._raster = weakref.ref(raster)
        return raster


_tracks: OrderedDict[str, Track] = OrderedDict()


class CarRacing(SkipsDrawing, official.CarRacing):
    """Gymnasium's CarRacing-v3 with a faster picture; takes the same arguments.

    Differs: only the 96x96 observation, by less than one grey level of 255 on average. Gymnasium
    draws what `render` returns. Published scores are measured in the official environment.

    Without `drawing`, `step` and `reset` return the last picture that was drawn.
    """

    track: Any  # the parent declares these too narrowly
    road: Any
    car: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._picture: Picture = np.zeros((96, 96, 3), np.uint8)
        self._track: Track | None = None
        self._raster: Raster | None = None

    def step(self, action: Any) -> Any:
        if action is None:  # `reset` has just built the car
            self.car.__class__ = Car
        return super().step(action)

    def draw(self) -> Picture:
        """A new picture of the present state."""
        if self._raster is None:
            assert self._track is not None, "reset() first"
            self._raster = self._track.raster()
        raster, palette, road = self._raster, self._palette, self._road_colors
        picture, zoom = np.empty((SIDE, SIDE, 3), np.uint8), zoom_at(self.t)
        overlays = hull_at(zoom), text_of(f"{self.reward:04.0f}"), numbers_of(self.car), zoom
        if self._is_near(zoom):
            paint(picture, raster.identities, palette.sums, road, *overlays)
            return picture
        palette.paint(road)
        picture[:VIEW] = Camera.following(self.car.hull, zoom).field(raster, palette)
        paint_overlays(picture, *overlays)
        return picture

    def _is_near(self, zoom: float) -> bool:
        """Whether the kernel may draw the field: the view is close, and inside the map."""
        x, y = self.car.hull.position
        return zoom > NEAR and max(abs(x), abs(y)) + REACH / zoom < HALF_FIELD

    def _render(self, mode: str) -> Any:
        if mode != "state_pixels":
            return super()._render(mode)
        if self.drawing:
            self._picture = self.draw()
        return self._picture

    def _create_track(self) -> bool:
        """Builds the road, from the cache where it can; the generator moves on in either case."""
        generator = self.np_random.bit_generator
        key = str(generator.state)
        track = _tracks.pop(key, None)
        if track is None:
            while not super()._create_track():  # type: ignore[no-untyped-call]
                pass
            road = [(p, None if isinstance(c, np.ndarray) else c) for p, c in self.road_poly]
            track = Track(self.track, self.start_alpha, road, generator.state)
        else:
            generator.state = track.state_after
            self._rebuild(track)
        _tracks[key] = track
        if len(_tracks) > CACHED_TRACKS:
            _tracks.popitem(last=False)
        if track is not self._track:
            self._track, self._raster = track, None
        self._take_colors()
        return True

    def _rebuild(self, track: Track) -> None:
        """Makes the bodies of a cached track in the order in which the parent makes them."""
        self.track, self.start_alpha = track.path, track.start_alpha
        self.road = []
        for corners, color in track.road:
            if color is None:
                self.fd_tile.shape.vertices = corners
                tile = self.world.CreateStaticBody(fixtures=self.fd_tile)
                tile.userData = tile
                tile.idx = len(self.road)
                tile.color = color = self.road_color + 0.01 * (tile.idx % 3) * 255
                tile.road_visited = False
                tile.road_friction = 1.0
                tile.fixtures[0].sensor = True
                self.road.append(tile)
            self.road_poly.append((corners, color))

    def _take_colors(self) -> None:
        """Moves the colours into one array; each tile owns a row, and repaints it in place."""
        colors = self._road_colors = np.array([color for _, color in self.road_poly], float)
        tiles = iter(self.road)
        for row, (corners, color) in enumerate(self.road_poly):
            if isinstance(color, np.ndarray):
                next(tiles).color = colors[row]
                self.road_poly[row] = (corners, colors[row])
        self._palette = Palette(self.bg_color, self.grass_color)


def numbers_of(car: Any) -> Float64[np.ndarray, " 26"]:
    """What the picture shows of a car: six numbers for the hull, five for each wheel."""
    hull = car.hull
    position, velocity = hull.position, hull.linearVelocity
    speed, turn = math.hypot(velocity.x, velocity.y), hull.angularVelocity
    numbers = [position.x, position.y, hull.angle, speed, car.wheels[0].joint.angle, turn]
    for wheel in car.wheels:
        position = wheel.position
        numbers += [position.x, position.y, wheel.angle, wheel.omega, wheel.phase]
    return np.array(numbers)
