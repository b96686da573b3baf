"""A frame of CarRacing's car in compiled loops: tyres, joints and the tiles that the car touches.

Gymnasium computes the forces on the tyres in Python and moves the car with Box2D, a solver for
any number of bodies and joints. Here are the same operations for a hull, four wheels and the four
joints between them, in the same order: tyres in float64, Box2D's part in float32. So all poses are
equal to the last bit, where the compilers do not fuse products and sums (x86-64). Nothing pushes
the car: tiles are sensors, and wheels do not collide with the hull.

Source: Gymnasium's `car_dynamics.py`, and Box2D 2.3 (b2Island, b2RevoluteJoint, b2Distance), of
which this is an altered version; their notices are below.
Trap: nothing here checks shapes. Numba keeps machine code on disk, with Gymnasium's constants of
the time when it was compiled.
"""

# Gymnasium: MIT License, Copyright (c) 2016 OpenAI, Copyright (c) 2022 Farama Foundation
#
# Box2D: Copyright (c) 2006-2013 Erin Catto http://www.box2d.org
# This software is provided 'as-is', without any express or implied warranty. In no event will the
# authors be held liable for any damages arising from the use of this software. Permission is
# granted to anyone to use this software for any purpose, including commercial applications, and to
# alter it and redistribute it freely, subject to the following restrictions:
# 1. The origin of this software must not be misrepresented; you must not claim that you wrote the
#    original software. If you use this software in a product, an acknowledgment in the product
#    documentation would be appreciated but is not required.
# 2. Altered source versions must be plainly marked as such, and must not be misrepresented as being
#    the original software.
# 3. This notice may not be removed or altered from any source distribution.

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np
from gymnasium.envs.box2d import car_dynamics as official
from gymnasium.envs.box2d.car_racing import FPS

X, Y, ANGLE, VX, VY, SPIN, PX, PY, SINE, COSINE, REST = range(11)
"""Columns of `bodies`: centre of mass, angle, their velocities, origin, the angle's sine and
cosine, seconds at rest."""
COLUMNS = 11
INVERSE_MASS, INVERSE_INERTIA, CENTER_X, CENTER_Y = range(4)
"""Columns of `masses`; the centre of mass in the body's frame."""
OMEGA, PHASE, GAS, BRAKE, STEER, RADIUS = range(6)
"""Columns of `wheels`."""
IMPULSE_X, IMPULSE_Y, IMPULSE_Z, MOTOR, AT_LIMIT, SPEED = range(6)
"""Columns of `joints`: impulses of the frame before, -1 or 1 at an angle's limit, motor speed."""
K11, K12, K13, K22, K23, K33, MOTOR_MASS = range(7)
"""Columns of `matrices`: a joint's symmetric matrix, and the inverse of its last number."""
A_X, A_Y, B_X, B_Y = range(4)
"""Columns of `arms` and `anchors`: from the centres of the hull and of the wheel to the joint."""
PUSH_X, PUSH_Y, PUSH_MOTOR, HULL_BEFORE, WHEEL_BEFORE, HULL_AFTER, WHEEL_AFTER = range(7)
"""Columns of a tape: impulses on place and motor, spins before and after the motor's."""
NO_SKID, ROAD_SKID, GRASS_SKID = range(3)

F = np.float32
DT = 1.0 / FPS
H = F(DT)
DT_RATIO = F(F(1) / H * H)  # Box2D scales old impulses by the ratio of the time steps
VELOCITY_ITERATIONS, POSITION_ITERATIONS = 6 * 30, 2 * 30
LINEAR_SLOP, ANGULAR_SLOP = F(0.005), F(F(F(2) / F(180)) * F(math.pi))
MAX_CORRECTION = F(F(F(8) / F(180)) * F(math.pi))  # of a joint in an iteration for positions
MAX_TRANSLATION, MAX_ROTATION = F(2), F(F(0.5) * F(math.pi))  # of a body in a frame
RADII, EPSILON = F(F(2) * F(F(2) * LINEAR_SLOP)), F(1.1920929e-07)
NEAR = F(F(10) * EPSILON)
MARGIN = F(0.1)  # more than shapes that touch can be apart
SLEEP_SECONDS, SLEEP_SPEED, SLEEP_SPIN = F(0.5), F(0.01), ANGULAR_SLOP
ZERO, ONE = F(0), F(1)

