"""Every kind of action can be pressed, by names and keys that a person expects."""

import numpy as np
import pytest

from worldmodels.models.action import Actions
from worldmodels.web.controls import controls_of
from worldmodels.world import EnvConfig, RawPicture, World


def controls(id_, actions):
    config = EnvConfig(id=id_, reward="constant")
    return controls_of(World(config, actions.to_dict(), 50.0, {}, RawPicture((64, 64, 3))))


def test_take_cover():
    found, rest, added = controls("VizdoomTakeCover-v1", Actions("discrete", counts=(3,)))
    assert [(one.label, one.key) for one in found] == [
        ("left", "ArrowLeft"),
        ("right", "ArrowRight"),
    ]
    assert [one.values for one in found] == [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0)]
    assert (rest, added) == ([1.0, 0.0, 0.0], False)


@pytest.mark.parametrize("id_", ["CarRacing-v3", "worldmodels/CarRacing-v3"])
def test_car_racing(id_):
    bounds = (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    found, rest, added = controls(id_, Actions("box", *bounds, (2,)))
    keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]
    assert [one.label for one in found] == ["left", "right", "gas", "brake"]
    assert [one.key for one in found] == keys
    assert [(one.start, one.values) for one in found] == [
        *((0, (-1.0,)), (0, (1.0,)), (1, (1.0,)), (2, (1.0,)))
    ]
    assert (rest, added) == ([0.0, 0.0, 0.0], True)


@pytest.mark.parametrize(
    ("actions", "count"),
    [
        (Actions("box", (1.0, -2.0), (3.0, 2.0)), 3),
        (Actions("thirds", (-1.0,), (1.0,)), 2),
        (Actions("discrete", counts=(40,)), 40),
        (Actions("multi_discrete", counts=(3, 2)), 5),
        (Actions("multi_binary", counts=(1, 1)), 2),
    ],
)
def test_any_world_has_a_key_for_each_action(actions, count):
    found, rest, added = controls("Unknown-v0", actions)
    assert len(found) == count
    assert len(rest) == actions.size
    keys = [one.key for one in found if one.key]
    assert len(set(keys)) == len(keys) == min(count, 30)
    assert not set("aprsw") & set(keys)  # the page's own
    for one in found:
        action = list(rest)
        for place, value in enumerate(one.values, one.start):
            action[place] = action[place] + value if added else value
        assert actions.space.contains(np.array(action, np.float32))
