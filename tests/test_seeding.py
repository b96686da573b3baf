import itertools

import pytest
import torch

from worldmodels.errors import InputError
from worldmodels.seeding import (
    SPLIT_SIZE,
    SPLITS,
    environment_seeds,
    numpy_generator,
    seed_for,
    torch_generator,
)


def test_splits_are_disjoint_and_end_below_400_million():
    ranges = [(first, first + SPLIT_SIZE) for first in SPLITS.values()]
    assert ranges == [(i * 100_000_000, (i + 1) * 100_000_000) for i in range(4)]
    assert list(SPLITS) == ["train", "validation", "test", "final"]


def test_environment_seeds():
    assert environment_seeds("train", 0, 3) == [0, 1, 2]
    assert environment_seeds("final", SPLIT_SIZE - 1, 1) == [399_999_999]
    assert environment_seeds("test", 5, 0) == []


@pytest.mark.parametrize(
    ("split", "first", "count"),
    [("train", SPLIT_SIZE, 1), ("train", SPLIT_SIZE - 1, 2), ("test", -1, 2), ("exam", 0, 1)],
)
def test_environment_seeds_stay_in_their_split(split, first, count):
    with pytest.raises(InputError, match=split):
        environment_seeds(split, first, count)


def test_seed_for_never_changes():
    # published runs depend on these numbers
    assert seed_for(0) == 1999793380834467432
    assert seed_for(0, "evolve", 1, 2) == 33898808731700426


def test_names_are_told_apart():
    names = [(), (0,), ("0",), ("a", 1), ("a", "1"), ("a1",), ("a", 1, 0), (1, "a"), ("a", -1)]
    seeds = [seed_for(seed, *name) for seed, name in itertools.product([0, 1], names)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generators_repeat_their_draws():
    for make, draw in [
        (numpy_generator, lambda g: g.random(4).tolist()),
        (torch_generator, lambda g: torch.rand(4, generator=g).tolist()),
    ]:
        assert draw(make(1, "x", 2)) == draw(make(1, "x", 2)) != draw(make(1, "x", 3))