FRICTION = official.FRICTION_LIMIT
GRASS_LIMIT, ROAD_LIMIT = FRICTION * 0.6, FRICTION * 1.0
STIFFNESS = 205000 * official.SIZE * official.SIZE
BRAKE_FORCE = 15.0  # radians per second
POWER, INERTIA = official.ENGINE_POWER, official.WHEEL_MOMENT_OF_INERTIA

# no fastmath: it would reorder sums
compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


@compiled
@no_type_check
def advance(
    bodies, masses, wheels, joints, anchors, limits, parts, tiles, touching, visited, road, skids
):
    """Moves the car by a frame.

    Args:
        bodies: float32 (5, 11), the hull and the wheels; changed.
        masses: float32 (5, 4).
        wheels: float64 (4, 6); changed.
        joints: float32 (4, 6); changed.
        anchors: float32 (4, 4): a joint's place seen from the centres of the hull and of the wheel.
        limits: float32 (3,): the joints' least and greatest angle, and the motors' largest torque.
        parts: (body, corners, number of corners) of the shapes: int64 (P,), float32 (P, 8, 2) in
            the body's frame, int64 (P,).
        tiles: (corners, number of corners, least and greatest coordinates): float32 (T, 4, 2),
            int64 (T,), float32 (T, 2, 2).
        touching: bool (5, T), whether a body touches a tile; changed.
        visited: bool (T,), whether a wheel has touched it; changed.
        road: (colours, rows, colour): of the road's polygons (n, 3), the tiles' rows int64 (T,),
            and the colour of tiles that the car has touched.
        skids: float64 (4, 3): kind of skid, x and y of each wheel before the frame; filled.

    Returns:
        How many tiles wheels have touched for the first time.
    """
    forces = np.empty((4, 2), np.float32)
    for wheel in range(4):
        _drive(bodies, wheels, joints, touching, forces, skids, wheel)
    new = _touch(bodies, parts, tiles, touching, visited, road)
    for wheel in range(4):
        inverse = masses[wheel + 1, INVERSE_MASS]
        bodies[wheel + 1, VX] += H * (ZERO + inverse * forces[wheel, 0])
        bodies[wheel + 1, VY] += H * (ZERO + inverse * forces[wheel, 1])
    _solve(bodies, masses, joints, anchors, limits)
    return new


@compiled
@no_type_check
def place(bodies, masses, body):
    """Sets a body's origin, sine and cosine by its centre and angle."""
    angle = bodies[body, ANGLE]
    sine, cosine = math.sin(angle), math.cos(angle)
    x, y = masses[body, CENTER_X], masses[body, CENTER_Y]
    bodies[body, SINE], bodies[body, COSINE] = sine, cosine
    bodies[body, PX] = bodies[body, X] - (cosine * x - sine * y)
    bodies[body, PY] = bodies[body, Y] - (sine * x + cosine * y)


@compiled
@no_type_check
def shown(numbers, bodies, wheels):
    """Fills the numbers that the picture shows (26,).

    Of the hull: place, angle, speed, steering angle, spin; of each wheel: place, angle, omega,
    phase.
    """
    for body in range(5):
        first = 0 if body == 0 else 6 + 5 * (body - 1)
        numbers[first], numbers[first + 1] = bodies[body, PX], bodies[body, PY]
        numbers[first + 2] = bodies[body, ANGLE]
        if body:
            numbers[first + 3] = wheels[body - 1, OMEGA]
            numbers[first + 4] = wheels[body - 1, PHASE]
    v_x, v_y = np.float64(bodies[0, VX]), np.float64(bodies[0, VY])
    numbers[3], numbers[4] = math.hypot(v_x, v_y), bodies[1, ANGLE] - bodies[0, ANGLE]
    numbers[5] = bodies[0, SPIN]


