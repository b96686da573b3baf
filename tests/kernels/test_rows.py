"""What is left of a padded batch."""

import torch

from worldmodels.kernels.rows import active_rows, present


def test_the_present_ones_are_those_of_the_mask():
    values, mask = torch.randn(3, 5, 2, requires_grad=True), torch.rand(3, 5) < 0.5
    ours, theirs, slopes = present(values, mask), values[mask], torch.randn(int(mask.sum()), 2)
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(x, values, slopes)[0] for x in (ours, theirs)))


def test_active_rows_are_those_before_the_last_valid_one():
    valid = torch.arange(6) < torch.tensor([6, 4, 4, 1])[:, None]
    assert active_rows(valid) == [4, 3, 3, 3, 1, 1]
    assert active_rows(valid[[3, 1, 2, 0]]) == [4] * 6
    assert active_rows(valid[:0]) == [0] * 6
