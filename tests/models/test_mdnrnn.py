"""M: the paper's sizes, one LSTM whether in one pass or step by step, heads by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Poisson
from torch.nn.functional import softplus

from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.models.dropout import dropout_mask
from worldmodels.models.masking import masked_mean
from worldmodels.models.mdnrnn import MDNRNN, Heads, MDNRNNConfig, symexp, symlog
from worldmodels.models.mdnrnn_losses import reward_nll, risk_loss, termination_loss
from worldmodels.run import Run
from worldmodels.stages.train_mdnrnn import TrainMDNRNNConfig, train_mdnrnn
from worldmodels.world import EnvConfig, RawPicture, World

TINY = MDNRNNConfig(hidden_size=6, num_mixtures=2)
PICTURE = RawPicture((64, 64, 3))


def trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_parameter_counts_are_the_papers():
    assert trainable(MDNRNN(MDNRNNConfig(), 32, 3, Heads())) == 422_368
    doom = MDNRNNConfig(hidden_size=512, restart_input=True)
    assert trainable(MDNRNN(doom, 64, 1, Heads(termination=True))) == 1_678_785


def test_the_second_bias_stays_zero():
    mdnrnn = MDNRNN(TINY, 3, 1, Heads())
    assert not mdnrnn.lstm.bias_hh_l0.any()
    assert not mdnrnn.lstm.bias_hh_l0.requires_grad


@pytest.mark.parametrize("restart_input", [False, True])
@pytest.mark.parametrize("mixture", ["per_dimension", "joint"])
def test_a_sequence_is_its_steps(restart_input, mixture):
    config = replace(TINY, restart_input=restart_input, mixture=mixture)
    mdnrnn = MDNRNN(config, 3, 2, Heads("count", 1.0, True))
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
            torch.testing.assert_close(single.reward, predictions.reward[:, t])
            torch.testing.assert_close(single.termination, predictions.termination[:, t])
            if t == 0:  # a step leaves the state that it was given alone
                assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))
        for stepped, whole in zip(now, last, strict=True):
            torch.testing.assert_close(stepped, whole)


def test_the_restart_flag_is_seen_only_if_asked_for():
    z, actions, flag = torch.randn(1, 3), torch.randn(1, 1), torch.ones(1)
    for restart_input in (False, True):
        mdnrnn = MDNRNN(replace(TINY, restart_input=restart_input), 3, 1, Heads())
        h, _ = mdnrnn.step(z, actions, flag, mdnrnn.initial_state(1))
        other, _ = mdnrnn.step(z, actions, 0 * flag, mdnrnn.initial_state(1))
        assert torch.equal(h, other) is not restart_input


@pytest.mark.parametrize(
    ("heads", "extra"),
    [
        (Heads(), []),
        (Heads("count"), ["reward"]),
        (Heads(termination=True), ["termination"]),
        (Heads("real", 1.0, True), ["reward", "termination"]),
    ],
)
def test_heads_are_the_last_outputs(heads, extra):
    mdnrnn = MDNRNN(TINY, 3, 1, heads)
    assert mdnrnn.head.out_features == 2 * 3 * 3 + len(extra)
    with torch.no_grad():
        mdnrnn.head.weight.zero_()
        mdnrnn.head.bias.copy_(torch.arange(18.0 + len(extra)) / 10)
    prediction = mdnrnn.predict(torch.randn(5, 6))
    assert prediction.mixture.logits[0, 1, 2].item() == pytest.approx(0.5)
    assert prediction.mixture.means[0, 1, 2].item() == pytest.approx(1.1)
    assert prediction.mixture.log_stds[0, 1, 2].item() == pytest.approx(1.7)
    for name in ("reward", "termination"):
        value = getattr(prediction, name)
        assert (value is None) is (name not in extra)
        if name in extra:
            assert value.tolist() == pytest.approx([1.8 + 0.1 * extra.index(name)] * 5)


def test_heads_follow_config_and_world():
    count = EnvConfig(reward="count", count_attribute="n", count_limit=2.0, action_repeat=3)
    world = World(count, {}, 30.0, {}, PICTURE)
    both = MDNRNNConfig(reward_head="world", termination_head="world")
    assert Heads.of(both, world) == Heads("count", 6.0, True)
    assert Heads.of(MDNRNNConfig(), world) == Heads("none", 6.0, False)
    endless = replace(world, config=EnvConfig(reward="constant", terminates=False))
    assert Heads.of(both, endless) == Heads("none", 1.0, False)


def test_expected_rewards():
    raw = torch.tensor([0.0, 100.0])
    counts = MDNRNN(TINY, 3, 1, Heads("count", 3.0)).expected_reward(raw)
    assert counts.tolist() == pytest.approx([1.5, 3.0])
    real = MDNRNN(TINY, 3, 1, Heads("real")).expected_reward(torch.tensor([-math.log(3.0), 0.0]))
    assert real.tolist() == pytest.approx([-2.0, 0.0])


def test_symexp_inverts_symlog():
    x = torch.tensor([-1000.0, -1.0, -1e-3, 0.0, 0.5, 300.0])
    assert symlog(x)[1].item() == pytest.approx(-math.log(2))
    torch.testing.assert_close(symexp(symlog(x)), x)


def test_count_nll_is_poissons_up_to_the_factorial():
    heads, raw, counts = Heads("count", 4.0), torch.randn(6), torch.arange(6.0)
    rate = 4.0 * torch.sigmoid(raw)
    expected = -Poisson(rate).log_prob(counts) - torch.lgamma(counts + 1)
    torch.testing.assert_close(reward_nll(heads, raw, counts), expected)


def test_real_nll_by_hand():
    nll = reward_nll(Heads("real"), torch.tensor([0.0, 1.0]), torch.tensor([math.e - 1, 0.0]))
    assert nll.tolist() == pytest.approx([0.5, 0.5])


def test_termination_loss_weighs_ends():
    logits, target = torch.tensor([0.7, 0.7]), torch.tensor([1.0, 0.0])
    loss = termination_loss(logits, target, 10.0)
    torch.testing.assert_close(loss, torch.stack([10 * softplus(-logits[0]), softplus(logits[1])]))


def risky(world_ends=True, action_size=3):
    config = replace(TINY, termination_head="world", risk_horizons=(1, 3))
    env = EnvConfig(terminates=world_ends, reward="constant")
    kind = (
        Actions("discrete", counts=(3,)) if action_size == 3 else Actions("thirds", (-1.0,), (1.0,))
    )
    heads = Heads.of(config, World(env, kind.to_dict(), 35.0, {}, PICTURE))
    torch.manual_seed(0)
    return MDNRNN(config, 2, action_size, heads)


@pytest.mark.parametrize("action_size", [1, 3])
def test_risks_learn_of_the_choice_that_was_made(action_size):
    mdnrnn = risky(action_size=action_size)
    assert mdnrnn.num_risks == 6
    z, h = torch.randn(2, 6, 2), torch.randn(2, 5, 6)
    choices = torch.tensor([[0, 1, 2, 1, 0], [2, 2, 1, 0, 0]])
    made = torch.tensor([0.0, 1.0, -1.0])[choices][..., None]
    actions = made if action_size == 1 else torch.eye(3)[choices]
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    ends = torch.zeros(2, 5)
    ends[1, 2] = 1.0
    # row 0 goes on beyond its window: after step 2 nobody knows what comes within three steps
    expected = {
        1: [(0, t, 0.0) for t in (1, 2, 3, 4)] + [(1, 1, 0.0), (1, 2, 1.0)],
        3: [(0, 1, 0.0), (0, 2, 0.0), (1, 1, 1.0), (1, 2, 1.0)],
    }
    total = 0.0
    for place, known in enumerate(expected.values()):
        losses = []
        for row, t, target in known:
            logits = mdnrnn.risks(z[row, t], h[row, t - 1]).view(2, 3)
            logit = logits[place, choices[row, t]]
            losses.append(softplus(logit) - target * logit)
        total += torch.stack(losses).mean()
    loss = risk_loss(mdnrnn, z, h, actions, torch.zeros(2, 5), ends, valid)
    torch.testing.assert_close(loss, total)


@pytest.mark.parametrize(
    ("kind", "steps", "expected"),
    [
        ("damage", [3, 5], {1: [0, 0, 1, 0, 1], 3: [1, 1, 1]}),  # from step 1 on
        ("end", [5], {1: [0, 0, 0, 0, 1], 3: [0, 0, 1]}),
    ],
)
def test_events_count_where_what_follows_is_known(kind, steps, expected):
    """Near a window's end a damage or the end is left out, as its absence would be."""
    mdnrnn, z, h = risky(), torch.randn(1, 7, 2), torch.randn(1, 6, 6)
    actions, none = torch.eye(3)[torch.zeros(1, 6, dtype=torch.long)], torch.zeros(1, 6)
    events, valid = none.clone(), torch.ones(1, 6, dtype=torch.bool)
    events[0, steps] = 1.0
    damaged, ends = (events, none) if kind == "damage" else (none, events)
    loss = risk_loss(mdnrnn, z, h, actions, damaged, ends, valid)
    total = 0.0
    for place, targets in enumerate(expected.values()):
        risks = mdnrnn.risks(z[0, 1:-1], h[0, :-1]).view(-1, 2, 3)
        logits = risks[: len(targets), place, 0]
        total += (softplus(logits) - torch.tensor(targets) * logits).mean()
    torch.testing.assert_close(loss, total)