@compiled
@no_type_check
def _drive(bodies, wheels, joints, touching, forces, skids, wheel):
    """Steers and drives a wheel; the friction of the ground limits the force on it."""
    body = wheel + 1
    angle = np.float64(bodies[body, ANGLE] - bodies[0, ANGLE])
    turn = 50.0 * (wheels[wheel, STEER] - angle)
    joints[wheel, SPEED] = np.float32(min(max(turn, -3.0), 3.0))

    omega, brake = wheels[wheel, OMEGA], wheels[wheel, BRAKE]
    omega += DT * POWER * wheels[wheel, GAS] / INERTIA / (abs(omega) + 5.0)
    if brake >= 0.9:
        omega = 0.0
    elif brake > 0.0:
        omega += math.copysign(min(BRAKE_FORCE * brake, abs(omega)), -omega)
    wheels[wheel, PHASE] += omega * DT

    x, y = np.float64(bodies[body, COSINE]), np.float64(bodies[body, SINE])  # forwards is (-y, x)
    v_x, v_y = np.float64(bodies[body, VX]), np.float64(bodies[body, VY])
    radius, on_road = wheels[wheel, RADIUS], touching[body].any()
    forward = (-(-y * v_x + x * v_y) + omega * radius) * STIFFNESS
    across = -(x * v_x + y * v_y) * STIFFNESS
    force = math.sqrt(forward * forward + across * across)
    limit = ROAD_LIMIT if on_road else GRASS_LIMIT
    skids[wheel, 0] = NO_SKID
    if force > 2.0 * limit:
        skids[wheel, 0] = ROAD_SKID if on_road else GRASS_SKID
    skids[wheel, 1], skids[wheel, 2] = bodies[body, PX], bodies[body, PY]
    if force > limit:
        forward, across = forward / force * limit, across / force * limit
    wheels[wheel, OMEGA] = omega - DT * forward * radius / INERTIA
    forces[wheel, 0] = np.float32(across * x + forward * -y)
    forces[wheel, 1] = np.float32(across * y + forward * x)


@compiled
@no_type_check
def _touch(bodies, parts, tiles, touching, visited, road):
    """Finds the tiles that the car touches; returns how many wheels touch for the first time."""
    owners, shapes, counts = parts
    corners, numbers, boxes = tiles
    colors, rows, color = road
    touching[:] = False
    new, seen = 0, np.empty((len(owners), 8, 2), np.float32)
    sizes, around = np.empty((len(owners), 2, 2), np.float32), np.empty((2, 2), np.float32)
    simplex, indices = np.empty((3, 7), np.float32), np.empty((3, 2), np.int64)
    around[0], around[1] = np.inf, -np.inf
    for part in range(len(owners)):
        body, count = owners[part], counts[part]
        sine, cosine = bodies[body, SINE], bodies[body, COSINE]
        for i in range(count):
            x, y = shapes[part, i, 0], shapes[part, i, 1]
            seen[part, i, 0] = (cosine * x - sine * y) + bodies[body, PX]
            seen[part, i, 1] = (sine * x + cosine * y) + bodies[body, PY]
        for k in range(2):
            sizes[part, 0, k] = seen[part, :count, k].min() - MARGIN
            sizes[part, 1, k] = seen[part, :count, k].max() + MARGIN
            around[0, k] = min(around[0, k], sizes[part, 0, k])
            around[1, k] = max(around[1, k], sizes[part, 1, k])
    for tile in range(len(corners)):
        if not _overlaps(boxes[tile], around):
            continue
        for part in range(len(owners)):
            body, count = owners[part], counts[part]
            if not _overlaps(boxes[tile], sizes[part]):
                continue
            shape, turn = shapes[part, :count], (bodies[body, SINE], bodies[body, COSINE])
            if _touches(corners[tile, : numbers[tile]], shape, seen[part], turn, simplex, indices):
                touching[body, tile] = True
                for k in range(3):
                    colors[rows[tile], k] = color[k]
                if body and not visited[tile]:
                    visited[tile] = True
                    new += 1
    return new


@compiled
@no_type_check
def _overlaps(first, second):
    """Whether two boxes, each of least and greatest coordinates (2, 2), overlap."""
    left, right = first[1, 0] >= second[0, 0], first[0, 0] <= second[1, 0]
    low, high = first[1, 1] >= second[0, 1], first[0, 1] <= second[1, 1]
    return left and right and low and high


