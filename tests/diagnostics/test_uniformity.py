"""PIT: uniform under the true mixture, and shaped by what is wrong with another."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from worldmodels.diagnostics.uniformity import ks_from_uniform, uniformity
from worldmodels.models.mixture import Mixture
from worldmodels.seeding import torch_generator

N, Z, K = 20_000, 3, 2


@pytest.fixture
def truth():
    """A mixture, and values drawn from it."""
    generator = torch_generator(0, "truth")
    parts = [torch.randn(K, Z, generator=generator).expand(N, K, Z) for _ in range(3)]
    mixture = Mixture(*parts)
    return mixture, mixture.sample(generator=generator)


def test_the_true_mixture_is_uniform(truth):
    mixture, values = truth
    found = uniformity(mixture.pit(values).numpy())
    assert found.worst_ks < 1.95 / math.sqrt(N)  # 99.9% of such samples
    assert np.mean(found.histogram) == pytest.approx(1.0)
    assert np.abs(np.array(found.histogram) - 1).max() < 0.1
    assert len(found.histogram) == 20
    assert found.steps == N


@pytest.mark.parametrize(("factor", "edge"), [(0.5, "more"), (2.0, "less")])
def test_a_mixture_of_the_wrong_width(truth, factor, edge):
    mixture, values = truth
    wrong = Mixture(mixture.logits, mixture.means, mixture.log_stds + math.log(factor))
    found = uniformity(wrong.pit(values).numpy())
    assert found.ks > 0.02
    assert (found.histogram[0] > 1) == (edge == "more")
    assert (found.histogram[-1] > 1) == (edge == "more")


def test_the_worst_dimension_is_named():
    pit = np.random.default_rng(0).random((1000, 4))
    pit[:, 2] **= 2
    found = uniformity(pit)
    assert found.worst_dimension == 2
    assert found.worst_ks > found.ks


def test_the_distance_is_that_of_kolmogorov_and_smirnov():
    values = np.random.default_rng(0).beta(2, 3, 500)
    assert ks_from_uniform(values) == pytest.approx(stats.kstest(values, "uniform").statistic)
