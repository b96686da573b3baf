"""CarRacing with its observation redrawn: Gymnasium's physics, tracks and rewards, much faster.

Gymnasium spends 98% of a step on drawing. Here `car_kernel` draws, or, in the far view of the first
third of a second, near the map's edge and without Numba, `car_picture`. `car_motion` moves the car
by the parent's arithmetic; rewards, ends and positions are equal to the last bit.
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
from worldmodels.envs.fast_car_racing.kernel import paint
from worldmodels.envs.fast_car_racing.motion import Car
from worldmodels.envs.fast_car_racing.picture import (
    HALF_FIELD,
    Palette,
    Picture,
    Raster,
    draw_picture,
    hull_at,
    zoom_at,
)

CACHED_TRACKS = 64
NEAR = 6.0  # zoom from which on `draw_picture` takes the map at full size
REACH = math.hypot(official.WINDOW_W / 2, official.WINDOW_H * 0.75)  # from the car to a corner


@dataclass
class Track:
    """A generated track, remembered by the state of the generator it came from.

    `road` holds in drawing order the corners and, for borders, their colour (None: a tile).
    """

    path: list[tuple[float, float, float, float]]
    start_alpha: float
    road: list[tuple[list[tuple[float, float]], Any]]
    state_after: Any
    _raster: "weakref.ref[Raster] | None" = None

    def raster(self) -> Raster:
        """The painted map, shared by all environments on this track while one of them lives."""
        raster = self._raster() if self._raster else None
        if raster is None:
            raster = Raster(np.array([corners for corners, _ in self.road], float))
            self._raster = weakref.ref(raster)
        return raster


_tracks: OrderedDict[str, Track] = OrderedDict()


class CarRacing(SkipsDrawing, official.CarRacing):
    """Gymnasium's CarRacing-v3 with a faster picture; takes the same arguments.

    Differs: the 96x96 observation alone, by less than one grey level in 255 on average; what people
    see (`render`) is drawn by Gymnasium. Published scores are measured in the official environment.

    Attributes:
        drawing: Whether `step` and `reset` draw. If not, they return the last drawn observation.
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
        if self._is_near():
            return self._paint(self._raster)
        self._palette.paint(self._road_colors)
        return draw_picture(self._raster, self._palette, self.car, self.t, self.reward)

    def _is_near(self) -> bool:
        """Whether two samples a pixel and axis are enough, and all of them lie inside the map."""
        zoom, (x, y) = zoom_at(self.t), self.car.hull.position
        return zoom > NEAR and max(abs(x), abs(y)) + REACH / zoom < HALF_FIELD

    def _paint(self, raster: Raster) -> Picture:
        picture, zoom = np.empty((SIDE, SIDE, 3), np.uint8), zoom_at(self.t)
        field = raster.identities, self._palette.sums, self._road_colors
        overlays = hull_at(zoom)[1], text_of(f"{self.reward:04.0f}"), numbers_of(self.car)
        paint(picture, *field, *overlays, zoom)
        return picture

    def _render(self, mode: str) -> Any:
        if mode != "state_pixels":
            return super()._render(mode)
        if self.drawing:
            self._picture = self.draw()
        return self._picture

    def _create_track(self) -> bool:
        """Builds the road; the second time from memory, the generator moved on as if it had run."""
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
        """Makes the bodies of a remembered track as, and in the order in which, the parent does."""
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
        """Moves the colours into one array, of which each tile, repainted in place, owns a row."""
        colors = self._road_colors = np.array([color for _, color in self.road_poly], float)
        tiles = iter(self.road)
        for row, (corners, color) in enumerate(self.road_poly):
            if isinstance(color, np.ndarray):
                next(tiles).color = colors[row]
                self.road_poly[row] = (corners, colors[row])
        self._palette = Palette(self.bg_color, self.grass_color)


def numbers_of(car: Any) -> Float64[np.ndarray, " 26"]:
    """What the picture shows of a car: six numbers of the hull, five of each wheel."""
    hull = car.hull
    position, velocity = hull.position, hull.linearVelocity
    speed, turn = math.hypot(velocity.x, velocity.y), hull.angularVelocity
    numbers = [position.x, position.y, hull.angle, speed, car.wheels[0].joint.angle, turn]
    for wheel in car.wheels:
        position = wheel.position
        numbers += [position.x, position.y, wheel.angle, wheel.omega, wheel.phase]
    return np.array(numbers)