@compiled
@no_type_check
def _touches(tile, shape, seen, turn, simplex, indices):
    """Box2D's overlap of a tile and a shape: GJK's distance is at most the sum of their radii.

    Args:
        tile: its corners.
        shape: corners in the frame of its body.
        seen: the same corners in the world.
        turn: sine and cosine of the body.
        simplex, indices: memory, float32 (3, 7) and int64 (3, 2): a row has a corner of the tile,
            one of the shape, their difference, and its weight; and the corners' indices.
    """
    sine, cosine = turn
    count = 1
    _add(simplex, indices, 0, tile, seen, 0, 0)
    simplex[0, 6] = ONE
    for _ in range(20):
        saved = count
        old = indices.copy()
        if count == 2:
            count = _closest_of_two(simplex, indices)
        elif count == 3:
            count = _closest_of_three(simplex, indices)
        if count == 3:
            break
        if count == 1:
            d_x, d_y = -simplex[0, 4], -simplex[0, 5]
        else:
            e_x, e_y = simplex[1, 4] - simplex[0, 4], simplex[1, 5] - simplex[0, 5]
            left = e_x * -simplex[0, 5] - e_y * -simplex[0, 4] > ZERO
            d_x, d_y = (-e_y, e_x) if left else (e_y, -e_x)
        if d_x * d_x + d_y * d_y < EPSILON * EPSILON:
            break
        first = _support(tile, -d_x, -d_y)
        second = _support(shape, cosine * d_x + sine * d_y, -sine * d_x + cosine * d_y)
        _add(simplex, indices, count, tile, seen, first, second)
        known = False
        for i in range(saved):
            known |= old[i, 0] == first and old[i, 1] == second
        if known:
            break
        count += 1
    if count == 3:
        return True
    if count == 1:
        x, y = simplex[0, 0] - simplex[0, 2], simplex[0, 1] - simplex[0, 3]
    else:
        a, b = simplex[0, 6], simplex[1, 6]
        x = (a * simplex[0, 0] + b * simplex[1, 0]) - (a * simplex[0, 2] + b * simplex[1, 2])
        y = (a * simplex[0, 1] + b * simplex[1, 1]) - (a * simplex[0, 3] + b * simplex[1, 3])
    distance = math.sqrt(x * x + y * y)
    return distance - RADII < NEAR


@compiled
@no_type_check
def _support(corners, x, y):
    """The corner farthest in a direction."""
    best, most = 0, corners[0, 0] * x + corners[0, 1] * y
    for i in range(1, len(corners)):
        value = corners[i, 0] * x + corners[i, 1] * y
        if value > most:
            best, most = i, value
    return best


@compiled
@no_type_check
def _add(simplex, indices, place, tile, seen, first, second):
    """Fills a row of the simplex: a corner of each shape, their difference, and a weight."""
    indices[place, 0], indices[place, 1] = first, second
    for k in range(2):
        simplex[place, k], simplex[place, 2 + k] = tile[first, k], seen[second, k]
        simplex[place, 4 + k] = seen[second, k] - tile[first, k]


@compiled
@no_type_check
def _move(simplex, indices, place, source):
    """Copies a row of the simplex."""
    simplex[place] = simplex[source]
    indices[place] = indices[source]


@compiled
@no_type_check
def _closest_of_two(simplex, indices):
    """Reduces a segment to the part closest to the origin; returns its number of points."""
    x, y = simplex[0, 4], simplex[0, 5]
    u, v = simplex[1, 4], simplex[1, 5]
    e_x, e_y = u - x, v - y
    second = -(x * e_x + y * e_y)
    if second <= ZERO:
        simplex[0, 6] = ONE
        return 1
    first = u * e_x + v * e_y
    if first <= ZERO:
        simplex[1, 6] = ONE
        _move(simplex, indices, 0, 1)
        return 1
    inverse = ONE / (first + second)
    simplex[0, 6], simplex[1, 6] = first * inverse, second * inverse
    return 2


