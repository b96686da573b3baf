"""Heads: which a config asks for, their losses by hand, what they give to dream and C."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch.distributions import Poisson
from torch.nn.functional import softplus

from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig, controller_for, features
from worldmodels.models.heads.build import WorldMDNRNNConfig, heads_of, mdnrnn_for
from worldmodels.models.heads.choices import dropout_mask
from worldmodels.models.heads.returns import ReturnHead
from worldmodels.models.heads.reward import CountHead, RewardHead, bin_values, two_hot_nll
from worldmodels.models.heads.risk import RiskHead
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.mdnrnn import MDNRNN, Head, MDNRNNConfig
from worldmodels.models.sequence import SequenceBatch, masked_mean
from worldmodels.stages.train_mdnrnn import TrainMDNRNNConfig, mdnrnn_loss
from worldmodels.world import EnvConfig, RawPicture, World

pytestmark = pytest.mark.usefixtures("float32")
TINY = MDNRNNConfig(hidden_size=6, num_mixtures=2)
PICTURE = RawPicture((64, 64, 3))
CHOICES = Actions("discrete", counts=(3,)).to_dict()


def batch_of(B=2, T=5, Z=3, A=1, **labels):
    """A batch of zeros, and what is given."""
    flags = torch.zeros(B, T)
    parts = dict.fromkeys(("rewards", "counts", "terminated", "marked", "first"), flags)
    parts |= {"valid": torch.ones(B, T, dtype=torch.bool), "next_known": flags.bool()}
    parts |= {"mu": torch.zeros(B, T + 1, Z), "logvar": torch.zeros(B, T + 1, Z)}
    return SequenceBatch(**{**parts, "actions": torch.zeros(B, T, A), **labels})


def test_heads_follow_config_and_world():
    count = EnvConfig(
        reward="count", count_attribute="n", count_limit=2.0, action_repeat=3, reward_per_count=5.0
    )
    world = World(count, {}, 30.0, {}, PICTURE)
    both = WorldMDNRNNConfig(reward_head="world", termination_head="world", positive_weight=2.0)
    pays = {"count_limit": 6.0, "reward_per_count": 5.0}
    expected = CountHead(**pays), TerminationHead(positive_weight=2.0)
    assert heads_of(both, world) == expected
    assert heads_of(WorldMDNRNNConfig(), world) == ()
    endless = replace(world, config=EnvConfig(reward="constant", terminates=False))
    assert heads_of(both, endless) == ()
    risky = replace(both, risk_horizons=(2, 5))
    doom = World(EnvConfig(reward="constant"), CHOICES, 35.0, {}, PICTURE)
    *_, risk = heads_of(risky, doom)
    assert risk == RiskHead(choices=3, horizons=(2, 5))
    earning = World(EnvConfig(), CHOICES, 35.0, {}, PICTURE)
    *_, returns = heads_of(replace(both, return_horizons=(4, 9)), earning)
    assert returns == ReturnHead(choices=3, horizons=(4, 9))


def test_returns_need_choices_and_rewards():
    config = WorldMDNRNNConfig(return_horizons=(3,))
    for env, action in (
        (EnvConfig(reward="constant"), CHOICES),
        (EnvConfig(), Actions("box", (-1.0,), (1.0,)).to_dict()),
    ):
        with pytest.raises(InputError, match=r"mdnrnn\.return_horizons needs .*: set it to \[\]"):
            heads_of(config, World(env, action, 30.0, {}, PICTURE))


def test_risks_need_choices_and_an_end():
    config = WorldMDNRNNConfig(risk_horizons=(3,))
    for env, action in (
        (EnvConfig(terminates=False), CHOICES),
        (EnvConfig(), Actions("box", (-1.0,), (1.0,)).to_dict()),
    ):
        with pytest.raises(
            InputError, match=r"mdnrnn\.risk_horizons needs an environment that terminates"
        ):
            heads_of(config, World(env, action, 30.0, {}, PICTURE))


def test_a_correlated_dream_is_refused():
    world = World(EnvConfig(id="CartPole-v1"), CHOICES, 30.0, {}, PICTURE)
    with pytest.raises(InputError, match=r"mdnrnn\.mixture is correlated"):
        mdnrnn_for(WorldMDNRNNConfig(mixture="correlated"), world, 3)


def test_expected_rewards():
    counts = CountHead(count_limit=3.0).expected(torch.tensor([[0.0], [100.0]]))
    assert counts.tolist() == pytest.approx([1.5, 3.0])
    outputs = torch.full((2, 61), -1000.0)
    outputs[0] = 0.0  # -|x| of symmetric bins
    outputs[1, 40], outputs[1, 20] = 10.0 / 8, (10.0 + math.log(3.0)) / 8  # 1/4 and 3/4 on x = ±10
    real = RewardHead().expected(outputs)
    assert real.tolist() == pytest.approx([0.0, -0.5 * 1e-5 * math.expm1(10)])


def test_m_begins_with_rewards_of_zero():
    mdnrnn = MDNRNN(TINY, 3, 1, [TerminationHead(), RewardHead()])
    outputs = mdnrnn.predict(torch.randn(4, 6)).outputs("reward")
    assert RewardHead().pays(outputs).tolist() == [0.0] * 4
    assert mdnrnn.predict(torch.randn(4, 6)).outputs("termination").all()


def learn(rewards, steps):
    """What M says of rewards after learning from them, at each of two kinds of z."""
    torch.manual_seed(0)
    head = RewardHead()
    mdnrnn = MDNRNN(MDNRNNConfig(hidden_size=64, num_mixtures=2), 1, 1, [head])
    optimizer = torch.optim.Adam(mdnrnn.parameters())
    mu = torch.tensor([-2.0, 2.0]).repeat(50)[:, None, None].expand(100, 11, 1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        batch = batch_of(100, 10, 1, mu=mu, logvar=torch.full_like(mu, -9.0), rewards=rewards())
        loss, _ = mdnrnn_loss(mdnrnn, batch, TrainMDNRNNConfig(), torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(mdnrnn.parameters(), 1.0)
        optimizer.step()
    prediction, _ = mdnrnn(mu[:, :-1], batch.actions, None)
    return head.expected(prediction.outputs("reward")).view(50, 2, 10).mean((0, 2)).tolist()


def test_a_rare_loss_is_learned_as_its_mean():
    """-100 with probability 0.1: a regression of symlog(reward) would end at -0.59."""

    def rewards():
        return -100.0 * (torch.rand(100, 10) < 0.1)

    assert learn(rewards, 200) == pytest.approx([-10.0, -10.0], rel=0.15)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_rewards_of_any_scale_are_learned(scale):
    def rewards():
        return scale * torch.tensor([-2.0, 1.0]).repeat(50)[:, None].expand(100, 10)

    assert learn(rewards, 100) == pytest.approx([-2 * scale, scale], rel=0.05)


def test_bins_grow_by_e():
    values = bin_values()
    assert values[[30, 31, 0]].tolist() == pytest.approx([0.0, 1.718e-5, -1.0686e8], rel=1e-3)


def test_count_nll_is_poissons_up_to_the_factorial():
    head, raw, counts = CountHead(count_limit=4.0), torch.randn(6), torch.arange(6.0)
    rate = 4.0 * torch.sigmoid(raw)
    expected = -Poisson(rate).log_prob(counts) - torch.lgamma(counts + 1)
    torch.testing.assert_close(head.nll(raw[:, None], counts), expected)


def test_real_nll_by_hand():
    """A reward a third of the way between two bins is two thirds the first, one third the other."""
    low, high = bin_values()[[42, 43]].tolist()
    rewards = torch.tensor([low + (high - low) / 3, low, 1e30])
    nll = RewardHead().nll(torch.zeros(3, 61), rewards)
    total = math.log(1 + 2 * sum(math.exp(-x) for x in range(1, 31)))  # of e^-|x|
    assert nll.tolist() == pytest.approx([12 + 1 / 3 + total, 12 + total, 30 + total])


def test_cross_entropy_weighs_ends():
    logits, target = torch.tensor([0.7, 0.7]), torch.tensor([1.0, 0.0])
    loss = TerminationHead(positive_weight=10.0).cross_entropy(logits, target)
    torch.testing.assert_close(loss, torch.stack([10 * softplus(-logits[0]), softplus(logits[1])]))


@pytest.mark.parametrize(
    ("head", "label"),
    [
        (CountHead(), "counts"),
        (RewardHead(), "rewards"),
        (TerminationHead(), "terminated"),
    ],
)
def test_losses_are_means_over_valid_steps(head, label):
    valid = torch.tensor([[True] * 5, [True, False, False, False, False]])
    batch = batch_of(valid=valid, **{label: (torch.rand(2, 5) < 0.5).float()})
    mdnrnn, z, generator = MDNRNN(TINY, 3, 1, [head]), torch.randn(2, 6, 3), torch.Generator()
    prediction, _ = mdnrnn(z[:, :-1], batch.actions, None)
    outputs, target = prediction.outputs(head.name), getattr(batch, label)
    if isinstance(head, TerminationHead):
        losses = head.cross_entropy(outputs[..., 0], target)
    else:
        losses = head.nll(outputs, target)
    loss = head.loss(prediction, z, batch, generator)
    torch.testing.assert_close(loss, losses[valid].mean())


def risky(action_size=3, horizons=(1, 3), **options):
    """M with risks of three choices, Z = 2, H = 6."""
    torch.manual_seed(0)
    head = RiskHead(choices=3, horizons=horizons, **{"hidden": (), "dropout": 0.0, **options})
    return MDNRNN(TINY, 2, action_size, [head]), head


@pytest.mark.parametrize("action_size", [1, 3])
def test_risks_learn_of_the_choice_that_was_made(action_size):
    mdnrnn, head = risky(action_size)
    assert mdnrnn.num_features == 6
    z, h = torch.randn(2, 6, 2), torch.randn(2, 5, 6)
    choices = torch.tensor([[0, 1, 2, 1, 0], [2, 2, 1, 0, 0]])
    made = torch.tensor([0.0, 1.0, -1.0])[choices][..., None]
    ends = torch.zeros(2, 5)
    ends[1, 2] = 1.0
    batch = batch_of(
        actions=made if action_size == 1 else torch.eye(3)[choices],
        valid=torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
        terminated=ends,
    )
    # row 0 goes on beyond its window: after step 2 nobody knows what comes within three steps
    expected = {
        1: [(0, t, 0.0) for t in (1, 2, 3, 4)] + [(1, 1, 0.0), (1, 2, 1.0)],
        3: [(0, 1, 0.0), (0, 2, 0.0), (1, 1, 1.0), (1, 2, 1.0)],
    }
    total = 0.0
    for place, known in enumerate(expected.values()):
        losses = []
        for row, t, target in known:
            logits = head.predicted(mdnrnn, z[row, t], h[row, t - 1]).view(2, 3)
            logit = logits[place, choices[row, t]]
            losses.append(softplus(logit) - target * logit)
        total += torch.stack(losses).mean()
    loss = head.loss(mdnrnn.predict(h), z, batch, torch.Generator())
    torch.testing.assert_close(loss, total)


@pytest.mark.parametrize(
    ("label", "steps", "expected"),
    [
        ("marked", [3, 5], {1: [0, 0, 1, 0, 1], 3: [1, 1, 1]}),  # from step 1 on
        ("terminated", [5], {1: [0, 0, 0, 0, 1], 3: [0, 0, 1]}),
    ],
)
def test_events_count_where_what_follows_is_known(label, steps, expected):
    """Near a window's end damage or the end is left out, as its absence would be."""
    (mdnrnn, head), z, h = risky(), torch.randn(1, 7, 2), torch.randn(1, 6, 6)
    events = torch.zeros(1, 6)
    events[0, steps] = 1.0
    actions = torch.eye(3)[torch.zeros(1, 6, dtype=torch.long)]
    batch = batch_of(1, 6, actions=actions, **{label: events})
    loss = head.loss(mdnrnn.predict(h), z, batch, torch.Generator())
    total = 0.0
    for place, targets in enumerate(expected.values()):
        risks = head.predicted(mdnrnn, z[0, 1:-1], h[0, :-1]).view(-1, 2, 3)
        logits = risks[: len(targets), place, 0]
        total += (softplus(logits) - torch.tensor(targets) * logits).mean()
    torch.testing.assert_close(loss, total)


