"""Training goes on with the same bits, and only with its own file."""

import math

import pytest
import torch

from worldmodels.errors import InputError
from worldmodels.stages.fit import (
    adam,
    annealed,
    load_training,
    save_training,
)


def fresh(width=3):
    torch.manual_seed(0)
    model = torch.nn.Linear(width, 2)
    return model, adam(model, 0.1)


def train(model, optimizer, steps):
    for step in steps:
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def test_going_on_is_bit_for_bit_the_undisturbed_run(tmp_path):
    undisturbed = fresh()
    train(*undisturbed, range(9))
    first = fresh()
    train(*first, range(4))
    save_training(tmp_path / "t.safetensors", *first, 4)
    again = fresh()
    train(*again, [77])  # anything: it is overwritten
    step = load_training(tmp_path / "t.safetensors", *again)
    assert step == 4
    train(*again, range(step, 9))
    for ours, theirs in zip(again[0].parameters(), undisturbed[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_equal_states_give_equal_bytes(tmp_path):
    for name in "ab":
        state = fresh()
        train(*state, range(2))
        save_training(tmp_path / name, *state, 2)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("what", ["other", "truncated", "foreign"])
def test_a_wrong_file_is_named(tmp_path, what):
    path = tmp_path / "t.safetensors"
    save_training(path, *fresh(5 if what == "other" else 3), 1)
    if what == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    if what == "foreign":
        path.write_bytes(b"no tensors here")
    with pytest.raises(InputError, match=r"t\.safetensors") as caught:
        load_training(path, *fresh())
    assert "\n" not in str(caught.value)


def test_annealed_follows_half_a_cosine():
    assert annealed(0.3, None, 0.9) == 0.3
    assert [annealed(1.0, 0.2, done) for done in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.6, 0.2])
    assert annealed(1.0, 0.0, 0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_adam_leaves_frozen_weights_alone():
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    (group,) = adam(model, 0.1).param_groups
    assert [p.shape for p in group["params"]] == [(2, 3)]