@compiled
@no_type_check
def _closest_of_three(simplex, indices):
    """Reduces a triangle to the part closest to the origin; returns its number of points."""
    x1, y1 = simplex[0, 4], simplex[0, 5]
    x2, y2 = simplex[1, 4], simplex[1, 5]
    x3, y3 = simplex[2, 4], simplex[2, 5]
    ex, ey, fx, fy, gx, gy = x2 - x1, y2 - y1, x3 - x1, y3 - y1, x3 - x2, y3 - y2
    d12_1, d12_2 = x2 * ex + y2 * ey, -(x1 * ex + y1 * ey)
    d13_1, d13_2 = x3 * fx + y3 * fy, -(x1 * fx + y1 * fy)
    d23_1, d23_2 = x3 * gx + y3 * gy, -(x2 * gx + y2 * gy)
    area = ex * fy - ey * fx
    d123_1 = area * (x2 * y3 - y2 * x3)
    d123_2 = area * (x3 * y1 - y3 * x1)
    d123_3 = area * (x1 * y2 - y1 * x2)
    if d12_2 <= ZERO and d13_2 <= ZERO:
        simplex[0, 6] = ONE
        return 1
    if d12_1 > ZERO and d12_2 > ZERO and d123_3 <= ZERO:
        inverse = ONE / (d12_1 + d12_2)
        simplex[0, 6], simplex[1, 6] = d12_1 * inverse, d12_2 * inverse
        return 2
    if d13_1 > ZERO and d13_2 > ZERO and d123_2 <= ZERO:
        inverse = ONE / (d13_1 + d13_2)
        simplex[0, 6], simplex[2, 6] = d13_1 * inverse, d13_2 * inverse
        _move(simplex, indices, 1, 2)
        return 2
    if d12_1 <= ZERO and d23_2 <= ZERO:
        simplex[1, 6] = ONE
        _move(simplex, indices, 0, 1)
        return 1
    if d13_1 <= ZERO and d23_1 <= ZERO:
        simplex[2, 6] = ONE
        _move(simplex, indices, 0, 2)
        return 1
    if d23_1 > ZERO and d23_2 > ZERO and d123_1 <= ZERO:
        inverse = ONE / (d23_1 + d23_2)
        simplex[1, 6], simplex[2, 6] = d23_1 * inverse, d23_2 * inverse
        _move(simplex, indices, 0, 2)
        return 2
    return 3


@compiled
@no_type_check
def _solve(bodies, masses, joints, anchors, limits):
    """Box2D's island: velocities that fit the joints, a step of positions, and their repair."""
    arms, matrices = np.empty((4, 4), np.float32), np.empty((4, 7), np.float32)
    for joint in range(3, -1, -1):  # the order in which Box2D finds them
        _begin_joint(bodies, masses, joints, anchors, limits, arms, matrices, joint)
    _correct_velocities(bodies, masses, joints, limits, arms, matrices)
    for body in range(5):
        d_x, d_y = H * bodies[body, VX], H * bodies[body, VY]
        square = d_x * d_x + d_y * d_y
        if square > MAX_TRANSLATION * MAX_TRANSLATION:
            ratio = MAX_TRANSLATION / math.sqrt(square)
            bodies[body, VX] *= ratio
            bodies[body, VY] *= ratio
        turn = H * bodies[body, SPIN]
        if turn * turn > MAX_ROTATION * MAX_ROTATION:
            bodies[body, SPIN] *= MAX_ROTATION / abs(turn)
        bodies[body, X] += H * bodies[body, VX]
        bodies[body, Y] += H * bodies[body, VY]
        bodies[body, ANGLE] += H * bodies[body, SPIN]
    solved = False
    for _ in range(POSITION_ITERATIONS):
        solved = True
        for joint in range(3, -1, -1):
            solved &= _correct_position(bodies, masses, joints, anchors, limits, matrices, joint)
        if solved:
            break
    for body in range(5):
        place(bodies, masses, body)
    _sleep(bodies, solved)


