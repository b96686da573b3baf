"""CarRacing's car: what Gymnasium's code asks of it, over the arrays that `physics` changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from worldmodels.envs.fast_car_racing import physics
from worldmodels.envs.fast_car_racing.physics import (
    ANGLE,
    BRAKE,
    CENTER_X,
    CENTER_Y,
    COSINE,
    GAS,
    GRASS_SKID,
    NO_SKID,
    OMEGA,
    PHASE,
    PX,
    PY,
    RADIUS,
    SINE,
    SPIN,
    STEER,
    VX,
    VY,
    X,
    Y,
)

F = np.float32
MOST_CORNERS = 8
MOST_MARKS = 1000
"""Frames whose skids wait to be drawn."""


@dataclass(frozen=True)
class Polygons:
    """Convex polygons with the corners of Box2D's, in its order."""

    corners: Float32[np.ndarray, "N C 2"]
    numbers: Int64[np.ndarray, " N"]
    """How many corners a polygon has."""
    boxes: Float32[np.ndarray, "N 2 2"]
    """Least and greatest coordinates."""

    @classmethod
    def of(cls, fixtures: Sequence[Any], most: int) -> Polygons:
        """Those of Box2D's fixtures, which have at most some corners."""
        found = [fixture.shape.vertices for fixture in fixtures]
        corners, boxes = np.zeros((len(found), most, 2), F), np.zeros((len(found), 2, 2), F)
        for mine, box, theirs in zip(corners, boxes, found, strict=True):
            mine[: len(theirs)] = theirs
            box[:] = np.min(theirs, axis=0), np.max(theirs, axis=0)
        return cls(corners, np.array([len(one) for one in found]), boxes)


class Road:
    """What the car drives on.

    Attributes:
        shapes: of the tiles.
        colors: float64 (n, 3), of the polygons that are drawn: tiles and borders.
        rows: int64 (T,), the tiles' rows of `colors`.
        color: (3,), of tiles that the car has touched.
        visited: bool (T,), which tiles a wheel has touched.
    """

    def __init__(self, shapes: Polygons, colors: Any, rows: Any, color: Any) -> None:
        self.shapes, self.colors, self.rows, self.color = shapes, colors, rows, color
        self.visited = np.zeros(len(rows), bool)


class Tile:
    """A piece of the road, with attributes of Gymnasium's."""

    road_friction = 1.0

    def __init__(self, road: Road, idx: int) -> None:
        self._road, self.idx = road, idx

    @property
    def color(self) -> Float64[np.ndarray, " 3"]:
        color: Float64[np.ndarray, " 3"] = self._road.colors[self._road.rows[self.idx]]
        return color

    @property
    def road_visited(self) -> bool:
        return bool(self._road.visited[self.idx])


class Body:
    """A body of the car as it is now; its numbers are a row of `Car.bodies`."""

    def __init__(
        self, numbers: Float32[np.ndarray, " 11"], center: Float32[np.ndarray, " 2"]
    ) -> None:
        self._numbers, self._center = numbers, center

    @property
    def position(self) -> tuple[float, float]:
        """The origin."""
        return float(self._numbers[PX]), float(self._numbers[PY])

    @position.setter
    def position(self, place: tuple[float, float]) -> None:
        mine, (x, y) = self._numbers, self._center
        mine[PX], mine[PY] = place
        mine[X] = (mine[COSINE] * x - mine[SINE] * y) + mine[PX]
        mine[Y] = (mine[SINE] * x + mine[COSINE] * y) + mine[PY]

    @property
    def angle(self) -> float:
        return float(self._numbers[ANGLE])

    @property
    def linearVelocity(self) -> tuple[float, float]:  # noqa: N802  (Box2D's name)
        return float(self._numbers[VX]), float(self._numbers[VY])

    @property
    def angularVelocity(self) -> float:  # noqa: N802
        return float(self._numbers[SPIN])


class Wheel(Body):
    """A wheel as it is now."""

    def __init__(self, car: Car, index: int) -> None:
        super().__init__(car.bodies[index + 1], car.masses[index + 1, [CENTER_X, CENTER_Y]])
        self._steered, self._car, self._touched = car.steered[index], car, car.touching[index + 1]

    @property
    def omega(self) -> float:
        return float(self._steered[OMEGA])

    @property
    def phase(self) -> float:
        return float(self._steered[PHASE])

    @property
    def gas(self) -> float:
        return float(self._steered[GAS])

    @property
    def brake(self) -> float:
        return float(self._steered[BRAKE])

    @property
    def tiles(self) -> list[Tile]:
        """The tiles that it touches."""
        return [self._car.tiles[index] for index in np.flatnonzero(self._touched).tolist()]

    @property
    def joint(self) -> SimpleNamespace:
        """Its `angle` is that of the wheel against the hull, in radians."""
        return SimpleNamespace(angle=float(self._numbers[ANGLE] - self._car.bodies[0, ANGLE]))


