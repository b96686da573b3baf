"""M's predictions: the data's own generator is best in all measures, and errors show in them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodels.data.episode import LatentEpisode
from worldmodels.diagnostics.prediction import (
    HALF_LOG_2PIE,
    calibration,
    marginals,
    nll_by_horizon,
    predicted_ends,
    predicted_risks,
    sample_windows,
    skill,
    transforms,
    uniformity,
    unweighted,
)
from worldmodels.errors import InputError
from worldmodels.models.heads.risk import RiskHead
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.mixture import Mixture
from worldmodels.seeding import torch_generator

DECAY, GAIN, STD = 0.8, 0.5, 0.1
STEPS = 100_000
N, Z, K = 20_000, 3, 2


def episode(length, generator, std=STD, logvar=-20.0):
    """z' = 0.8 z + 0.5 a + noise: the world of `linear_mdnrnn`."""
    actions = generator.uniform(-1, 1, (length, 1)).astype(np.float32)
    mu = np.zeros((length + 1, 1), np.float32)
    for t in range(length):
        mu[t + 1] = DECAY * mu[t] + GAIN * actions[t] + std * generator.normal()
    return latents(mu, np.full_like(mu, logvar), actions)


def latents(mu, logvar, actions):
    steps, ends = np.zeros(len(actions), np.float32), np.arange(len(actions)) == len(actions) - 1
    halves = mu.astype(np.float16), logvar.astype(np.float16)
    return LatentEpisode(*halves, actions, steps, steps, ends, ~ends & False, ends)


@pytest.fixture
def episodes():
    generator = np.random.default_rng(0)
    return [episode(60, generator) for _ in range(20)]


def measure(mdnrnn, episodes, horizons=(1, 5, 15), **options):
    settings = {"samples": 200, "count": 400, **options}
    count = settings.pop("count")
    batch = sample_windows(episodes, count=count, warmup=4, horizon=max(horizons), seed=0)
    settings["generator"] = torch_generator(0, "test")
    return nll_by_horizon(mdnrnn, batch, warmup=4, horizons=horizons, **settings)


def analytic(horizon):
    """½ ln 2πe v of a walk that forgets: v = s² Σ_{j<k} decay^2j."""
    return HALF_LOG_2PIE + 0.5 * math.log(STD**2 * sum(DECAY ** (2 * j) for j in range(horizon)))


def test_the_generator_itself_reaches_the_analytic_value(linear_mdnrnn, episodes):
    for row in measure(linear_mdnrnn(DECAY, GAIN, std=STD), episodes):
        assert row["nll"] == pytest.approx(analytic(row["steps_ahead"]), abs=0.1)
        assert row["entropy"] == pytest.approx(HALF_LOG_2PIE - 10, abs=1e-4)  # z is nearly mu
        assert row["nll"] < row["copy_z"]


def test_few_samples_give_a_larger_value(linear_mdnrnn, episodes):
    mdnrnn = linear_mdnrnn(DECAY, GAIN, std=STD)
    (few,) = measure(mdnrnn, episodes, [15], samples=4)
    (many,) = measure(mdnrnn, episodes, [15], samples=200)
    assert few["nll"] > many["nll"] + 0.05


def test_a_wrong_m_is_seen(linear_mdnrnn, episodes):
    for wrong in ({"decay": 0.4}, {"gain": 0.0}, {"std": 0.3}):
        mdnrnn = linear_mdnrnn(**{"decay": DECAY, "gain": GAIN, "std": STD, **wrong})
        assert measure(mdnrnn, episodes, [1])[0]["nll"] > analytic(1) + 0.3


def test_baselines_of_white_noise(linear_mdnrnn):
    """z is a sample of N(0, 1) at every step."""
    zeros = np.zeros((101, 1), np.float32)
    noise = [latents(zeros, zeros, zeros[1:])] * 10
    (row,) = measure(linear_mdnrnn(std=1.0, decay=0.0), noise, [3], count=4000)
    assert row["entropy"] == pytest.approx(HALF_LOG_2PIE)
    for value in (row["nll"], row["standard_normal"]):
        assert value == pytest.approx(HALF_LOG_2PIE, abs=0.04)
    assert row["copy_z"] == pytest.approx(HALF_LOG_2PIE + 0.5 * math.log(2), abs=0.04)