@compiled
@no_type_check
def _begin_joint(bodies, masses, joints, anchors, limits, arms, matrices, joint):
    """A joint's arms and matrix; applies the impulses of the frame before."""
    wheel = joint + 1
    for k, body in enumerate((0, wheel)):
        angle, x, y = bodies[body, ANGLE], anchors[joint, 2 * k], anchors[joint, 2 * k + 1]
        sine, cosine = math.sin(angle), math.cos(angle)
        arms[joint, 2 * k] = cosine * x - sine * y
        arms[joint, 2 * k + 1] = sine * x + cosine * y
    a_x, a_y, b_x, b_y = arms[joint, A_X], arms[joint, A_Y], arms[joint, B_X], arms[joint, B_Y]
    m_a, m_b = masses[0, INVERSE_MASS], masses[wheel, INVERSE_MASS]
    i_a, i_b = masses[0, INVERSE_INERTIA], masses[wheel, INVERSE_INERTIA]
    matrices[joint, K11] = m_a + m_b + a_y * a_y * i_a + b_y * b_y * i_b
    matrices[joint, K12] = -a_y * a_x * i_a - b_y * b_x * i_b
    matrices[joint, K13] = -a_y * i_a - b_y * i_b
    matrices[joint, K22] = m_a + m_b + a_x * a_x * i_a + b_x * b_x * i_b
    matrices[joint, K23] = a_x * i_a + b_x * i_b
    matrices[joint, K33] = i_a + i_b
    matrices[joint, MOTOR_MASS] = ONE / (i_a + i_b)
    angle = bodies[wheel, ANGLE] - bodies[0, ANGLE]
    side = -ONE if angle <= limits[0] else ONE if angle >= limits[1] else ZERO
    if side == ZERO or side != joints[joint, AT_LIMIT]:
        joints[joint, IMPULSE_Z] = ZERO
    joints[joint, AT_LIMIT] = side
    for k in (IMPULSE_X, IMPULSE_Y, IMPULSE_Z, MOTOR):
        joints[joint, k] *= DT_RATIO
    x, y, z = joints[joint, IMPULSE_X], joints[joint, IMPULSE_Y], joints[joint, IMPULSE_Z]
    motor = joints[joint, MOTOR]
    bodies[0, VX] -= m_a * x
    bodies[0, VY] -= m_a * y
    bodies[0, SPIN] -= i_a * ((a_x * y - a_y * x) + motor + z)
    bodies[wheel, VX] += m_b * x
    bodies[wheel, VY] += m_b * y
    bodies[wheel, SPIN] += i_b * ((b_x * y - b_y * x) + motor + z)


@compiled
@no_type_check
def _correct_velocities(bodies, masses, joints, limits, arms, matrices):
    """All iterations for velocities.

    After about five of them the velocities alternate between two states, to the bit, and only the
    sums of impulses change. Then `_repeat` adds to these, as long as the motors, whose impulses are
    clamped, would leave the velocities as they are.
    """
    unlimited = True  # at a limit an impulse depends on those before
    for joint in range(4):
        unlimited &= joints[joint, AT_LIMIT] == ZERO
    velocities = np.empty((2, 5, 3), np.float32)
    tape, motors = np.empty((2, 4, 7), np.float32), np.empty(4, np.float32)
    repeats = False
    for iteration in range(VELOCITY_ITERATIONS):
        now = iteration % 2
        if repeats:
            repeats = _repeat(masses, joints, limits, tape[now], motors)
            if repeats:
                continue
            for body in range(5):  # as they were after the iteration before
                for k in range(3):
                    bodies[body, VX + k] = velocities[1 - now, body, k]
        changed = False
        for joint in range(3, -1, -1):
            row = tape[now, joint]
            changed |= _correct_velocity(bodies, masses, joints, limits, arms, matrices, joint, row)
        if not changed:  # nor would all further iterations
            return
        repeats = unlimited and iteration > 1
        for body in range(5):
            for k in range(3):
                repeats &= velocities[now, body, k] == bodies[body, VX + k]
                velocities[now, body, k] = bodies[body, VX + k]
    if repeats:
        for body in range(5):
            for k in range(3):
                bodies[body, VX + k] = velocities[(VELOCITY_ITERATIONS - 1) % 2, body, k]


@compiled
@no_type_check
def _repeat(masses, joints, limits, tape, motors):
    """Adds the impulses of a recorded iteration to their sums, if it would be the same again.

    It is, if the motors change spins as they did: only their impulses depend on their sums.
    Returns whether it is; if not, nothing is added.
    """
    most = H * limits[2]
    for joint in range(4):
        old = joints[joint, MOTOR]
        motor = max(-most, min(old + tape[joint, PUSH_MOTOR], most))
        push, motors[joint] = motor - old, motor
        w_a = tape[joint, HULL_BEFORE] - masses[0, INVERSE_INERTIA] * push
        w_b = tape[joint, WHEEL_BEFORE] + masses[joint + 1, INVERSE_INERTIA] * push
        if w_a != tape[joint, HULL_AFTER] or w_b != tape[joint, WHEEL_AFTER]:
            return False
    for joint in range(4):
        joints[joint, IMPULSE_X] += tape[joint, PUSH_X]
        joints[joint, IMPULSE_Y] += tape[joint, PUSH_Y]
        joints[joint, MOTOR] = motors[joint]
    return True


