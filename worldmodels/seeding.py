"""Random generators by name from one seed, and the four ranges of environment seeds."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from worldmodels.errors import InputError

if TYPE_CHECKING:
    import torch

SPLIT_SIZE = 100_000_000
SPLITS = {"train": 0, "validation": 100_000_000, "test": 200_000_000, "final": 300_000_000}
"""First environment seed of each split. Validation decides what is kept, test makes the tables, and
final is used once for each shipped bundle."""


def environment_seeds(split: str, first: int, count: int) -> list[int]:
    """Returns the environment seeds `first` to `first + count - 1` of a split.

    Raises:
        InputError: the split is unknown, or the seeds leave its range.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown: use one of {', '.join(SPLITS)}")
    if first < 0 or count < 0 or first + count > SPLIT_SIZE:
        raise InputError(
            f"seeds {first} to {first + count - 1} leave the {split} split: "
            f"keep them within 0 to {SPLIT_SIZE - 1}"
        )
    offset = SPLITS[split] + first
    return list(range(offset, offset + count))


def recorded_seed(seed: int, round_number: int, episode: int, attempt: int) -> int:
    """Returns the environment seed of an episode that `collect` records, in the training range.

    Where an episode ends too soon, the next attempt is recorded. The files do not say which was
    kept.
    """
    return seed_for(seed, "environment", round_number, episode, attempt) % SPLIT_SIZE


def seed_for(seed: int, *name: int | str) -> int:
    """Returns a 63-bit seed for one use, such as `seed_for(0, "evolve", round, generation)`.

    It is the same on every machine and Python. Names differ where their parts differ in type or
    in number: ("a", 1), ("a", "1") and ("a1",) are three names.
    """
    # repr separates the parts and shows their types; int() and str() remove subclasses of these
    parts = [str(part) if isinstance(part, str) else int(part) for part in (int(seed), *name)]
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_generator(seed: int, *name: int | str) -> np.random.Generator:
    """Returns NumPy's generator of this name."""
    return np.random.default_rng(seed_for(seed, *name))


def torch_generator(seed: int, *name: int | str) -> "torch.Generator":
    """Returns PyTorch's generator of this name; it samples on the CPU."""
    import torch

    return torch.Generator().manual_seed(seed_for(seed, *name))
