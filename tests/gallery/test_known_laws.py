"""densities, arcsine, spiral, walk: the numbers that are known in advance."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from worldmodels.gallery import arcsine, densities, spiral, walk
from worldmodels.gallery.system import initialised
from worldmodels.models.mixture import Mixture


@pytest.mark.parametrize(
    ("name", "mean", "variance", "cdf", "entropy"),
    [("two", 0.0, 31.5, 0.520790, 2.9468), ("three", 1.2, 54.1975, None, 3.2265)],
)
def test_facts_of_the_densities(name, mean, variance, cdf, entropy):
    found = densities.facts(densities.mixture_of(name))
    assert found["integral"] == pytest.approx(1, abs=1e-6)
    assert found["mean"] == pytest.approx(mean)
    assert found["variance"] == pytest.approx(variance)
    assert found["entropy"] == pytest.approx(entropy, abs=5e-5)
    if cdf is not None:
        assert found["cdf_at_0"] == pytest.approx(cdf, abs=5e-7)
        assert found["modes"] == pytest.approx([-4.988, 5.000], abs=5e-4)


def test_close_normals_have_one_mode():
    means = torch.tensor([[-0.5], [0.5]], dtype=torch.float64)
    mixture = Mixture(torch.zeros(2, 1).double(), means, torch.zeros(2, 1).double())
    assert densities.facts(mixture)["modes"] == pytest.approx([0], abs=1e-4)


def test_a_normal_needs_the_nats_of_its_variance():
    truth = densities.mixture_of("two")
    normal = Mixture(torch.zeros(1, 1), truth.mean[:, None], truth.variance.log()[:, None] / 2)
    expected = 0.5 * math.log(2 * math.pi * math.e * 31.5)
    assert densities.cross_entropy(truth, normal) == pytest.approx(expected)


def test_parameters_of_the_inverse_problem():
    mean = arcsine.mean_network(15)
    mixture = arcsine.mixture_network(15, 5)
    assert sum(p.numel() for p in mean.parameters()) == 286
    assert sum(p.numel() for p in mixture.parameters()) == 510


def test_floors_of_the_inverse_problem():
    """By integration over y: the entropy and variance of the true law of y given x."""
    x, y = arcsine.sample(4000, torch.Generator().manual_seed(0))
    grid = torch.linspace(-arcsine.LIMIT, arcsine.LIMIT, 4001)
    weights = torch.exp(-0.5 * (x - arcsine.curve(grid)) ** 2)
    density = weights / torch.trapezoid(weights, grid)[:, None]
    here = torch.exp(-0.5 * (x - arcsine.curve(y)) ** 2) / torch.trapezoid(weights, grid)[:, None]
    assert -here.log().mean().item() == pytest.approx(arcsine.FLOOR_NLL, abs=0.05)
    means = torch.trapezoid(density * grid, grid)
    variances = torch.trapezoid(density * (grid - means[:, None]) ** 2, grid)
    assert variances.mean().item() == pytest.approx(arcsine.FLOOR_MSE, rel=0.03)


def test_floors_of_the_spiral():
    for rho, floor in ((0.0, 2.838), (0.7, 2.501)):
        noise = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, rho], [rho, 1.0]]))
        assert spiral.floor(rho) == pytest.approx(noise.entropy().item(), abs=1e-6)
        assert spiral.floor(rho) == pytest.approx(floor, abs=5e-4)


def test_the_spirals_noise_is_correlated():
    z, xy = spiral.sample(100_000, 0.7, torch.Generator().manual_seed(0))
    clean = torch.cat([7 * torch.sin(0.75 * z) + 0.5 * z, 6.5 * torch.cos(0.8 * z) + 0.5 * z], 1)
    found = torch.cov((xy - clean).T)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.7], [0.7, 1.0]]), atol=0.02, rtol=0.0)


def test_the_walks_law_is_exact():
    """Its NLL is the entropy of the choices plus the noise's, where the normals lie apart."""
    walks = walk.sample(2000, 30, 0.02, torch.Generator().manual_seed(0))
    found = walk.nll(walk.exact_mixture(walks, 0.02), walks.moves, 0)
    choices = walk.CHOICES[walks.choices[:, :-1]]
    entropy = -torch.xlogy(choices, choices).sum(-1).mean().item()
    noise = math.log(2 * math.pi * math.e) + 2 * math.log(0.02)
    assert found == pytest.approx(entropy + noise, abs=0.02)


def test_nobody_turns_the_same_way_twice():
    walks = walk.sample(500, 30, 0.1, torch.Generator().manual_seed(0))
    turns = 1 - walks.choices
    assert not ((turns[:, 1:] == turns[:, :-1]) & (turns[:, 1:] != 0)).any()
    steps = torch.diff(walks.headings, dim=1) / walk.TURN
    torch.testing.assert_close(steps, turns[:, 1:].float(), atol=1e-4, rtol=0.0)


def test_permuted_walks_keep_their_last_moves():
    walks = walk.sample(20, 12, 0.1, torch.Generator().manual_seed(0))
    found = walk.permuted(walks.moves, torch.Generator().manual_seed(1))
    assert torch.equal(found[:, -2:], walks.moves[:, -2:])
    assert torch.equal(found.sort(1).values, walks.moves.sort(1).values)
    assert not torch.equal(found, walks.moves)


def test_initial_weights_depend_on_the_seed_alone():
    first, again = (initialised(1, "a", make=lambda: torch.nn.Linear(2, 2)) for _ in range(2))
    np.testing.assert_array_equal(first.weight.detach(), again.weight.detach())
