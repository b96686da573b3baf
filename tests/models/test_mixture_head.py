"""Raw outputs as mixtures: sizes, limits, correlations, the masked loss and its gradients."""

import pytest
import torch
from torch import Tensor

from worldmodels.models.mixture import (
    MixtureHead,
    MixtureKind,
    correlation_factor,
    mixture_loss,
    mixture_size,
    split_mixture,
)

KINDS: tuple[MixtureKind, ...] = ("per_dimension", "joint", "correlated")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_loss_and_gradients_stay_finite(kind: MixtureKind, scale: float) -> None:
    parameters = (torch.randn(8, mixture_size(4, 5, kind)) * scale).requires_grad_()
    loss = mixture_loss(split_mixture(parameters, 4, 5, kind), torch.randn(8, 4) * scale)
    loss.backward()
    assert loss.isfinite()
    assert parameters.grad is not None
    assert parameters.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_right(kind: MixtureKind) -> None:
    def loss(parameters: Tensor) -> Tensor:
        return mixture_loss(split_mixture(parameters, 2, 3, kind), torch.ones(2, 2).double())

    parameters = torch.randn(2, mixture_size(2, 3, kind)).double()
    assert torch.autograd.gradcheck(loss, parameters.requires_grad_())


def test_masked_places_do_not_count() -> None:
    parameters = torch.randn(4, mixture_size(4, 5, "joint"), dtype=torch.float64)
    mixture, value = split_mixture(parameters, 4, 5, "joint"), torch.zeros(4, 4).double()
    mask = torch.tensor([True, False, True, False])
    torch.testing.assert_close(
        mixture_loss(mixture, value, mask), mixture.nll(value)[[0, 2]].mean()
    )
    assert mixture_loss(mixture, value, torch.zeros(4, dtype=torch.bool)).item() == 0


def test_head_clamps_and_counts_its_parameters() -> None:
    head = MixtureHead(256, 32, 5, min_log_std=-1.0, max_log_std=0.5)
    log_stds = head(100 * torch.randn(10, 256)).log_stds
    assert (log_stds.min().item(), log_stds.max().item()) == (-1.0, 0.5)
    assert head.linear.out_features == mixture_size(32, 5) == 480
    assert mixture_size(32, 5, "joint") == 5 * 65
    assert mixture_size(2, 20, "correlated") == 20 * 6  # Graves 2013, with a pen 121
    assert mixture_size(4, 1, "correlated") == 9 + 6
    assert MixtureHead(8, 4, 2, "joint")(torch.randn(3, 8)).joint


@pytest.mark.parametrize("size", [1, 2, 5])
def test_factors_are_those_of_correlation_matrices(size: int) -> None:
    raw = 3 * torch.randn(50, size * (size - 1) // 2, dtype=torch.float64)
    factors = correlation_factor(raw, size)
    matrices = factors @ factors.mT
    diagonals = matrices.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(diagonals, torch.ones(50, size, dtype=torch.float64))
    assert (factors.triu(1) == 0).all()
    assert (factors.diagonal(dim1=-2, dim2=-1) > 0).all()


def test_in_two_dimensions_rho_is_a_tanh() -> None:
    factor = correlation_factor(torch.tensor([0.4]), 2)
    rho = torch.tanh(torch.tensor(0.4))
    expected = torch.stack([rho, (1 - rho**2).sqrt()])
    torch.testing.assert_close(factor[1], expected)
