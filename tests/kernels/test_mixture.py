"""The compiled loss of mixtures is the plain one, and so is its gradient."""

import pytest
import torch

from worldmodels.kernels.mixture import MixtureNLL
from worldmodels.models.mixture import split_mixture

pytestmark = pytest.mark.bfloat16


def test_the_mixtures_gradient_is_autograds():
    torch.manual_seed(0)
    h, values = torch.randn(7, 8).bfloat16(), torch.randn(7, 3)
    weight = torch.randn(18, 8).bfloat16().float()
    weight[12:] *= 5  # some deviations leave their bounds, and not all gradients lead back
    weights, bias = torch.rand(7), torch.randn(18)
    leaves = [t.requires_grad_() for t in (h, weight, bias)]
    ours = MixtureNLL.apply(h, weight, bias, values, weights)
    mixture = split_mixture((h @ weight.bfloat16().T).float() + bias, 3, 2)
    assert (mixture.log_stds == 7).any()
    theirs = -(weights[:, None] * mixture.log_prob(values)).sum()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    # all slopes are doubled, for whatever is made of the loss
    for a, b in zip(*(torch.autograd.grad(2 * x, leaves) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0.03, atol=0.01 * float(b.detach().abs().max()))


def test_deviations_below_their_bound_are_learned():
    values = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    bias = torch.tensor([0.0, 0.0, 0.0, 0.0, -9.0, 9.0], requires_grad=True)
    h, weight, shares = (
        torch.zeros(400, 4).bfloat16(),
        torch.zeros(6, 4),
        torch.full((400,), 1 / 800),
    )
    optimizer = torch.optim.Adam([bias], 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        MixtureNLL.apply(h, weight, bias, values, shares).backward()
        torch.nn.utils.clip_grad_value_([bias], 1.0)
        optimizer.step()
    assert bias[4:].exp().tolist() == pytest.approx(values.std(0).tolist(), rel=0.1)