def test_rare_risks_do_not_train_the_memory_but_returns_do():
    for head, learns in (
        (RiskHead(choices=3, horizons=(1,)), False),
        (ReturnHead(choices=3, horizons=(1,)), True),
    ):
        mdnrnn = MDNRNN(TINY, 2, 3, [head])
        z, h = torch.randn(2, 6, 2), torch.randn(2, 5, 6, requires_grad=True)
        batch = batch_of(2, 5, actions=torch.eye(3)[torch.zeros(2, 5, dtype=torch.long)])
        head.loss(mdnrnn.predict(h), z, batch, torch.Generator()).backward()
        assert (h.grad is not None) == learns
        assert all(layer.weight.grad.any() for layer in mdnrnn.layers_of(head))


def test_risk_layers_leave_out_only_in_training():
    mdnrnn, head = risky(horizons=(1,), hidden=(5,), dropout=0.5)
    z, h = torch.randn(4000, 2), torch.randn(4000, 6)
    whole = head.predicted(mdnrnn, z, h)
    first, second = mdnrnn.layers_of(head)
    by_hand = second(torch.relu(first(torch.cat([z, h], -1))))
    torch.testing.assert_close(whole, by_hand)
    torch.testing.assert_close(mdnrnn.features(z, h), by_hand)
    one, again, other = (
        head.predicted(mdnrnn, z, h, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    mdnrnn, head = risky(horizons=(1,), dropout=0.5)
    generator = torch.Generator().manual_seed(0)
    sampled = [head.predicted(mdnrnn, z[:50], h[:50], generator) for _ in range(2000)]
    mean = torch.stack(sampled).mean(0)
    torch.testing.assert_close(mean, head.predicted(mdnrnn, z[:50], h[:50]), atol=0.15, rtol=0.0)


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
    mdnrnn, head = risky(horizons=(5, 2))
    z, h = torch.randn(3, 2), torch.randn(3, 6)
    found = head.survives(mdnrnn, z, h, torch.eye(3)[[2, 0, 1]], z[:, :0])
    p = torch.sigmoid(head.predicted(mdnrnn, z, h).view(3, 2, 3)[:, 1])[torch.arange(3), [2, 0, 1]]
    torch.testing.assert_close(found, (1 - p.double()) ** 0.5, atol=1e-6, rtol=1e-5)


def returning(horizons, **options):
    """M with the returns of three choices, Z = 2, H = 6."""
    torch.manual_seed(0)
    head = ReturnHead(choices=3, horizons=horizons, **{"hidden": (), "dropout": 0.0, **options})
    return MDNRNN(TINY, 2, 3, [head]), head


def test_returns_learn_what_follows_the_choice_that_was_made():
    mdnrnn, head = returning((1, 3))
    z, h = torch.randn(2, 6, 2), torch.randn(2, 5, 6)
    choices = torch.tensor([[0, 1, 2, 1, 0], [2, 2, 1, 0, 0]])
    ends = torch.zeros(2, 5)
    ends[1, 2] = 1.0
    batch = batch_of(
        actions=torch.eye(3)[choices],
        valid=torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
        terminated=ends,
        rewards=torch.tensor([[9.0, 1.0, 2.0, -4.0, 8.0], [9.0, 5.0, -100.0, math.nan, math.nan]]),
    )
    # row 0 goes on beyond its window: after step 2 nobody knows what three steps return
    expected = {
        1: [(0, 1, 1.0), (0, 2, 2.0), (0, 3, -4.0), (0, 4, 8.0), (1, 1, 5.0), (1, 2, -100.0)],
        3: [(0, 1, -1.0), (0, 2, 6.0), (1, 1, -95.0), (1, 2, -100.0)],
    }
    total = 0.0
    for place, known in enumerate(expected.values()):
        losses = []
        for row, t, target in known:
            outputs = head.predicted(mdnrnn, z[row, t], h[row, t - 1]).view(2, 3, -1)
            losses.append(two_hot_nll(outputs[place, choices[row, t]], torch.tensor(target)))
        total += torch.stack(losses).mean()
    loss = head.loss(mdnrnn.predict(h), z, batch, torch.Generator())
    torch.testing.assert_close(loss, total)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_controller_sees_how_much_more_each_choice_returns(scale):
    """Choice 0 earns 2 more than the others where z[0] > 0, else 1 less; 1 earns 1 a step later."""
    mdnrnn, head = returning((1, 2), hidden=(32,))
    optimizer = torch.optim.Adam(mdnrnn.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        z = torch.randn(256, 4, 2, generator=generator)
        choices = torch.randint(3, (256, 3), generator=generator)
        better = torch.where(z[:, :-1, 0] > 0, 2.0, -1.0)
        rewards = scale * (1.0 + better * (choices == 0))
        rewards[:, 1:] += scale * (choices[:, :-1] == 1)
        batch = batch_of(256, 3, 2, actions=torch.eye(3)[choices], rewards=rewards)
        loss = head.loss(mdnrnn.predict(torch.zeros(256, 3, 6)), z, batch, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    returns = mdnrnn.features(z, torch.zeros(2, 6)).view(2, 2, 3)  # z, horizon, choice
    expected = [[[4, -2, -2], [3, 0, -3]], [[-2, 1, 1], [-3, 3, 0]]]
    assert returns.sum(-1).abs().max() < 1e-4 * scale
    torch.testing.assert_close(returns / scale, torch.tensor(expected) / 3, atol=0.15, rtol=0.0)


@dataclass(frozen=True, kw_only=True)
class SpeedHead(Head):
    """A head as a user would write it: predicts |action|, and gives it to the controller."""

    name: str = "speed"
    size: int = 1

    @property
    def num_features(self):
        return 1

    def loss(self, prediction, z, batch, generator):
        error = prediction.outputs(self.name)[..., 0] - batch.actions.norm(dim=-1)
        return masked_mean(error.square(), batch.valid)

    def features(self, mdnrnn, z, h):
        return mdnrnn.predict(h).outputs(self.name)


def test_a_head_of_ones_own_is_trained_and_seen():
    torch.manual_seed(0)
    mdnrnn, batch = MDNRNN(TINY, 3, 1, [SpeedHead()]), batch_of(actions=torch.rand(2, 5, 1))
    losses = [mdnrnn_loss(mdnrnn, batch, TrainMDNRNNConfig(), torch.Generator())]
    losses[0][0].backward()
    with torch.no_grad():
        for parameter in mdnrnn.head.parameters():
            parameter -= 0.1 * parameter.grad
    losses.append(mdnrnn_loss(mdnrnn, batch, TrainMDNRNNConfig(), torch.Generator()))
    assert losses[1][1]["speed"] < losses[0][1]["speed"]
    z, h = torch.randn(4, 3), torch.rand(4, 6)
    seen = features(mdnrnn, z, h, h, "zr")
    assert torch.equal(seen, torch.cat([z, mdnrnn.predict(h).outputs("speed")], -1))
    assert controller_for(ControllerConfig(inputs="r"), mdnrnn).feature_size == 1
