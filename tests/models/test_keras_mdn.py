"""keras-mdn-layer's own cases, run on our mixture: `pip install -e ".[conformance]"`.

Their test classes are taken as they are; what they call in their package is answered by ours. Left
out are the cases of their Keras layer, its training and its saved models.
"""

import os

import numpy as np
import pytest
import torch

from worldmodels.models.mixture import Mixture, Temperature, mixture_loss

os.environ.setdefault("KERAS_BACKEND", "torch")
mdn = pytest.importorskip("keras_mdn_layer", reason="an extra of development: conformance")

from keras_mdn_layer.tests import test_mdn, test_mdn_math  # noqa: E402
from keras_mdn_layer.tests.test_mdn_math import (  # noqa: E402
    TestMixtureNLL,
    TestNumericalStability,
    TestSamplingCorrectness,
    TestSingleGaussianNLL,
)

__all__ = [  # pytest collects them from here
    "TestMixtureNLL",
    "TestNumericalStability",
    "TestSamplingCorrectness",
    "TestSingleGaussianNLL",
]


def ours(parameters, size, count):
    """Their layout, means, deviations, logits, as a joint mixture."""
    sizes = [size * count, size * count, count]
    values = torch.as_tensor(np.asarray(parameters), dtype=torch.float32).reshape(-1, sum(sizes))
    means, stds, logits = values.split(sizes, -1)
    shape = (len(values), count, size)
    return Mixture(logits[..., None], means.reshape(shape), stds.reshape(shape).log())


def loss_function(size, count):
    def loss(value, parameters):
        mixture = ours(parameters, size, count)
        return size * mixture_loss(mixture, torch.as_tensor(np.asarray(value)).reshape(-1, size))

    return loss


def sampling_function(size, count):
    return lambda parameters: ours(parameters, size, count).sample().numpy()


def sample_from_output(parameters, output_dim, num_mixes, temp=1.0, sigma_temp=1.0):
    assert len(parameters) == num_mixes + 2 * output_dim * num_mixes
    temperature = Temperature.world_models(temp, sigma_temp)
    return ours(parameters, output_dim, num_mixes).sample(temperature)[0].numpy()


@pytest.fixture(autouse=True)
def answered_by_us(monkeypatch):
    torch.manual_seed(0)
    for module in (test_mdn_math.mdn, test_mdn.mdn):
        monkeypatch.setattr(module, "get_mixture_loss_func", loss_function)
        monkeypatch.setattr(module, "get_mixture_sampling_fun", sampling_function)
        monkeypatch.setattr(module, "sample_from_output", sample_from_output)


@pytest.mark.parametrize(
    "case",
    [
        test_mdn.test_sample_from_output_basic,
        test_mdn.test_sample_from_output_temperature,
        test_mdn.test_sample_from_output_invalid,
        test_mdn.test_loss_function_runs,
        test_mdn.test_loss_function_decreases_with_closer_predictions,
        test_mdn.test_mixture_sampling_fun,
    ],
    ids=lambda case: case.__name__,
)
def test_their_functions(case):
    case()
