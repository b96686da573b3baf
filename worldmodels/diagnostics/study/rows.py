"""What a study compares: rows, each the run's own way of evolving C with something changed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from worldmodels.command_line import Parser
from worldmodels.envs.dream import Ends, Weight
from worldmodels.errors import InputError, check_above_zero, check_at_least
from worldmodels.models.controller import Inputs

FILES = ("config.yaml", "metrics.jsonl", "rounds", "study.json", "study.md", "tensorboard")
"""Names in a study's folder that no row may take."""


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One row of the table."""

    name: str
    """Letters, digits, `_`, `-` and `.`: also the name of its folder."""
    temperature: float | None = None
    """Of the dream in which C is evolved; none: the run's."""
    inputs: Inputs | None = None
    """What C sees; none: as in the run."""
    senses: Literal["own", "untrained", "blind"] = "own"
    """What C sees through, see `controller.senses`."""
    ends: Ends | None = None
    """When its dreams end, see `dream.ends`; null: the run's."""
    weight: Weight | None = None
    """What weighs its rewards, see `dream.weight`; null: the run's."""
    dream_max_steps: int | None = None
    """Longest of the dreams in which C is evolved; none: the run's."""
    round: int | None = None
    """Whose V, M and latents; none: the run's, which are its best round's. A run of one round is
    its own round 0."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name, re.ASCII) or self.name in FILES:
            raise InputError(f"name {self.name!r} is no name of a folder: use letters and digits")
        check_above_zero(self.name, self, "temperature")
        check_at_least(self.name, self, 0, "round")
        check_at_least(self.name, self, 1, "dream_max_steps")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study: which rows, and the budget that is the same for all."""

    rows: tuple[dict[str, Any], ...] = ()
    """Each a `name` and what differs from the run: `temperature` of the dream; `inputs` z, zh or
    zch; `senses` untrained (an M with random weights) or blind (z is 0); `round`, whose V and M."""
    evolutions: int = 3
    """Evolutions of each row, from seeds of their own."""
    generations: int = 60
    """Of each evolution, from zeros, in the dream."""
    validate_every: int = 10
    """Generations after which the distribution's mean is kept to be ranked, and validated."""
    validate_at: tuple[int, ...] = ()
    """Further ones: most is learnt at the beginning."""
    validation_episodes: int = 32
    """Real episodes of each validation; 0: none, and the last mean is measured, whatever it is."""
    population_size: int | None = None
    """Candidates a generation; none: the run's cma.population_size."""
    rollouts_per_candidate: int | None = None
    """Dreams of each candidate; none: the run's evolve.rollouts_per_candidate."""
    test_episodes: int = 300
    """Official test episodes on which each evolution's chosen controller is measured."""
    dream_episodes: int = 256
    """Dreams at the row's temperature in which it is measured."""

    def __post_init__(self) -> None:
        counts = "evolutions", "generations", "validate_every", "rollouts_per_candidate"
        check_at_least("study", self, 1, *counts, "validate_at")
        check_at_least("study", self, 0, "validation_episodes")
        check_at_least("study", self, 2, "test_episodes", "dream_episodes")
        check_at_least("study", self, 4, "population_size")
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
    # plain data: as a dataclass in a list jsonargparse would import what a `class_path` names
    parser = Parser(allow_abbrev=False)
    parser.add_class_arguments(StudyRow)
    try:
        return StudyRow(**parser.parse_object(values))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
