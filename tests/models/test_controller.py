"""The controller: a population is its members, counts are the paper's."""

import pytest
import torch

from worldmodels.models.controller import (
    CELL_BOUND,
    LATENT_BOUND,
    Controller,
    ControllerConfig,
    Inputs,
    controller_for,
    feature_space,
    features,
)
from worldmodels.models.heads.risk import RISK_BOUND, RiskHead
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig

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


def risky() -> MDNRNN:
    """An M of Z = 2, H = 4 that predicts two risks of each of three choices."""
    head = RiskHead(choices=3, horizons=(1, 3), hidden=())
    return MDNRNN(MDNRNNConfig(hidden_size=4), 2, 3, [head])


@pytest.mark.parametrize("inputs", ["z", "zh", "zch", "r", "zchr"])
def test_features_stand_in_the_order_of_their_name(inputs: Inputs) -> None:
    mdnrnn, z, h, c = risky(), torch.full((3, 2), 1.0), torch.full((3, 4), 0.5), torch.zeros(3, 4)
    parts = {"z": z, "h": h, "c": c, "r": mdnrnn.risk_layers[0](torch.cat([z, h], -1))}
    seen = features(mdnrnn, z, h, c, inputs)
    assert torch.equal(seen, torch.cat([parts[name] for name in inputs], -1))
    assert seen.shape[-1] == controller_for(ControllerConfig(inputs=inputs), mdnrnn).feature_size
    space = feature_space(mdnrnn, inputs)
    assert space.shape == seen[0].shape
    assert space.contains(seen[0].detach().numpy())


def test_the_space_states_each_parts_bound() -> None:
    bounds = [LATENT_BOUND] * 2 + [CELL_BOUND] * 4 + [1.0] * 4 + [RISK_BOUND] * 6
    space = feature_space(risky(), "zchr")
    assert space.high.tolist() == bounds
    assert space.low.tolist() == [-bound for bound in bounds]
    far = torch.full((1, 2), 1e6), torch.zeros(1, 4), torch.full((1, 4), 1e6)
    seen = features(risky(), *far, "cr")
    assert seen.abs().max() == CELL_BOUND
    assert seen[:, 4:].abs().max() <= RISK_BOUND


def test_wrong_sizes_are_refused() -> None:
    controller = Controller(ControllerConfig(), 32, 256, 3)
    with pytest.raises(ValueError, match="867"):
        controller.act(torch.zeros(866), torch.zeros(1, 288))
