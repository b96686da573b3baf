"""What a study compares: rows, each the run's own evolution of C with something changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from worldmodels.command_line import validated
from worldmodels.envs.dream import Ends
from worldmodels.errors import InputError
from worldmodels.models.controller import Inputs
from worldmodels.ranges import NonNegativeInt, PositiveFloat, PositiveInt, Range, check_ranges

FILES = ("config.yaml", "metrics.jsonl", "rounds", "study.json", "study.md", "tensorboard")
"""Names in a study's folder that no row may have."""


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One row of the table. A field that is null is as in the run."""

    name: str
    """Letters, digits, `_`, `-` and `.`: also the name of its folder."""
    temperature: PositiveFloat | None = None
    """Temperature of the dream in which C is evolved."""
    inputs: Inputs | None = None
    """What C sees."""
    senses: Literal["own", "untrained", "blind"] = "own"
    """What C sees through, see `controller.senses`."""
    ends: Ends | None = None
    """When its dreams end, see `dream.ends`."""
    weight: str | None = None
    """What weighs its rewards, see `dream.weight`."""
    dream_max_steps: PositiveInt | None = None
    """Most steps of the dreams in which C is evolved."""
    round: NonNegativeInt | None = None
    """The round whose V, M and latents are used; null: the run's, which are its best round's. A run
    of one round is its own round 0."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name, re.ASCII) or self.name in FILES:
            raise InputError(f"name {self.name!r} is no name of a folder: use letters and digits")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study: its rows, and the budget that is the same for all."""

    rows: tuple[dict[str, Any], ...] = ()
    """Each has a `name` and what differs from the run: `temperature` of the dream; `inputs` z, zh
    or zch; `senses` untrained (an M with random weights) or blind (z is 0); `round`, whose V and M;
    `ends`, `weight` and `dream_max_steps` of the dreams."""
    evolutions: PositiveInt = 3
    """Evolutions of each row, from seeds of their own."""
    generations: PositiveInt = 60
    """Generations of each evolution, from zeros, in the dream."""
    validate_every: PositiveInt = 10
    """Generations after which the distribution's mean is kept to be ranked, and validated."""
    validate_at: tuple[PositiveInt, ...] = ()
    """Further such generations: most is learnt at the beginning."""
    validation_episodes: NonNegativeInt = 32
    """Real episodes of each validation; 0: none, and the last mean is measured."""
    rollouts_per_candidate: PositiveInt | None = None
    """Dreams of each candidate; null: the run's evolve.rollouts_per_candidate."""
    test_episodes: Annotated[int, Range(2.0)] = 300
    """Official test episodes on which each evolution's controller is measured."""
    dream_episodes: Annotated[int, Range(2.0)] = 256
    """Dreams at the row's temperature in which it is measured."""

    def __post_init__(self) -> None:
        check_ranges(self, "study.")
        names = [row.name for row in rows_of(self)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"study.rows: {twice[0]} is there twice: give each row its own name")


@dataclass(frozen=True, kw_only=True)
class StudySections:
    """What a study's YAML file may state; the rest is the run's own."""

    study: StudyConfig = field(default_factory=StudyConfig)


def rows_of(config: StudyConfig) -> list[StudyRow]:
    """The rows, checked.

    Raises:
        InputError: naming the row by its place, and the field.
    """
    return [_row(values, f"study.rows[{place}]") for place, values in enumerate(config.rows)]


def _row(values: dict[str, Any], where: str) -> StudyRow:
    try:
        return validated(StudyRow, values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
