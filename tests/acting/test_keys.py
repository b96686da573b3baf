"""Keys mean the world's own actions, and have their names."""

import numpy as np
import pytest

from worldmodels.acting.keys import Controls
from worldmodels.models.action import Actions

CAR = Actions("box", (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0), clip=(2,))
BOX = Actions("box", (-2.0, -1.0, 0.5), (2.0, 3.0, 1.0))
THIRDS = Actions("thirds", (-1.0,), (1.0,))
FIVE, THREE, TWO = (Actions("discrete", counts=(n,)) for n in (5, 3, 2))
PARTS = Actions("multi_discrete", counts=(3, 2, 2))
PADS = Actions("multi_binary", counts=(1, 1, 1))
OWN, DOOM = "tests/Own-v0", "VizdoomTakeCover-v1"


@pytest.mark.parametrize(
    ("world", "actions", "held", "expected"),
    [
        ("worldmodels/CarRacing-v3", CAR, "", [0, 0, 0]),
        ("CarRacing-v3", CAR, "left", [-1, 0, 0]),
        ("CarRacing-v3", CAR, "right up", [1, 1, 0]),
        ("CarRacing-v3", CAR, "down", [0, 0, 1]),
        ("CarRacing-v3", CAR, "left right x", [1, 0, 0]),
        ("CarRacing-v3", CAR, "right left", [-1, 0, 0]),
        ("CarRacing-v3", FIVE, "", [1, 0, 0, 0, 0]),
        ("CarRacing-v3", FIVE, "right", [0, 1, 0, 0, 0]),
        ("CarRacing-v3", FIVE, "right up", [0, 0, 0, 1, 0]),
        (DOOM, THIRDS, "left", [-1]),
        (DOOM, THIRDS, "up", [0]),
        (DOOM, THREE, "left", [0, 0, 1]),
        ("MountainCar-v0", THREE, "", [0, 1, 0]),
        ("CartPole-v1", TWO, "right", [0, 1]),
        (OWN, BOX, "", [0, 0, 0.5]),
        (OWN, BOX, "right down", [2, -1, 0.5]),
        (OWN, BOX, "left up 0", [-2, 3, 1]),
        (OWN, FIVE, "", [1, 0, 0, 0, 0]),
        (OWN, FIVE, "4", [0, 0, 0, 0, 1]),
        (OWN, PARTS, "", [1, 0, 0, 1, 0, 1, 0]),
        (OWN, PARTS, "1 3", [0, 0, 1, 1, 0, 0, 1]),
        (OWN, PADS, "2 0", [1, 0, 1]),
    ],
)
def test_keys_mean_actions(world, actions, held, expected):
    controls = Controls(world, actions)
    action = controls.action(held.split())
    assert action.tolist() == expected
    assert actions.space.contains(action)
    last = {controls.keys[key].part: key for key in held.split() if key in controls.keys}
    assert set(last.values()) <= controls.lit(action)


@pytest.mark.parametrize(
    ("world", "actions", "names"),
    [
        ("CarRacing-v3", CAR, ["steer left", "steer right", "gas", "brake"]),
        ("CarRacing-v3", FIVE, ["steer left", "steer right", "gas", "brake"]),
        (DOOM, THIRDS, ["left", "right"]),
        ("LunarLander-v3", Actions("box", (-1.0, -1.0), (1.0, 1.0)), None),
        (OWN, TWO, ["action 0", "action 1"]),
        (OWN, PARTS, ["part 0: 1", "part 0: 2", "part 1: 1", "part 2: 1"]),
    ],
)
def test_keys_have_the_names_of_the_worlds_actions(world, actions, names):
    names = names or ["part 0 -", "part 0 +", "part 1 +", "part 1 -"]
    assert [key.name for key in Controls(world, actions).keys.values()] == names


@pytest.mark.parametrize(
    ("world", "actions", "action", "lit"),
    [
        ("CarRacing-v3", CAR, [-0.6, 0.05, 0.2], {"left", "down"}),
        (DOOM, THIRDS, [0.3], set()),
        (DOOM, THIRDS, [0.4], {"right"}),
        (OWN, FIVE, [0, 0, 1, 0, 0], {"2"}),
        (OWN, BOX, [0, 3, 0.5], {"up"}),
    ],
)
def test_what_the_agent_does_lights_its_keys(world, actions, action, lit):
    assert Controls(world, actions).lit(np.array(action, np.float32)) == lit