class Car:
    """Gymnasium's car, moved by `physics.advance`.

    Attributes:
        hull, wheels: show positions, angles and velocities.
        bodies, steered: float32 (5, 11) and float64 (4, 6), the numbers behind them.
        touching: bool (5, T), which bodies touch which tiles.
        fuel_spent: Gymnasium sets it, and reads it nowhere.
    """

    def __init__(
        self,
        car: Any,
        road: Road,
        tiles: Sequence[Tile],
        visit: Callable[[int], None],
        *,
        marks: bool = True,
    ) -> None:
        """Takes over from a car that Gymnasium has just built.

        Args:
            car: Gymnasium's.
            road: on which it stands.
            tiles: of the road.
            visit: is called with the number of tiles that wheels touch for the first time.
            marks: keeps the marks of skidding.
        """
        self._built, self.road, self.tiles, self._visit = car, road, tiles, visit
        self.fuel_spent, self._keeps_marks = 0.0, marks
        built = [car.hull, *car.wheels]
        self.masses = np.array([_mass(body) for body in built], F)
        self.bodies = np.zeros((5, physics.COLUMNS), F)
        for mine, body in zip(self.bodies, built, strict=True):
            mine[[X, Y]], mine[ANGLE] = body.worldCenter, body.angle
        for body in range(5):
            physics.place(self.bodies, self.masses, body)
        self.bodies[:, [PX, PY]] = [body.position for body in built]  # to the last bit
        self.steered = np.zeros((4, 6))
        self.steered[:, RADIUS] = [wheel.wheel_rad for wheel in car.wheels]
        joints = [wheel.joint for wheel in car.wheels]
        places = [(*joint.GetLocalAnchorA(), *joint.GetLocalAnchorB()) for joint in joints]
        centers = self.masses[:, [CENTER_X, CENTER_Y]]
        centers = np.hstack([np.tile(centers[0], (4, 1)), centers[1:]])
        first = joints[0]
        limits = first.lowerLimit, first.upperLimit, first.GetMaxMotorTorque()
        shapes = [(body, fixture) for body in range(5) for fixture in built[body].fixtures]
        polygons = Polygons.of([fixture for _, fixture in shapes], MOST_CORNERS)
        owners = np.array([body for body, _ in shapes])
        self.touching = np.zeros((5, len(road.rows)), bool)
        self._skids, self._marks = np.zeros((4, 3)), list[Float64[np.ndarray, "4 3"]]()
        self._arguments = (
            self.bodies,
            self.masses,
            self.steered,
            np.zeros((4, 6), F),
            np.array(places, F) - centers,
            np.array(limits, F),
            (owners, polygons.corners, polygons.numbers),
            (road.shapes.corners, road.shapes.numbers, road.shapes.boxes),
            self.touching,
            road.visited,
            (road.colors, road.rows, np.asarray(road.color, float)),
            self._skids,
        )
        self.hull = Body(self.bodies[0], self.masses[0, [CENTER_X, CENTER_Y]])
        self.wheels = [Wheel(self, index) for index in range(4)]

    def steer(self, s: float) -> None:
        """Turns the front wheels."""
        self.steered[:2, STEER] = s

    def brake(self, b: float) -> None:
        """Brakes all wheels."""
        self.steered[:, BRAKE] = b

    def gas(self, gas: float) -> None:
        """Drives the rear wheels; gas rises by at most a tenth in a frame."""
        gas = min(max(float(gas), 0.0), 1.0)
        for wheel in (2, 3):
            self.steered[wheel, GAS] += min(gas - self.steered[wheel, GAS], 0.1)

    def step(self, dt: float) -> None:
        """A frame; `dt` is always the world's."""
        self._visit(physics.advance(*self._arguments))
        if self._keeps_marks:
            self._marks.append(self._skids.copy())
            if len(self._marks) == MOST_MARKS:
                self._draw_marks()

    def built(self) -> Any:
        """Gymnasium's car in the same state, to be drawn."""
        car = self._built
        for mine, body in zip((self.hull, *self.wheels), (car.hull, *car.wheels), strict=True):
            body.transform = mine.position, mine.angle
            body.linearVelocity, body.angularVelocity = mine.linearVelocity, mine.angularVelocity
        for mine, wheel in zip(self.wheels, car.wheels, strict=True):
            wheel.omega, wheel.phase = mine.omega, mine.phase
        self._draw_marks()
        return car

    @property
    def particles(self) -> deque[Any]:
        """The marks of skidding, where they are kept."""
        marks: deque[Any] = self.built().particles
        return marks

    def _draw_marks(self) -> None:
        """Gives the skids of the last frames to Gymnasium's car."""
        for skids in self._marks:
            for wheel, (kind, x, y) in zip(self._built.wheels, skids.tolist(), strict=True):
                _skid(self._built, wheel, kind, (x, y))
        self._marks.clear()


def _mass(body: Any) -> list[Any]:
    """What `physics` takes of a body, by Box2D's sums over its fixtures, newest first."""
    mass, inertia, x, y = F(0), F(0), F(0), F(0)
    for fixture in reversed(body.fixtures):
        part = fixture.massData
        mass, inertia = mass + F(part.mass), inertia + F(part.I)
        x, y = x + F(part.mass) * F(part.center[0]), y + F(part.mass) * F(part.center[1])
    x, y = x * (F(1) / mass), y * (F(1) / mass)
    return [F(1) / mass, F(1) / (inertia - mass * (x * x + y * y)), x, y]


def _skid(car: Any, wheel: Any, kind: float, place: tuple[float, float]) -> None:
    """Records a mark as Gymnasium's car does."""
    particle, grass = wheel.skid_particle, kind == GRASS_SKID
    if kind == NO_SKID:
        wheel.skid_start = wheel.skid_particle = None
    elif particle and particle.grass == grass and len(particle.poly) < 30:
        particle.poly.append(place)
    elif wheel.skid_start is None:
        wheel.skid_start = place
    else:
        # trap: Gymnasium's `skid_start` refers to the wheel's position, and moves with it
        wheel.skid_particle = car._create_particle(place, place, grass)
        wheel.skid_start = None
