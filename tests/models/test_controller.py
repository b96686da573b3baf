"""The controller: a population is its members, counts are the paper's."""

import pytest
import torch

from worldmodels.errors import InputError
from worldmodels.models.controller import (
    CELL_BOUND,
    LATENT_BOUND,
    Controller,
    ControllerConfig,
    Inputs,
    feature_size,
    feature_space,
    features,
)

CONFIGS = [
    ControllerConfig(inputs=inputs, hidden_size=hidden_size, bias=bias)
    for inputs in ("z", "zh", "zch")
    for hidden_size in (0, 7)
    for bias in (True, False)
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_population_acts_like_its_members(config: ControllerConfig) -> None:
    controller = Controller(config, 4, 6, 3)
    parameters = torch.randn(5, controller.num_parameters)
    seen = torch.randn(5, 8, controller.feature_size)
    outputs = controller.act(parameters, seen)
    assert outputs.shape == (5, 8, 3)
    for member, vector in enumerate(parameters):
        alone = controller.act(vector, seen[member])
        torch.testing.assert_close(outputs[member], alone)
        for rollout in range(8):
            one = controller.act(vector[None], seen[member, rollout][None, None])
            torch.testing.assert_close(outputs[member, rollout], one[0, 0])


def test_parameter_counts_are_the_papers() -> None:
    assert Controller(ControllerConfig(), 32, 256, 3).num_parameters == 867
    doom = ControllerConfig(inputs="zch", bias=False)
    assert Controller(doom, 64, 512, 1).num_parameters == 1_088
    hidden = ControllerConfig(inputs="z", hidden_size=40)
    assert Controller(hidden, 32, 256, 3).num_parameters == 40 * 33 + 3 * 41


def test_the_vector_holds_rows_of_weights_then_biases() -> None:
    controller = Controller(ControllerConfig(inputs="z"), 2, 9, 2)
    parameters = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0, 20.0])
    outputs = controller.act(parameters, torch.tensor([[1.0, 100.0]]))
    assert outputs.tolist() == [[1 + 200 + 10, 3 + 400 + 20]]


def test_a_hidden_layer_by_hand() -> None:
    controller = Controller(ControllerConfig(inputs="z", hidden_size=1), 1, 9, 1)
    outputs = controller.act(torch.tensor([2.0, 0.5, 3.0, -1.0]), torch.tensor([[0.25]]))
    torch.testing.assert_close(outputs, 3 * torch.tanh(torch.tensor([[1.0]])) - 1)


def test_zeros_start_at_zero() -> None:
    controller = Controller(ControllerConfig(), 32, 256, 3)
    outputs = controller.act(torch.zeros(867), torch.randn(4, 288))
    assert not outputs.any()


@pytest.mark.parametrize(("inputs", "order"), [("z", "z"), ("zh", "zh"), ("zch", "zch")])
def test_features_stand_in_the_order_of_their_name(inputs: Inputs, order: str) -> None:
    parts = {"z": torch.full((3, 2), 1.0), "h": torch.full((3, 4), 0.5), "c": torch.zeros(3, 4)}
    seen = features(parts["z"], parts["h"], parts["c"], inputs)
    assert torch.equal(seen, torch.cat([parts[name] for name in order], -1))
    assert seen.shape[-1] == feature_size(inputs, 2, 4)
    space = feature_space(inputs, 2, 4)
    assert space.shape == (feature_size(inputs, 2, 4),)
    assert space.contains(seen[0].numpy())


def test_the_space_states_each_parts_bound() -> None:
    bounds = [LATENT_BOUND, CELL_BOUND, CELL_BOUND, 1.0, 1.0]
    space = feature_space("zch", 1, 2)
    assert space.high.tolist() == bounds
    assert space.low.tolist() == [-bound for bound in bounds]


def test_wrong_sizes_are_refused() -> None:
    controller = Controller(ControllerConfig(), 32, 256, 3)
    with pytest.raises(ValueError, match="867"):
        controller.act(torch.zeros(866), torch.zeros(1, 288))
    with pytest.raises(InputError, match=r"controller\.hidden_size"):
        ControllerConfig(hidden_size=-1)
