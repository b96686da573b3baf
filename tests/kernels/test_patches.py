"""Products of patches are PyTorch's convolutions, forwards and backwards, up to bfloat16."""

import pytest
import torch
from torch.nn import functional

from worldmodels.kernels import patches
from worldmodels.kernels.patches import Convolution, TransposedConvolution, fold, unfold

SIZES = [(9, 3, 5, 4), (10, 5, 2, 4), (7, 2, 3, 5), (6, 1, 4, 6)]
"""Image size, channels in and out, kernel."""


@pytest.fixture(autouse=True)
def _parts_of_two_images(monkeypatch):
    monkeypatch.setattr(patches, "PATCH_NUMBERS", 2000)


def rounded(*shape):
    """Random numbers that bfloat16 holds exactly."""
    return torch.randn(shape).bfloat16().float()


def matrix(weight):
    return weight.permute(0, 2, 3, 1).flatten(1).bfloat16()


def close(ours, theirs):
    torch.testing.assert_close(
        ours.float(), theirs, rtol=0.02, atol=0.02 * float(theirs.detach().std())
    )


def test_unfold_is_a_convolutions_view():
    images = torch.arange(2 * 6 * 6 * 2, dtype=torch.float32).view(2, 6, 6, 2)
    rows = unfold(images[1:], 4)
    assert rows.shape == (4, 32)
    assert torch.equal(rows[3], images[1, 2:6, 2:6].flatten())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("relu", [False, True])
def test_fold_is_the_overlapping_sum(dtype, size, relu):
    columns, bias = rounded(3, 9, 4 * 4 * 2), rounded(2)
    out = torch.empty(3, size, size, 2, dtype=dtype)
    fold(columns.view(27, -1).to(dtype), bias, out, relu)
    planes = columns.view(3, 9, 4, 4, 2).permute(0, 4, 2, 3, 1).reshape(3, 32, 9)
    expected = functional.fold(planes, 8, 4, stride=2) + bias[:, None, None]
    expected = expected.relu() if relu else expected
    expected = functional.pad(expected, (0, size - 8, 0, size - 8)).permute(0, 2, 3, 1)
    torch.testing.assert_close(out.float(), expected, rtol=0.01, atol=1e-5)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_any_number_of_threads_gives_the_same_bits(threads):
    columns, bias, before = rounded(5 * 9, 4 * 4 * 2), rounded(2), torch.get_num_threads()
    alone, together = torch.empty(5, 8, 8, 2), torch.empty(5, 8, 8, 2)
    fold(columns, bias, alone)
    torch.set_num_threads(threads)
    try:
        fold(columns, bias, together)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, together)


@pytest.mark.parametrize(("size", "inputs", "outputs", "kernel"), SIZES)
def test_convolution(size, inputs, outputs, kernel):
    torch.manual_seed(0)
    x, weight = rounded(5, inputs, size, size), rounded(outputs, inputs, kernel, kernel)
    bias = rounded(outputs)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    plain = functional.conv2d(x, weight, bias, 2)
    theirs = plain.relu()
    ours = Convolution.apply(x.permute(0, 2, 3, 1).bfloat16().contiguous(), matrix(weight), bias)
    close(ours.permute(0, 3, 1, 2), theirs)
    slope = rounded(*theirs.shape) * (plain.abs() > 0.1)
    expected = torch.autograd.grad(theirs, leaves, slope)
    got = torch.autograd.grad(ours, leaves, slope.permute(0, 2, 3, 1).bfloat16())
    for ours, theirs in zip(got, expected, strict=True):
        close(ours, theirs)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("size", "inputs", "outputs", "kernel"), SIZES)
def test_transposed_convolution(size, inputs, outputs, kernel, relu):
    torch.manual_seed(0)
    x, weight = rounded(5, inputs, size, size), rounded(inputs, outputs, kernel, kernel)
    bias = rounded(outputs)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    plain = functional.conv_transpose2d(x, weight, bias, 2)
    theirs = plain.relu() if relu else plain
    channels_last = x.permute(0, 2, 3, 1).bfloat16().contiguous()
    ours = TransposedConvolution.apply(channels_last, matrix(weight), bias, relu, torch.float32)
    close(ours.permute(0, 3, 1, 2), theirs)
    slope = rounded(*theirs.shape) * (plain.abs() > 0.3)  # nearer to 0 they may differ in sign
    expected = torch.autograd.grad(theirs, leaves, slope)
    got = torch.autograd.grad(ours, leaves, slope.permute(0, 2, 3, 1))
    for ours, theirs in zip(got, expected, strict=True):
        close(ours, theirs)