@compiled
@no_type_check
def _correct_velocity(bodies, masses, joints, limits, arms, matrices, joint, tape):
    """An iteration for a joint's motor, limit and place; returns whether a number has changed.

    Fills a row of the tape: impulses on place and motor, angular velocities before and after the
    motor's.
    """
    wheel = joint + 1
    m_a, m_b = masses[0, INVERSE_MASS], masses[wheel, INVERSE_MASS]
    i_a, i_b = masses[0, INVERSE_INERTIA], masses[wheel, INVERSE_INERTIA]
    a_x, a_y, b_x, b_y = arms[joint, A_X], arms[joint, A_Y], arms[joint, B_X], arms[joint, B_Y]
    k11, k12, k13 = matrices[joint, K11], matrices[joint, K12], matrices[joint, K13]
    k22, k23, k33 = matrices[joint, K22], matrices[joint, K23], matrices[joint, K33]
    v_ax, v_ay, w_a = bodies[0, VX], bodies[0, VY], bodies[0, SPIN]
    v_bx, v_by, w_b = bodies[wheel, VX], bodies[wheel, VY], bodies[wheel, SPIN]
    x, y, z = joints[joint, IMPULSE_X], joints[joint, IMPULSE_Y], joints[joint, IMPULSE_Z]

    old = joints[joint, MOTOR]
    most = H * limits[2]
    impulse = -matrices[joint, MOTOR_MASS] * (w_b - w_a - joints[joint, SPEED])
    tape[PUSH_MOTOR], tape[HULL_BEFORE], tape[WHEEL_BEFORE] = impulse, w_a, w_b
    motor = max(-most, min(old + impulse, most))
    push = motor - old
    w_a -= i_a * push
    w_b += i_b * push
    tape[HULL_AFTER], tape[WHEEL_AFTER] = w_a, w_b

    c_x = v_bx + -w_b * b_y - v_ax - -w_a * a_y
    c_y = v_by + w_b * b_x - v_ay - w_a * a_x
    new_x, new_y, new_z, p_z = x, y, z, ZERO
    side = joints[joint, AT_LIMIT]
    if side == ZERO:
        p_x, p_y = _solve_two(k11, k12, k22, -c_x, -c_y)
        new_x, new_y = x + p_x, y + p_y
        tape[PUSH_X], tape[PUSH_Y] = p_x, p_y
        w_a -= i_a * (a_x * p_y - a_y * p_x)
        w_b += i_b * (b_x * p_y - b_y * p_x)
    else:
        p_x, p_y, p_z = _solve_three(k11, k12, k13, k22, k23, k33, c_x, c_y, w_b - w_a)
        p_x, p_y, p_z = -p_x, -p_y, -p_z
        total = z + p_z
        if (side < ZERO and total < ZERO) or (side > ZERO and total > ZERO):
            p_x, p_y = _solve_two(k11, k12, k22, -c_x + z * k13, -c_y + z * k23)
            p_z, new_z = -z, ZERO
        else:
            new_z = total
        new_x, new_y = x + p_x, y + p_y
        w_a -= i_a * ((a_x * p_y - a_y * p_x) + p_z)
        w_b += i_b * ((b_x * p_y - b_y * p_x) + p_z)
    v_ax -= m_a * p_x
    v_ay -= m_a * p_y
    v_bx += m_b * p_x
    v_by += m_b * p_y

    changed = motor != old or new_x != x or new_y != y or new_z != z
    changed |= v_ax != bodies[0, VX] or v_ay != bodies[0, VY] or w_a != bodies[0, SPIN]
    changed |= v_bx != bodies[wheel, VX] or v_by != bodies[wheel, VY] or w_b != bodies[wheel, SPIN]
    bodies[0, VX], bodies[0, VY], bodies[0, SPIN] = v_ax, v_ay, w_a
    bodies[wheel, VX], bodies[wheel, VY], bodies[wheel, SPIN] = v_bx, v_by, w_b
    joints[joint, IMPULSE_X], joints[joint, IMPULSE_Y] = new_x, new_y
    joints[joint, IMPULSE_Z], joints[joint, MOTOR] = new_z, motor
    return changed