def test_windows_that_end_too_soon_are_left_out(linear_mdnrnn):
    generator = np.random.default_rng(0)
    some = [episode(10, generator), episode(30, generator)]  # 11 and 31 frames
    rows = measure(linear_mdnrnn(), some, [1, 8, 25, 40], samples=2, count=200)
    assert [row["windows"] + row["left_out"] for row in rows] == [200] * 4
    assert rows[0]["left_out"] == 0
    assert 0 < rows[1]["left_out"] < rows[2]["left_out"] < 200
    assert rows[3]["windows"] == 0
    assert math.isnan(rows[3]["nll"])
    with pytest.raises(InputError, match="no held-out episode has more than 40 frames"):
        sample_windows(some, count=3, warmup=40, horizon=1, seed=0)


def test_a_joint_mixture_is_judged_by_its_marginals():
    logits, means = torch.tensor([[0.3], [-1.0]]), torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    mixture = Mixture(logits, means, torch.zeros(2, 2))
    value = torch.tensor([0.5, -0.2])
    each = marginals(mixture).log_prob(value)
    weights = logits[:, 0].softmax(0)
    for i in range(2):
        normals = torch.exp(-0.5 * (value[i] - means[:, i]) ** 2) / math.sqrt(2 * math.pi)
        assert float(each[i].exp()) == pytest.approx(float((weights * normals).sum()))


def test_the_generators_pit_is_uniform(linear_mdnrnn, episodes):
    generator = torch_generator(0, "test")
    right, narrow = (
        uniformity(transforms(linear_mdnrnn(DECAY, GAIN, std=std), episodes, generator))
        for std in (STD, STD / 2)
    )
    assert right["steps"] == 20 * 60
    assert right["ks"] < 1.63 / math.sqrt(right["steps"])  # 99% of such samples
    assert narrow["ks"] > 0.1


def test_ends_are_predicted_from_the_step_that_ends(linear_mdnrnn, episodes):
    """This M predicts the end where 1 < a: nowhere; and where -2 < a: everywhere."""
    generator = torch_generator(0, "test")
    for threshold, low, high in ((1.1, 0.0, 0.5), (-2.0, 0.5, 1.0)):
        mdnrnn = linear_mdnrnn(DECAY, GAIN, std=STD, ends=[0.0, 1.0], threshold=threshold)
        p, ended = predicted_ends(mdnrnn, episodes, generator)
        assert ended.sum() == 20
        assert low < p.min() < p.max() < high


def test_risks_are_those_of_the_chosen_actions():
    """Whatever it sees, this M gives the risk .25 to choice 0 and .75 to choice 1."""
    head = RiskHead(choices=2, horizons=(1, 3), hidden=())
    mdnrnn = MDNRNN(MDNRNNConfig(hidden_size=4, num_mixtures=1), 1, 2, [head])
    (layer,) = mdnrnn.layers_of(head).children()
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([-1.0, 1.0] * 2) * math.log(3))
    choices = [0, 0, 1, 0, 1]
    # damage in step 3 and the end in step 4
    one = latents(np.zeros((6, 1)), np.zeros((6, 1)), np.eye(2, dtype=np.float32)[choices])
    one = replace(one, marked=np.arange(5) == 3, terminated=np.arange(5) == 4)
    found = predicted_risks(mdnrnn, head, [one], torch_generator(0, "test"))
    assert found[1][0].tolist() == pytest.approx([0.25, 0.75, 0.25, 0.75])  # from step 1 on
    assert found[1][1].tolist() == [False, False, True, True]
    assert found[3][0].tolist() == pytest.approx([0.25, 0.75, 0.25, 0.75])
    assert found[3][1].tolist() == [True, True, True, True]
    going_on = replace(one, terminated=np.zeros(5, bool))
    longer = latents(np.zeros((9, 1)), np.zeros((9, 1)), np.eye(2, dtype=np.float32)[[0] * 8])
    found = predicted_risks(mdnrnn, head, [going_on, longer], torch_generator(0, "test"))
    # what comes within three steps of the last two is not known
    assert found[3][1].tolist() == [True, True, *[False] * 4, *[True] * 3]


def test_skill():
    p, came = np.array([0.1, 0.1, 0.5, 0.9]), np.array([False, True, False, True])
    found = skill(p, came)
    assert (found["steps"], found["predicted"], found["observed"]) == (4, 0.4, 0.5)
    loss = -(2 * math.log(0.9) + math.log(0.1) + math.log(0.5)) / 4
    assert found["cross_entropy"] == pytest.approx(loss / math.log(2))
    assert found["auc"] == (0.5 + 0.0 + 1.0 + 1.0) / 4
    assert skill(np.full(4, 0.5), came)["cross_entropy"] == pytest.approx(1.0)
    for always in (np.ones(4, bool), np.zeros(4, bool), np.zeros(0, bool)):
        one = skill(p[: len(always)], always)
        assert np.isnan([one["cross_entropy"], one["auc"]]).all()


