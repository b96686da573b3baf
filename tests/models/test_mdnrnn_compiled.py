"""The compiled M is the plain one up to rounding, and learns as well."""

import math
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace

import pytest
import torch

from worldmodels.models.heads.returns import ReturnHead
from worldmodels.models.heads.reward import CountHead, RewardHead
from worldmodels.models.heads.risk import RiskHead
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig, Prediction
from worldmodels.models.mixture import mixture_loss
from worldmodels.models.sequence import SequenceBatch
from worldmodels.precision import set_precision
from worldmodels.stages.fit import adam
from worldmodels.stages.train_mdnrnn import TrainMDNRNNConfig, mdnrnn_loss

CONFIG = TrainMDNRNNConfig()
SMALL = MDNRNNConfig(hidden_size=24, num_mixtures=3, restart_input=True)


def batch_of(seed, B=5, T=11, Z=4):
    """Latents that follow what the action and the latents before say; ends of windows unknown."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    actions, mu = normal(B, T, 2).sign(), normal(B, T + 1, Z)
    for t in range(T):
        mu[:, t + 1] = 0.8 * mu[:, t].roll(1, -1) + 0.5 * actions[:, t, :1] + 0.1 * mu[:, t + 1]
    valid = torch.arange(T).expand(B, T) < torch.randint(T // 2, T + 1, (B, 1), generator=generator)
    ends = (torch.rand(B, T, generator=generator) < 0.1).float()
    first = (torch.arange(T) == 0).float().expand(B, T)
    known = valid & (ends == 0)
    marked = ends.roll(3, 1)
    flags = ends, ends, marked, first, valid, known
    return SequenceBatch(mu, torch.full_like(mu, -4), actions, 3 * actions[..., 0], *flags)


def losses(mdnrnn, batch):
    return mdnrnn_loss(mdnrnn, batch, CONFIG, torch.Generator().manual_seed(0))


@contextmanager
def plainly():
    """M layer by layer, as PyTorch computes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MDNRNN, "_compiled", lambda self, x, state, valid: self._plain(x, state))
        patch.setattr(Prediction, "_compiled_nll", lambda self, *a: mixture_loss(self.mixture, *a))
        yield


@pytest.fixture(params=["float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16)])
def tolerance(request):
    """How near the plain M's numbers are in each precision, which is set."""
    set_precision(request.param)
    return {"float32": 1e-4, "bfloat16": 0.02}[request.param]


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        (SMALL, [RewardHead(), TerminationHead()]),
        (
            replace(SMALL, hidden_size=25, restart_input=False),
            [CountHead(count_limit=2.0)],
        ),
        (replace(SMALL, mixture="joint"), [TerminationHead()]),
        (SMALL, [TerminationHead(), RiskHead(choices=2, horizons=(1, 4), hidden=())]),
        (SMALL, [RiskHead(choices=2, horizons=(2,), hidden=(6,), dropout=0.3)]),
        (SMALL, [ReturnHead(choices=2, horizons=(2, 3), hidden=(6,))]),
    ],
)
def test_the_loss_and_its_gradients_are_the_plain_ones(config, heads, tolerance):
    torch.manual_seed(0)
    mdnrnn, batch = MDNRNN(config, 4, 2, heads), batch_of(0)
    ours, parts = losses(mdnrnn, batch)
    with plainly():
        theirs, expected = losses(mdnrnn, batch)
    assert parts.keys() == expected.keys()
    for name, part in parts.items():
        torch.testing.assert_close(part, expected[name], rtol=tolerance / 2, atol=tolerance / 2)
    trainable = [p for p in mdnrnn.parameters() if p.requires_grad]
    for a, b in zip(*(torch.autograd.grad(x, trainable) for x in (ours, theirs)), strict=True):
        atol = tolerance * float(b.detach().abs().max())
        torch.testing.assert_close(a, b, rtol=0.05, atol=atol)


def after(mdnrnn, *steps):
    """h after each step, in float32, and the last state."""
    prediction, state = mdnrnn(*steps)
    return prediction.h.float(), state


@pytest.mark.bfloat16
def test_without_gradients_everything_is_float32():
    mdnrnn, z = MDNRNN(replace(SMALL, restart_input=False), 4, 0), torch.randn(2, 3, 4)
    set_precision("bfloat16")
    assert mdnrnn(z, None, None)[0].h.dtype == torch.bfloat16
    with torch.no_grad():
        assert mdnrnn(z, None, None)[0].h.dtype == torch.float32


