"""Evolve C: in the dream, in the real world, or in one after the other; kept by real validation."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from worldmodels.acting.arena import NEW_SHARE, Evaluations, Limits, evaluations_of
from worldmodels.acting.evaluate import Returns
from worldmodels.acting.replay import check_dream
from worldmodels.acting.selection import (
    Choice,
    Validated,
    choose,
    halving,
    measured_means,
    merits,
)
from worldmodels.artifacts import check_dreams, check_evolved_in, load_controller
from worldmodels.data.dataset import latent_source
from worldmodels.envs.dream import DreamConfig
from worldmodels.errors import InputError, check_above_zero, check_at_least
from worldmodels.files import file_hash, load_tensors, save_tensors
from worldmodels.models.controller import ControllerConfig
from worldmodels.run import Metrics, Run, progress, say
from worldmodels.seeding import SPLIT_SIZE, environment_seeds, numpy_generator, seed_for
from worldmodels.stages.cmaes import CMAES, CMAConfig
from worldmodels.workers import WorkersConfig

REAL_SIGMA0 = 0.05
"""First standard deviation in the real world, where a dream came before."""


@dataclass(frozen=True, kw_only=True)
class EvolveConfig:
    """Where and how long C is evolved, and how it is chosen."""

    generations: int = 1800
    """Generations in the dream; 0: none."""
    start: Literal["fresh", "best"] = "fresh"
    """In later rounds: `fresh` starts from zeros, `best` from the best controller so far."""
    real_generations: int = 0
    """Generations in the real world afterwards, from the dream's mean; the paper's CarRacing:
    1800 and none in the dream."""
    dream_max_steps: int | None = None
    """Steps of a training dream; none: to dream.horizon. Long dreams stray from what C will see."""
    rollouts_per_candidate: int = 16
    """Episodes per candidate and generation; the paper: 16."""
    screening_rollouts: int = 0
    """Only the better half of the candidates, by their first so many episodes, plays the rest of
    them; 0: everyone plays all."""
    patience: int | None = None
    """Training episodes end after so many steps without a new best of their return, 0 at first;
    none: never. Validation is never cut so."""
    validate_every: int = 25
    """Generations between real validations of the distribution's mean; the paper: 25."""
    validate_at: tuple[int, ...] = ()
    """Further generations after which it is validated."""
    validation_episodes: int = 16
    """Real episodes of each validation, always the same; 0: none, and the last mean is kept."""
    validation_max_steps: int | None = None
    """Steps of a validation episode; none: to its end."""
    finalists: int = 3
    """The best of the validated are measured again..."""
    final_episodes: int = 32
    """...on so many other validation episodes."""

    def __post_init__(self) -> None:
        counts = "rollouts_per_candidate", "validate_every", "validate_at", "finalists"
        steps = "dream_max_steps", "validation_max_steps", "patience"
        zeros = "generations", "real_generations", "final_episodes"
        check_at_least("evolve", self, 1, *counts, *steps)
        check_at_least("evolve", self, 0, *zeros, "screening_rollouts", "validation_episodes")
        if self.screening_rollouts >= self.rollouts_per_candidate:
            raise InputError(
                f"evolve.screening_rollouts is {self.screening_rollouts}: it must be below "
                f"evolve.rollouts_per_candidate, {self.rollouts_per_candidate}"
            )


@dataclass
class History:
    """What an evolution has been told so far: its generations and validations.

    It holds no state of pycma, which has dozens of parts (paths, archives, fitness histories) and
    says nowhere which of them matter. Instead `evolve` asks and tells all generations again: the
    same numbers give the same bits, and a generation takes pycma milliseconds (5 of them for 867
    parameters and 64 candidates).
    """

    mdnrnn: str
    """Hash of the M that is dreamt."""
    start: np.ndarray
    """First mean (N,)."""
    mean: np.ndarray
    """Mean after the last generation: to it the told generations must lead again."""
    told: list[np.ndarray] = field(default_factory=list)
    """What each generation was told (P,)."""
    validated: list[Validated] = field(default_factory=list)
    real_steps: dict[str, int] = field(default_factory=lambda: {"validate": 0, "evolve": 0})
    """Steps taken in the real world."""

    def save(self, path: Path) -> None:
        arrays = {
            "start": self.start,
            "mean": self.mean,
            "told": np.array(self.told),
            "generations": np.array([one.generation for one in self.validated]),
            "means": np.array([one.mean for one in self.validated]),
            "returns": np.array([one.returns for one in self.validated]),
        }
        about = {"mdnrnn": self.mdnrnn, "real_steps": json.dumps(self.real_steps, sort_keys=True)}
        save_tensors(path, {name: torch.tensor(a) for name, a in arrays.items()}, about)

    @classmethod
    def load(cls, path: Path) -> History:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is truncated or foreign.
        """
        tensors, about = load_tensors(path)
        try:
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            rows = zip(arrays["generations"], arrays["means"], arrays["returns"], strict=True)
            validated = [Validated(int(row[0]), *row[1:]) for row in rows]
            steps = {name: int(n) for name, n in json.loads(about["real_steps"]).items()}
            fixed = about["mdnrnn"], arrays["start"], arrays["mean"], list(arrays["told"])
            return cls(*fixed, validated, steps)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is no history of an evolution: delete it") from error


@dataclass(frozen=True)
class Setting:
    """What evolution is given."""

    run: Run
    evaluations: Evaluations
    metrics: Metrics
    config: EvolveConfig
    cma: CMAConfig
    seed: int

    @property
    def generations(self) -> int:
        return self.config.generations + self.config.real_generations

    @property
    def history_file(self) -> Path:
        return history_file(self.run)


def history_file(run: Run) -> Path:
    """Where an evolution writes down what it was told."""
    return run.controller / "history.safetensors"


def evolve(
    run: Run,
    controller: ControllerConfig,
    dream: DreamConfig,
    cma: CMAConfig,
    config: EvolveConfig,
    workers: WorkersConfig,
    seed: int,
    start: Run | None = None,
) -> None:
    """Evolves C, or goes on with it; writes controller/controller.safetensors.

    Args:
        run: has world.json, V, M, and latents or an unpacked bundle's starts.
        controller: C's inputs and size.
        dream: how M is dreamt.
        cma: the evolution strategy.
        config: generations, episodes, validation.
        workers: where real episodes run.