def test_true_probabilities_have_the_most_skill(events):
    p, came = events
    best = skill(p.clip(1e-6, 1 - 1e-6), came)
    assert best["predicted"] == pytest.approx(best["observed"], abs=0.005)
    for other in (p**2, p**0.5):
        one = skill(other.clip(1e-6, 1 - 1e-6), came)
        assert one["auc"] == pytest.approx(best["auc"], abs=0.001)
        assert one["cross_entropy"] > best["cross_entropy"] + 0.02


@pytest.fixture
def truth():
    """A mixture, and samples of it."""
    generator = torch_generator(0, "truth")
    parts = [torch.randn(K, Z, generator=generator).expand(N, K, Z) for _ in range(3)]
    mixture = Mixture(*parts)
    return mixture, mixture.sample(generator=generator)


def test_the_true_mixture_is_uniform(truth):
    mixture, values = truth
    found = uniformity(mixture.cdf(values).numpy())
    assert found["worst_ks"] < 1.95 / math.sqrt(N)  # 99.9% of such samples
    assert np.mean(found["histogram"]) == pytest.approx(1.0)
    assert np.abs(np.array(found["histogram"]) - 1).max() < 0.1
    assert len(found["histogram"]) == 20
    assert found["steps"] == N


@pytest.mark.parametrize(("factor", "edge"), [(0.5, "more"), (2.0, "less")])
def test_a_mixture_of_the_wrong_width(truth, factor, edge):
    mixture, values = truth
    wrong = Mixture(mixture.logits, mixture.means, mixture.log_stds + math.log(factor))
    found = uniformity(wrong.cdf(values).numpy())
    assert found["ks"] > 0.02
    assert (found["histogram"][0] > 1) == (edge == "more")
    assert (found["histogram"][-1] > 1) == (edge == "more")


def test_the_worst_dimension_is_named():
    pit = np.random.default_rng(0).random((1000, 4))
    pit[:, 2] **= 2
    found = uniformity(pit)
    assert found["worst_dimension"] == 2
    assert found["worst_ks"] > found["ks"]


@pytest.fixture
def events():
    """Rare events, and their probabilities."""
    generator = np.random.default_rng(0)
    p = generator.random(STEPS) ** 4
    return p, generator.random(STEPS) < p


def test_a_perfectly_calibrated_head(events):
    p, ended = events
    found = calibration(p, ended)
    assert found["ece"] < 0.005
    assert found["brier"] == pytest.approx(np.mean(p * (1 - p)), abs=0.003)
    assert found["brier"] < 0.7 * found["no_skill"]
    assert found["predicted"] == pytest.approx(found["observed"], abs=0.005)
    assert found["steps"] == STEPS
    for bin_ in found["bins"]:
        error = 4 * np.sqrt(bin_["predicted"] * (1 - bin_["predicted"]) / bin_["count"])
        assert bin_["predicted"] <= bin_["high"]
        assert bin_["observed"] == pytest.approx(bin_["predicted"], abs=error)
    assert sum(bin_["count"] for bin_ in found["bins"]) == STEPS


def test_the_share_alone_has_no_skill(events):
    _, ended = events
    share = ended.mean()
    found = calibration(np.full(STEPS, share), ended)
    assert found["brier"] == pytest.approx(found["no_skill"])
    assert found["ece"] == pytest.approx(0.0, abs=1e-9)
    assert sum(bin_["count"] > 0 for bin_ in found["bins"]) == 1
    assert sum(np.isnan(bin_["observed"]) for bin_ in found["bins"]) == len(found["bins"]) - 1


def test_exact_numbers():
    found = calibration(np.array([0.0, 0.25, 0.75, 1.0]), np.array([False, False, True, False]))
    assert found["brier"] == (0.25**2 * 2 + 1) / 4
    assert found["no_skill"] == 0.25 * 0.75
    assert found["ece"] == (0.25 + 0.25 + 1.0) / 4


def test_a_head_trained_with_weighted_ends_means_less_than_it_says(events):
    """The least weighted cross-entropy lies at w q / (w q + 1 - q)."""
    q, ended = events
    grid = np.linspace(0.0005, 0.9995, 2000)
    for each, weight in ((0.02, 10.0), (0.3, 3.0)):
        loss = -weight * each * np.log(grid) - (1 - each) * np.log(1 - grid)
        assert unweighted(grid[[loss.argmin()]], weight)[0] == pytest.approx(each, abs=0.002)
    said = 10 * q / (10 * q + 1 - q)
    assert calibration(said, ended)["ece"] > 0.1
    assert calibration(unweighted(said, 10.0), ended)["ece"] < 0.005
    np.testing.assert_allclose(unweighted(q, 1.0), q)