def test_windows_must_be_longer_than_a_risks_horizon(tmp_path):
    model, config = replace(TINY, risk_horizons=(3, 8)), TrainMDNRNNConfig(sequence_length=8)
    with pytest.raises(InputError, match=r"sequence_length is 8: .* longest of mdnrnn.*, 8"):
        train_mdnrnn(Run(tmp_path), model, config, 0)


def test_risk_layers_leave_out_only_in_training():
    config = replace(TINY, risk_horizons=(1,), risk_hidden=(5,), risk_dropout=0.5)
    mdnrnn = MDNRNN(config, 2, 3, Heads(termination=True, choices=3))
    z, h = torch.randn(4000, 2), torch.randn(4000, 6)
    whole = mdnrnn.risks(z, h)
    first, second = mdnrnn.risk_layers
    by_hand = second(torch.relu(first(torch.cat([z, h], -1))))
    torch.testing.assert_close(whole, by_hand)
    one, again, other = (
        mdnrnn.risks(z, h, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    linear = replace(config, risk_hidden=())
    mdnrnn = MDNRNN(linear, 2, 3, Heads(termination=True, choices=3))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([mdnrnn.risks(z[:50], h[:50], generator) for _ in range(2000)]).mean(0)
    torch.testing.assert_close(drawn, mdnrnn.risks(z[:50], h[:50]), atol=0.15, rtol=0.0)


@pytest.mark.parametrize(("dropout", "kept"), [(0.0, 1.0), (0.3, 179 / 256), (0.9999, 1 / 256)])
def test_dropout_masks_keep_the_share_they_say(dropout, kept):
    mask, share = dropout_mask((401, 501), dropout, torch.Generator().manual_seed(0))
    assert share == kept
    deviation = math.sqrt(kept * (1 - kept) / mask.numel())
    assert mask.float().mean().item() == pytest.approx(kept, abs=4 * deviation)
    assert mask.float().mean(0).std().item() == pytest.approx(
        math.sqrt(kept * (1 - kept) / 401), rel=0.2
    )


def test_no_damage_is_the_shortest_horizons_chance_a_step():
    config = replace(TINY, risk_horizons=(5, 2))
    mdnrnn = MDNRNN(config, 2, 3, Heads(termination=True, choices=3))
    z, h = torch.randn(3, 2), torch.randn(3, 6)
    found = mdnrnn.no_damage(z, h, torch.eye(3)[[2, 0, 1]])
    p = torch.sigmoid(mdnrnn.risks(z, h).view(3, 2, 3)[:, 1])[torch.arange(3), [2, 0, 1]]
    torch.testing.assert_close(found, (1 - p.double()) ** 0.5, atol=1e-6, rtol=1e-5)
    with pytest.raises(InputError, match=r"mdnrnn\.risk_horizons"):
        MDNRNN(TINY, 2, 3, Heads()).no_damage(z, h, torch.eye(3))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_dropout_is_a_share(share):
    with pytest.raises(InputError, match=r"mdnrnn\.risk_dropout"):
        replace(TINY, risk_dropout=share)


def test_risks_need_choices_and_an_end():
    with pytest.raises(InputError, match=r"mdnrnn\.risk_horizons needs a world that terminates"):
        risky(world_ends=False)
    with pytest.raises(InputError, match=r"mdnrnn\.risk_horizons must be at least 1"):
        replace(TINY, risk_horizons=(0,))


def test_relatives_predict_bits_and_a_category_without_actions():
    heads = Heads(binary=2, categories=3)
    mdnrnn = MDNRNN(replace(TINY, mixture="correlated"), 2, 0, heads)
    z = torch.randn(4, 5, 2)
    predicted, last = mdnrnn(z, None, None)
    assert predicted.mixture.log_prob(z).shape == (4, 5)
    assert predicted.mixture.correlation.shape == (4, 5, 2, 2, 2)
    assert (predicted.reward, predicted.termination) == (None, None)
    now = mdnrnn.initial_state(4)
    for t in range(5):
        now = mdnrnn.step(z[:, t], None, None, now)
        single = mdnrnn.predict(now[0])
        torch.testing.assert_close(single.binary, predicted.binary[:, t])
        torch.testing.assert_close(single.category, predicted.category[:, t])
    torch.testing.assert_close(now[0], last[0])
    outputs = mdnrnn.head(now[0])
    assert torch.equal(torch.cat([single.binary, single.category], -1), outputs[:, -5:])


def test_a_correlated_dream_is_refused():
    world = World(EnvConfig(id="CartPole-v1"), {}, 30.0, {}, PICTURE)
    with pytest.raises(InputError, match=r"mdnrnn\.mixture is correlated"):
        Heads.of(replace(TINY, mixture="correlated"), world)


def test_masked_mean():
    values = torch.tensor([[1.0, 2.0], [3.0, 100.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert masked_mean(values, mask).item() == pytest.approx(2.0)
    assert masked_mean(values, torch.zeros(2, 2, dtype=torch.bool)).item() == 0.0


def test_sizes_must_be_positive():
    with pytest.raises(InputError, match=r"mdnrnn\.hidden_size"):
        MDNRNNConfig(hidden_size=0)
