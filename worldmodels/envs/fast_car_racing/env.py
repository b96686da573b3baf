"""CarRacing with its observation redrawn: Gymnasium's physics, tracks and rewards, much faster.

Gymnasium spends 98% of a step on drawing. Here `kernel.paint` draws. In the far view of the first
third of a second and near the map's edge OpenCV draws the field (`field.Camera`). `physics` moves
the car by the arithmetic of Gymnasium and Box2D: rewards, ends and positions are equal to the last
bit.
"""

import math
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import Box2D
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
from worldmodels.envs.fast_car_racing.motion import Car, Polygons, Road, Tile
from worldmodels.envs.fast_car_racing.physics import shown

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
    tiles: Polygons
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

    Differs: the 96x96 observation, by less than one grey level of 255 on average. Gymnasium draws
    what `render` returns. `car` and `road` have the attributes that are read in a game (places,
    velocities, controls, tiles), but are no objects of Box2D, and bodies that are added to `world`
    do not move. Published scores are measured in the official environment.

    Without `drawing`, `step` and `reset` return the last picture that was drawn.
    """

    track: Any  # the parent declares these too narrowly
    road: Any
    car: Any
    world: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._picture: Picture = np.zeros((96, 96, 3), np.uint8)
        self._track: Track | None = None
        self._raster: Raster | None = None
        self._begun = False  # whether the first tile has been visited

    def step(self, action: Any) -> Any:
        if not isinstance(self.car, Car):  # `reset` has just built it
            marks = self.render_mode is not None
            self.car = Car(self.car, self._road, self.road, self._visit, marks=marks)
        return super().step(action)

    def hold(self, action: Any, frames: int) -> tuple[Picture, float, int, bool, dict[str, Any]]:
        """Takes some steps (at least 1) with one action, until the end at most; draws the last.

        Returns:
            The picture, the sum of the rewards, the number of steps, whether the episode has
            ended, and the last step's info.
        """
        drawing, total, taken, terminated = self.drawing, 0.0, 0, False
        try:
            while taken < frames and not terminated:
                taken += 1
                self.drawing = drawing and taken == frames
                picture, reward, terminated, _, info = self.step(action)
                total += reward
        finally:
            self.drawing = drawing
        if drawing and taken < frames:
            picture = self._picture = self.draw()
        return picture, total, taken, terminated, info

    def _visit(self, tiles: int) -> None:
        """Pays for new tiles.

        The lap ends when a wheel first touches tile 0 and enough tiles have been visited. Of those
        that are new in the same frame, Gymnasium may count only some.
        """
        for _ in range(tiles):
            self.reward += 1000.0 / len(self.track)
        self.tile_visited_count += tiles
        enough = self.tile_visited_count / len(self.track) > self.lap_complete_percent
        before, self._begun = self._begun, bool(self._road.visited[0])
        if enough and self._begun and not before:
            self.new_lap = True

    def draw(self) -> Picture:
        """A new picture of the present state."""
        if self._raster is None:
            assert self._track is not None, "reset() first"
            self._raster = self._track.raster()
        raster, palette, road = self._raster, self._palette, self._road.colors
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
            mine = self.car
            if isinstance(mine, Car):
                self.car = mine.built()
            try:
                return super()._render(mode)
            finally:
                self.car = mine
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
            tiles = Polygons.of([tile.fixtures[0] for tile in self.road], 4)
            track = Track(self.track, self.start_alpha, road, tiles, generator.state)
        else:
            generator.state = track.state_after
        _tracks[key] = track
        if len(_tracks) > CACHED_TRACKS:
            _tracks.popitem(last=False)
        if track is not self._track:
            self._track, self._raster = track, None
        self._lay(track)
        return True

    def _lay(self, track: Track) -> None:
        """Takes a track, whose polygons' colours are rows of one array."""
        self.track, self.start_alpha = track.path, track.start_alpha
        rows = np.array([row for row, (_, color) in enumerate(track.road) if color is None])
        colors = np.array([color or (0, 0, 0) for _, color in track.road], float)
        colors[rows] = self.road_color + 0.01 * (np.arange(len(rows))[:, None] % 3) * 255
        self._road = Road(track.tiles, colors, rows, np.array(self.road_color, float))
        self.road = [Tile(self._road, index) for index in range(len(rows))]
        self.road_poly = [
            (corners, colors[row] if color is None else color)
            for row, (corners, color) in enumerate(track.road)
        ]
        self._palette, self._begun = Palette(self.bg_color, self.grass_color), False

    def _destroy(self) -> None:
        """Begins a new world: Box2D keeps notes of all bodies until a step, and takes none here."""
        self.road, self.world = [], Box2D.b2World((0, 0))
        self.world.Step = lambda *_: None  # the car moves itself


def numbers_of(car: Car) -> Float64[np.ndarray, " 26"]:
    """What the picture shows of a car: six numbers for the hull, five for each wheel."""
    numbers = np.empty(26)
    shown(numbers, car.bodies, car.steered)
    return numbers
