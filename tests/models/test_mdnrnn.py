"""M: the paper's sizes, one LSTM whether in one pass or step by step, heads beside the mixture."""

from dataclasses import replace

import pytest
import torch

from worldmodels.models.heads.reward import CountHead
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.mdnrnn import MDNRNN, Head, MDNRNNConfig

pytestmark = pytest.mark.usefixtures("float32")
TINY = MDNRNNConfig(hidden_size=6, num_mixtures=2)
BOTH = CountHead(), TerminationHead()


def trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_parameter_counts_are_the_papers():
    assert trainable(MDNRNN(MDNRNNConfig(), 32, 3)) == 422_368
    doom = MDNRNNConfig(hidden_size=512, restart_input=True)
    assert trainable(MDNRNN(doom, 64, 1, [TerminationHead()])) == 1_678_785


def test_the_second_bias_stays_zero():
    mdnrnn = MDNRNN(TINY, 3, 1)
    assert not mdnrnn.lstm.bias_hh_l0.any()
    assert not mdnrnn.lstm.bias_hh_l0.requires_grad


@pytest.mark.parametrize("restart_input", [False, True])
@pytest.mark.parametrize("mixture", ["per_dimension", "joint"])
def test_a_sequence_is_its_steps(restart_input, mixture):
    config = replace(TINY, restart_input=restart_input, mixture=mixture)
    mdnrnn = MDNRNN(config, 3, 2, BOTH)
    z, actions = torch.randn(4, 7, 3), torch.randn(4, 7, 2)
    first = torch.zeros(4, 7)
    first[:, 0] = 1
    for state in (None, (torch.rand(4, 6), torch.randn(4, 6))):
        predictions, last = mdnrnn(z, actions, first, state)
        now = state or mdnrnn.initial_state(4)
        given = [part.clone() for part in now]
        for t in range(7):
            before, now = now, mdnrnn.step(z[:, t], actions[:, t], first[:, t], now)
            single = mdnrnn.predict(now[0])
            torch.testing.assert_close(single.mixture.means, predictions.mixture.means[:, t])
            torch.testing.assert_close(single.mixture.logits, predictions.mixture.logits[:, t])
            for head in BOTH:
                whole = predictions.outputs(head.name)[:, t]
                torch.testing.assert_close(single.outputs(head.name), whole)
            if t == 0:  # a step leaves the state that it was given alone
                assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))
        for stepped, whole in zip(now, last, strict=True):
            torch.testing.assert_close(stepped, whole)


def test_the_restart_flag_is_seen_only_if_asked_for():
    z, actions, flag = torch.randn(1, 3), torch.randn(1, 1), torch.ones(1)
    for restart_input in (False, True):
        mdnrnn = MDNRNN(replace(TINY, restart_input=restart_input), 3, 1)
        h, _ = mdnrnn.step(z, actions, flag, mdnrnn.initial_state(1))
        other, _ = mdnrnn.step(z, actions, 0 * flag, mdnrnn.initial_state(1))
        assert torch.equal(h, other) is not restart_input


def test_heads_are_the_last_outputs():
    heads = [CountHead(), Head("pen", 3)]
    mdnrnn = MDNRNN(TINY, 3, 1, heads)
    with torch.no_grad():
        mdnrnn.head.weight.zero_()
        mdnrnn.head.bias.copy_(torch.arange(22.0) / 10)
    prediction = mdnrnn.predict(torch.randn(5, 6))
    assert prediction.mixture.logits[0, 1, 2].item() == pytest.approx(0.5)
    assert prediction.mixture.means[0, 1, 2].item() == pytest.approx(1.1)
    assert prediction.mixture.log_stds[0, 1, 2].item() == pytest.approx(1.7)
    assert prediction.outputs("reward")[4].tolist() == pytest.approx([1.8])
    assert prediction.outputs("pen")[4].tolist() == pytest.approx([1.9, 2.0, 2.1])
    assert mdnrnn.find(CountHead) is heads[0]
    assert mdnrnn.find(TerminationHead) is None


def test_relatives_have_no_actions_and_heads_of_their_own():
    mdnrnn = MDNRNN(replace(TINY, mixture="correlated"), 2, 0, [Head("pen", 3)])
    z = torch.randn(4, 5, 2)
    predicted, last = mdnrnn(z, None, None)
    assert predicted.mixture.log_prob(z).shape == (4, 5)
    assert predicted.mixture.correlation.shape == (4, 5, 2, 2, 2)
    now = mdnrnn.initial_state(4)
    for t in range(5):
        now = mdnrnn.step(z[:, t], None, None, now)
        single = mdnrnn.predict(now[0])
        torch.testing.assert_close(single.outputs("pen"), predicted.outputs("pen")[:, t])
    torch.testing.assert_close(now[0], last[0])


@pytest.mark.parametrize("mixture", ["per_dimension", "joint"])
def test_nll_is_the_mixtures_where_the_next_z_is_known(mixture):
    mdnrnn, z = MDNRNN(replace(TINY, mixture=mixture), 3, 1), torch.randn(4, 6, 3)
    known = torch.rand(4, 5) < 0.5
    prediction, _ = mdnrnn(z[:, :-1], torch.zeros(4, 5, 1), None)
    expected = prediction.mixture.nll(z[:, 1:])[known].mean()
    torch.testing.assert_close(prediction.nll(z[:, 1:], known), expected)
