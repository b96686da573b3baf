"""NLL by horizon: an M that is the generator reaches the law's own entropy, and no other does."""

import math

import numpy as np
import pytest
import torch

from worldmodels.data.episode import LatentEpisode
from worldmodels.diagnostics.likelihood import (
    HALF_LOG_2PIE,
    marginals,
    nll_by_horizon,
    predict,
    sample_windows,
)
from worldmodels.diagnostics.uniformity import uniformity
from worldmodels.errors import InputError
from worldmodels.models.mixture import Mixture
from worldmodels.seeding import torch_generator

DECAY, GAIN, STD = 0.8, 0.5, 0.1


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
    settings = {"samples": 200, "latent_noise": 0.0, "count": 400, **options}
    count = settings.pop("count")
    batch = sample_windows(episodes, count=count, warmup=4, horizon=max(horizons), seed=0)
    settings["generator"] = torch_generator(0, "test")
    return nll_by_horizon(mdnrnn, batch, warmup=4, horizons=horizons, **settings)


def analytic(horizon):
    """½ ln 2πe v of a walk that forgets: v = s² Σ_{j<k} decay^2j."""
    return HALF_LOG_2PIE + 0.5 * math.log(STD**2 * sum(DECAY ** (2 * j) for j in range(horizon)))


def test_the_generator_itself_reaches_the_analytic_value(linear_mdnrnn, episodes):
    for row in measure(linear_mdnrnn(DECAY, GAIN, std=STD), episodes):
        assert row.nll == pytest.approx(analytic(row.horizon), abs=0.1)
        assert row.nll_limit == pytest.approx(analytic(row.horizon), abs=0.1)
        assert row.entropy == -math.inf  # z is mu alone
        assert row.nll < row.data_normal
        assert row.nll < row.copy_z


def test_few_samples_look_worse_and_their_limit_does_not(linear_mdnrnn, episodes):
    mdnrnn = linear_mdnrnn(DECAY, GAIN, std=STD)
    (few,) = measure(mdnrnn, episodes, [15], samples=4)
    (many,) = measure(mdnrnn, episodes, [15], samples=200)
    assert few.nll > many.nll + 0.05
    assert abs(few.nll_limit - many.nll) < 0.5 * (few.nll - many.nll)
    (one,) = measure(mdnrnn, episodes, [15], samples=1)
    assert math.isnan(one.nll_limit)


def test_a_wrong_m_is_seen(linear_mdnrnn, episodes):
    for wrong in ({"decay": 0.4}, {"gain": 0.0}, {"std": 0.3}):
        mdnrnn = linear_mdnrnn(**{"decay": DECAY, "gain": GAIN, "std": STD, **wrong})
        assert measure(mdnrnn, episodes, [1])[0].nll > analytic(1) + 0.3


def test_baselines_of_white_noise(linear_mdnrnn):
    """z is drawn from N(0, 1) at every step."""
    zeros = np.zeros((101, 1), np.float32)
    noise = [latents(zeros, zeros, zeros[1:])] * 10
    (row,) = measure(linear_mdnrnn(std=1.0, decay=0.0), noise, [3], latent_noise=1.0, count=4000)
    assert row.entropy == pytest.approx(HALF_LOG_2PIE)
    for value in (row.nll, row.data_normal, row.standard_normal):
        assert value == pytest.approx(HALF_LOG_2PIE, abs=0.04)
    assert row.copy_z == pytest.approx(HALF_LOG_2PIE + 0.5 * math.log(2), abs=0.04)


def test_windows_that_end_too_soon_are_left_out(linear_mdnrnn):
    generator = np.random.default_rng(0)
    some = [episode(10, generator), episode(30, generator)]  # 11 and 31 frames
    rows = measure(linear_mdnrnn(), some, [1, 8, 25, 40], samples=2, count=200)
    assert [row.windows + row.left_out for row in rows] == [200] * 4
    assert rows[0].left_out == 0
    assert 0 < rows[1].left_out < rows[2].left_out < 200
    assert rows[3].windows == 0
    assert math.isnan(rows[3].nll)
    with pytest.raises(InputError, match="no episode looked at has more than 40 frames"):
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
        uniformity(predict(linear_mdnrnn(DECAY, GAIN, std=std), episodes, 0.0, generator).pit)
        for std in (STD, STD / 2)
    )
    assert right.steps == 20 * 60
    assert right.ks < 1.63 / math.sqrt(right.steps)  # 99% of such samples
    assert narrow.ks > 0.1


def test_ends_are_predicted_from_the_step_that_ends(linear_mdnrnn, episodes):
    """This M predicts the end where 1 < a: nowhere; and where -2 < a: everywhere."""
    generator = torch_generator(0, "test")
    for threshold, low, high in ((1.1, 0.0, 0.5), (-2.0, 0.5, 1.0)):
        mdnrnn = linear_mdnrnn(DECAY, GAIN, std=STD, ends=[0.0, 1.0], threshold=threshold)
        found = predict(mdnrnn, episodes, 0.0, generator)
        assert found.ended.sum() == 20
        assert low < found.end.min() < found.end.max() < high
    assert predict(linear_mdnrnn(), episodes, 0.0, generator).end is None
