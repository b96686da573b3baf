"""Actions of every kind of space: from the controller to the environment and back."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from worldmodels.errors import InputError
from worldmodels.models.action import Actions

CAR = Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))
SPACES = {
    "car": (CAR, "auto", (2,), 3),
    "box": (Box(-2.0, 6.0, (2,)), "auto", (), 2),
    "thirds": (Discrete(3), "thirds", (), 1),
    "discrete": (Discrete(5), "auto", (), 5),
    "multi_discrete": (MultiDiscrete([2, 3]), "auto", (), 5),
    "multi_binary": (MultiBinary(4), "auto", (), 4),
}


@pytest.fixture(params=SPACES)
def case(request):
    space, mode, clip, size = SPACES[request.param]
    return space, Actions.of_space(space, mode, clip), size


def test_every_kind_reaches_its_environment(case):
    space, actions, size = case
    assert actions.size == size
    u = 3 * torch.randn(50, size, generator=torch.Generator().manual_seed(0))
    a = actions.bound(u)
    assert a.shape == u.shape
    own = actions.to_environment(a.numpy())
    for row, mine in zip(a.numpy(), own, strict=True):
        assert row in actions.space
        assert mine in space


def test_what_bound_gives_is_canonical(case):
    _, actions, size = case
    a = actions.bound(torch.randn(20, size))
    torch.testing.assert_close(actions.canonical(a), a)


def test_own_actions_survive_the_way_to_a_and_back(case):
    space, actions, _ = case
    space.seed(1)
    own = np.stack([space.sample() for _ in range(20)])
    a = actions.from_environment(own)
    assert all(row in actions.space for row in a)
    np.testing.assert_array_equal(actions.to_environment(a), own)


def test_survives_json(case):
    _, actions, _ = case
    assert Actions.from_dict(json.loads(json.dumps(actions.to_dict()))) == actions


def test_the_car_of_the_paper():
    actions = Actions.of_space(CAR, clip=(2,))
    u = torch.tensor([[-9.0, -9.0, -9.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [9.0, 9.0, 9.0]])
    tanh = np.tanh(0.5)
    expected = [[-1, 0, 0], [0, 0.5, 0], [tanh, (tanh + 1) / 2, tanh], [1, 1, 1]]
    np.testing.assert_allclose(actions.bound(u), expected, atol=1e-6)


def test_a_box_is_tanh_mapped_to_its_bounds():
    actions = Actions.of_space(Box(-2.0, 6.0, (1,)))
    a = actions.bound(torch.tensor([[-50.0], [0.0], [1.0], [50.0]]))[:, 0]
    np.testing.assert_allclose(a, [-2, 2, 2 + 4 * np.tanh(1), 6], rtol=1e-6)


def test_an_odd_boxs_bounds_are_never_passed():
    space = Box(np.float32(-0.1), np.float32(0.7), (1,))
    actions = Actions.of_space(space)
    a = actions.bound(torch.linspace(-20, 20, 401)[:, None]).numpy()
    assert (a >= space.low).all()
    assert (a <= space.high).all()


def test_thirds():
    actions = Actions.of_space(Discrete(3), "thirds")
    a = np.array([[-1.0], [-0.34], [-0.33], [0.0], [0.33], [0.34], [1.0]], np.float32)
    assert actions.to_environment(a).tolist() == [2, 2, 0, 0, 0, 1, 1]
    np.testing.assert_allclose(actions.bound(torch.tensor([[0.3]])), [[np.tanh(0.3)]], rtol=1e-6)


def test_choices_are_one_hot_argmax():
    discrete = Actions.of_space(Discrete(3))
    assert discrete.bound(torch.tensor([[-3.0, -1.0, -2.0]])).tolist() == [[0, 1, 0]]
    parts = Actions.of_space(MultiDiscrete([2, 3]))
    a = parts.bound(torch.tensor([[1.0, 2.0, 7.0, 5.0, 6.0]]))
    assert a.tolist() == [[0, 1, 1, 0, 0]]
    assert parts.to_environment(a.numpy()).tolist() == [[1, 0]]
    switches = Actions.of_space(MultiBinary(3))
    assert switches.bound(torch.tensor([[0.1, -0.1, 0.0]])).tolist() == [[1, 0, 0]]


def test_any_vector_of_the_exposed_space_is_read_the_same_way(case):
    """M takes `canonical`, the environment `to_environment`: both must mean the same action."""
    _, actions, _ = case
    space = actions.space
    space.seed(2)
    given = np.stack([space.sample() for _ in range(50)])
    canonical = actions.canonical(torch.from_numpy(given)).numpy()
    np.testing.assert_array_equal(actions.to_environment(canonical), actions.to_environment(given))


def test_bound_takes_any_batch(case):
    _, actions, size = case
    u = torch.randn(2, 3, size)
    flat = actions.bound(u.view(6, size)).view(2, 3, size)
    torch.testing.assert_close(actions.bound(u), flat)


@pytest.mark.parametrize(
    "space",
    [
        Box(-np.inf, np.inf, (2,)),
        Box(-3e38, 3e38, (2,)),
        Box(-1e300, 1e300, (2,), np.float64),
        Box(0.0, 1.0, (2, 2)),
        Box(0.0, 1.0, (0,)),
        Box(0.0, 1.0, ()),
        Box(0, 255, (2,), np.uint8),
        Discrete(4, start=1),
        MultiDiscrete([[2, 2]]),
        MultiDiscrete([2, 2], start=[1, 0]),
        MultiBinary([2, 2]),
        Tuple((Discrete(2), Discrete(2))),
        Dict({"a": Discrete(2)}),
    ],
    ids=str,
)
def test_other_spaces_are_refused(space: gymnasium.Space):
    with pytest.raises(InputError, match=r"env\.id has the action space"):
        Actions.of_space(space)


def test_thirds_need_three_choices():
    with pytest.raises(InputError, match=r"env\.action is thirds"):
        Actions.of_space(Discrete(4), "thirds")


@pytest.mark.parametrize(("space", "clip"), [(CAR, (3,)), (CAR, (-1,)), (Discrete(3), (0,))])
def test_clipped_parts_must_exist(space, clip):
    with pytest.raises(InputError, match=r"env\.action_clip"):
        Actions.of_space(space, clip=clip)