def test_what_comes_before_learns_through_it(tolerance):
    torch.manual_seed(0)
    mdnrnn = MDNRNN(replace(SMALL, restart_input=False), 4, 2)
    leaves = [torch.randn(*size, requires_grad=True) for size in ((5, 11, 6), (5, 24), (5, 24))]
    sequence, *state = leaves
    told, slopes = sequence.split([4, 2], -1), torch.randn(5, 11, 24)
    ours, last = after(mdnrnn, *told, None, tuple(state))
    with plainly():
        theirs, expected = after(mdnrnn, *told, None, tuple(state))
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance / 2)
    for mine, other in zip(last, expected, strict=True):
        torch.testing.assert_close(mine, other.detach(), rtol=tolerance, atol=tolerance / 2)
    for a, b in zip(*(torch.autograd.grad(h, leaves, slopes) for h in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=tolerance * float(b.abs().max()))


def test_rows_that_are_over_are_left_out(tolerance):
    torch.manual_seed(0)
    mdnrnn, z = MDNRNN(replace(SMALL, restart_input=False), 4, 2), torch.randn(4, 6, 4)
    told, weights = torch.randn(4, 6, 2), list(mdnrnn.lstm.parameters())[:3]
    valid = torch.arange(6) < torch.tensor([6, 4, 4, 1])[:, None]
    whole, short = (after(mdnrnn, z, told, None, None, v)[0][valid] for v in (None, valid))
    torch.testing.assert_close(whole, short, rtol=tolerance, atol=1e-6)
    slopes = torch.randn(whole.shape)
    both = (torch.autograd.grad(h, weights, slopes) for h in (whole, short))
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance / 2 * float(b.abs().max()))


def test_an_empty_mask_has_no_loss(tolerance):
    mdnrnn, batch = MDNRNN(SMALL, 4, 2), batch_of(0)
    nothing = replace(batch, next_known=torch.zeros_like(batch.next_known))
    loss, _ = losses(mdnrnn, nothing)
    loss.backward()
    assert loss == 0
    assert not any(p.grad.any() for p in mdnrnn.parameters() if p.grad is not None)


def learned(way):
    """M's NLL of other windows after some training."""
    torch.manual_seed(1)
    mdnrnn = MDNRNN(SMALL, 4, 2, [TerminationHead()])
    optimizer = adam(mdnrnn, 5e-3)
    for step in range(300):
        optimizer.zero_grad()
        with way():
            losses(mdnrnn, batch_of(step, 16))[0].backward()
        optimizer.step()
    with plainly():
        return losses(mdnrnn, batch_of(9999, 256))[1]["nll"].item()


@pytest.fixture(scope="module")
def learned_plainly():
    return learned(plainly)


def test_it_learns_as_well_as_the_plain_one(tolerance, learned_plainly):
    assert learned_plainly < 0.3
    assert learned(nullcontext) == pytest.approx(learned_plainly, abs=0.02)


def test_a_batch_of_no_windows_has_no_loss(tolerance):
    torch.manual_seed(0)
    mdnrnn, batch = MDNRNN(SMALL, 4, 2, [RewardHead(), TerminationHead()]), batch_of(0)
    none = SequenceBatch(*(getattr(batch, f.name)[:0] for f in fields(batch)))
    loss, _ = losses(mdnrnn, none)
    loss.backward()
    assert loss == 0


def test_targets_that_a_mask_hides_may_be_nan(tolerance):
    torch.manual_seed(0)
    heads = [
        RewardHead(),
        TerminationHead(),
        RiskHead(choices=2, horizons=(2,), hidden=()),
        ReturnHead(choices=2, horizons=(2,), hidden=()),
    ]
    mdnrnn, batch = MDNRNN(SMALL, 4, 2, heads), batch_of(0)
    hidden = ~batch.valid
    rewards, ends = (
        part.masked_fill(hidden, math.nan) for part in (batch.rewards, batch.terminated)
    )
    dirty = replace(batch, rewards=rewards, terminated=ends)
    weights = [p for p in mdnrnn.parameters() if p.requires_grad]
    found = [losses(mdnrnn, b)[0] for b in (batch, dirty)]
    assert torch.equal(*found)
    for a, b in zip(*(torch.autograd.grad(x, weights) for x in found), strict=True):
        assert torch.equal(a, b)


def test_targets_of_another_shape_are_refused(tolerance, no_type_checks):
    prediction, _ = MDNRNN(replace(SMALL, restart_input=False), 4, 0)(
        torch.randn(2, 3, 4), None, None
    )
    known = torch.ones(2, 3, dtype=torch.bool)
    for wrong in ((2, 3, 5), (2, 2, 4), (1, 3, 4)):
        with pytest.raises(ValueError, match=r"^values have shape .*\(2, 3, 4\)$"):
            prediction.nll(torch.zeros(wrong), known)
    for mask in (known[:1], known.float()):
        with pytest.raises(ValueError, match=r"^mask is .*torch\.bool of shape \(2, 3\)$"):
            prediction.nll(torch.zeros(2, 3, 4), mask)
