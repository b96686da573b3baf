"""CarRacing's car, moved by the same arithmetic on Python floats, in half of the time.

Gymnasium computes with NumPy scalars: an operation takes a microsecond, twenty times as long as one
on floats. All operations are kept, in their order, so positions are equal to the last bit.
"""

import math
from typing import Any

from gymnasium.envs.box2d import car_dynamics as official

GRASS_LIMIT = official.FRICTION_LIMIT * 0.6
ROAD_LIMIT = official.FRICTION_LIMIT * 1.0
STIFFNESS = 205000 * official.SIZE * official.SIZE
BRAKE_FORCE = 15  # radians per second
INERTIA = official.WHEEL_MOMENT_OF_INERTIA


class Car(official.Car):
    """Gymnasium's car with a faster `gas` and `step`."""

    def gas(self, gas: float) -> None:
        gas = min(max(float(gas), 0.0), 1.0)
        for wheel in self.wheels[2:4]:
            wheel.gas += min(gas - wheel.gas, 0.1)

    def step(self, dt: float) -> None:
        for wheel in self.wheels:
            _steer(wheel)
            self._drive(wheel, dt)
            self._push(wheel, dt)

    def _drive(self, wheel: Any, dt: float) -> None:
        """Applies engine and brake to a wheel."""
        power = dt * official.ENGINE_POWER * wheel.gas
        omega = wheel.omega + power / INERTIA / (abs(wheel.omega) + 5.0)
        self.fuel_spent += power
        if wheel.brake >= 0.9:
            omega = 0.0
        elif wheel.brake > 0:
            omega += math.copysign(min(BRAKE_FORCE * wheel.brake, abs(omega)), -omega)
        wheel.omega = omega
        wheel.phase += omega * dt

    def _push(self, wheel: Any, dt: float) -> None:
        """Applies the ground's force on the tyre, limited by friction."""
        side = wheel.GetWorldVector((1, 0))
        x, y = side.x, side.y  # forwards is (-y, x)
        velocity = wheel.linearVelocity
        v_x, v_y = velocity.x, velocity.y
        forward = (-(-y * v_x + x * v_y) + wheel.omega * wheel.wheel_rad) * STIFFNESS
        across = -(x * v_x + y * v_y) * STIFFNESS
        force = math.sqrt(forward * forward + across * across)
        limit = ROAD_LIMIT if wheel.tiles else GRASS_LIMIT
        if force > 2.0 * limit:
            self._skid(wheel, grass=not wheel.tiles)
        else:
            wheel.skid_start = wheel.skid_particle = None
        if force > limit:
            forward, across = forward / force * limit, across / force * limit
        wheel.omega -= dt * forward * wheel.wheel_rad / INERTIA
        wheel.ApplyForceToCenter((across * x + forward * -y, across * y + forward * x), True)

    def _skid(self, wheel: Any, *, grass: bool) -> None:
        """Records the skid mark that `render` shows."""
        particle = wheel.skid_particle
        if particle and particle.grass == grass and len(particle.poly) < 30:
            particle.poly.append((wheel.position[0], wheel.position[1]))
        elif wheel.skid_start is None:
            wheel.skid_start = wheel.position
        else:
            start, wheel.skid_start = wheel.skid_start, None
            particle = self._create_particle(start, wheel.position, grass)  # type: ignore[no-untyped-call]
            wheel.skid_particle = particle


def _steer(wheel: Any) -> None:
    joint = wheel.joint
    error = wheel.steer - joint.angle
    joint.motorSpeed = math.copysign(min(50.0 * abs(error), 3.0), error)