@compiled
@no_type_check
def _correct_position(bodies, masses, joints, anchors, limits, matrices, joint):
    """Moves hull and wheel to where the joint holds them; returns whether the error was small."""
    wheel = joint + 1
    m_a, m_b = masses[0, INVERSE_MASS], masses[wheel, INVERSE_MASS]
    i_a, i_b = masses[0, INVERSE_INERTIA], masses[wheel, INVERSE_INERTIA]
    angle_a, angle_b, error = bodies[0, ANGLE], bodies[wheel, ANGLE], ZERO
    side = joints[joint, AT_LIMIT]
    if side != ZERO:
        if side < ZERO:
            excess = angle_b - angle_a - limits[0]
            error = -excess
            excess = max(-MAX_CORRECTION, min(excess + ANGULAR_SLOP, ZERO))
        else:
            excess = angle_b - angle_a - limits[1]
            error = excess
            excess = max(ZERO, min(excess - ANGULAR_SLOP, MAX_CORRECTION))
        push = -matrices[joint, MOTOR_MASS] * excess
        angle_a -= i_a * push
        angle_b += i_b * push
    x, y, sine, cosine = (
        anchors[joint, A_X],
        anchors[joint, A_Y],
        math.sin(angle_a),
        math.cos(angle_a),
    )
    a_x, a_y = cosine * x - sine * y, sine * x + cosine * y
    x, y, sine, cosine = (
        anchors[joint, B_X],
        anchors[joint, B_Y],
        math.sin(angle_b),
        math.cos(angle_b),
    )
    b_x, b_y = cosine * x - sine * y, sine * x + cosine * y
    c_x = bodies[wheel, X] + b_x - bodies[0, X] - a_x
    c_y = bodies[wheel, Y] + b_y - bodies[0, Y] - a_y
    k11 = m_a + m_b + i_a * a_y * a_y + i_b * b_y * b_y
    k12 = -i_a * a_x * a_y - i_b * b_x * b_y
    k22 = m_a + m_b + i_a * a_x * a_x + i_b * b_x * b_x
    p_x, p_y = _solve_two(k11, k12, k22, c_x, c_y)
    p_x, p_y = -p_x, -p_y
    bodies[0, X] -= m_a * p_x
    bodies[0, Y] -= m_a * p_y
    bodies[0, ANGLE] = angle_a - i_a * (a_x * p_y - a_y * p_x)
    bodies[wheel, X] += m_b * p_x
    bodies[wheel, Y] += m_b * p_y
    bodies[wheel, ANGLE] = angle_b + i_b * (b_x * p_y - b_y * p_x)
    return math.sqrt(c_x * c_x + c_y * c_y) <= LINEAR_SLOP and error <= ANGULAR_SLOP


@compiled
@no_type_check
def _solve_two(k11, k12, k22, x, y):
    """The solution of a symmetric system of two equations."""
    inverse = k11 * k22 - k12 * k12
    if inverse != ZERO:
        inverse = ONE / inverse
    return inverse * (k22 * x - k12 * y), inverse * (k11 * y - k12 * x)


@compiled
@no_type_check
def _solve_three(k11, k12, k13, k22, k23, k33, x, y, z):
    """The solution of a symmetric system of three equations."""
    c_x, c_y, c_z = k22 * k33 - k23 * k23, k23 * k13 - k12 * k33, k12 * k23 - k22 * k13
    inverse = k11 * c_x + k12 * c_y + k13 * c_z
    if inverse != ZERO:
        inverse = ONE / inverse
    first = inverse * (x * c_x + y * c_y + z * c_z)
    c_x, c_y, c_z = y * k33 - z * k23, z * k13 - x * k33, x * k23 - y * k13
    second = inverse * (k11 * c_x + k12 * c_y + k13 * c_z)
    c_x, c_y, c_z = k22 * z - k23 * y, k23 * x - k12 * z, k12 * y - k22 * x
    third = inverse * (k11 * c_x + k12 * c_y + k13 * c_z)
    return first, second, third


@compiled
@no_type_check
def _sleep(bodies, solved):
    """Stops a car that has hardly moved for half a second."""
    least = F(np.inf)
    for body in range(5):
        v_x, v_y, spin = bodies[body, VX], bodies[body, VY], bodies[body, SPIN]
        if (
            spin * spin > SLEEP_SPIN * SLEEP_SPIN
            or v_x * v_x + v_y * v_y > SLEEP_SPEED * SLEEP_SPEED
        ):
            bodies[body, REST] = ZERO
        else:
            bodies[body, REST] += H
        least = min(least, bodies[body, REST])
    if least >= SLEEP_SECONDS and solved:
        for body in range(5):
            for column in (VX, VY, SPIN, REST):
                bodies[body, column] = ZERO
