"""Named random generators from one seed, and the four ranges of environment seeds."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from worldmodels.errors import InputError

if TYPE_CHECKING:
    import torch

SPLIT_SIZE = 100_000_000
SPLITS = {"train": 0, "validation": 100_000_000, "test": 200_000_000, "final": 300_000_000}
"""First environment seed of each split: validation decides what is kept, test makes the tables,
final is used once for each shipped bundle."""


def environment_seeds(split: str, first: int, count: int) -> list[int]:
    """Environment seeds `first .. first + count - 1` of a split.

    Raises:
        InputError: for an unknown split, or when the seeds would leave the split's range.
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
    """Environment seed of an episode that `collect` records, in the training range.

    Attempts follow each other where an episode ends too soon; files don't say which was kept.
    """
    return seed_for(seed, "environment", round_number, episode, attempt) % SPLIT_SIZE


def seed_for(seed: int, *name: int | str) -> int:
    """63-bit seed for the draws called `name`, e.g. `seed_for(0, "evolve", round, generation)`.

    It is the same on every machine and Python. The parts keep their types and borders:
    ("a", 1), ("a", "1") and ("a1",) are three names.
    """
    # repr separates and types the parts; int() and str() strip numpy's and enums' subclasses
    parts = [str(part) if isinstance(part, str) else int(part) for part in (int(seed), *name)]
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_generator(seed: int, *name: int | str) -> np.random.Generator:
    """NumPy generator for the draws called `name`."""
    return np.random.default_rng(seed_for(seed, *name))


def torch_generator(
    seed: int, *name: int | str, device: "torch.device | str" = "cpu"
) -> "torch.Generator":
    """PyTorch generator for the draws called `name`, on the device that will draw."""
    import torch

    return torch.Generator(device=device).manual_seed(seed_for(seed, *name))
