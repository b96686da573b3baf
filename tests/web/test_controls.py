"""Every kind of action has buttons, with the names and keys of `worldmodels play`."""

import numpy as np
import pytest

from worldmodels.models.action import Actions
from worldmodels.web.controls import pads_of
from worldmodels.world import EnvConfig, RawPicture, World


def pads(id_, actions):
    config = EnvConfig(id=id_, reward="constant")
    return pads_of(World(config, actions.to_dict(), 50.0, {}, RawPicture((64, 64, 3))))


def test_take_cover():
    found, rest = pads("VizdoomTakeCover-v1", Actions("discrete", counts=(3,)))
    assert [(one.label, one.key) for one in found] == [
        ("left", "ArrowLeft"),
        ("right", "ArrowRight"),
    ]
    assert [one.values for one in found] == [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0)]
    assert rest == [1.0, 0.0, 0.0]


def test_car_racing():
    bounds = (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    found, rest = pads("worldmodels/CarRacing-v3", Actions("box", *bounds, (2,)))
    assert [one.label for one in found] == ["steer left", "steer right", "gas", "brake"]
    assert [one.key for one in found] == ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]
    assert [(one.start, *one.values) for one in found] == [(0, -1.0), (0, 1.0), (1, 1.0), (2, 1.0)]
    assert rest == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("actions", "count"),
    [
        (Actions("box", (1.0, -2.0), (3.0, 2.0)), 3),
        (Actions("thirds", (-1.0,), (1.0,)), 2),
        (Actions("discrete", counts=(5,)), 5),
        (Actions("multi_discrete", counts=(3, 2)), 3),
        (Actions("multi_binary", counts=(1, 1)), 2),
    ],
)
def test_any_world_has_its_buttons(actions, count):
    found, rest = pads("Unknown-v0", actions)
    assert len(found) == count
    keys = [one.key for one in found]
    assert len(set(keys)) == len(keys)
    assert not set("aprsw") & set(keys)  # the page's own
    pressed = set()
    for one in found:
        action = list(rest)
        action[one.start : one.start + len(one.values)] = one.values
        assert len(action) == actions.size
        assert actions.space.contains(np.array(action, np.float32))
        pressed.add(tuple(action))
    assert len(pressed) == count
