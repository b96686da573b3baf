"""The history of an evolution, from which an interrupted one continues."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from worldmodels.errors import InputError
from worldmodels.files import load_tensors, save_tensors
from worldmodels.run import Run


@dataclass(frozen=True)
class Validated:
    """An average of the distribution's means, on real validation episodes."""

    generation: int
    mean: Float64[np.ndarray, " N"]
    returns: Float64[np.ndarray, " E"]
    """Empty: it was not measured."""

    @property
    def score(self) -> float:
        """Its mean return; NaN: it was not measured."""
        return float(self.returns.mean()) if len(self.returns) else np.nan


@dataclass
class History:
    """What an evolution has been told so far: its generations and validations.

    It holds no state of pycma. That state has dozens of parts (paths, archives, fitness histories,
    step-size adaptation), and nothing says which of them matter to the next generation. `evolve`
    asks and tells all generations again instead, through pycma's public interface: the same
    numbers give the same bits, and a generation of 64 candidates with 867 parameters takes 5 ms.
    """

    mdnrnn: str
    """Hash of the M that the dreams are made of."""
    start: np.ndarray
    """First mean (N,)."""
    mean: np.ndarray
    """Mean after the last generation: to it the told generations must lead again."""
    told: list[np.ndarray] = field(default_factory=list)
    """What each generation was told (P,)."""
    validated: list[Validated] = field(default_factory=list)
    real_steps: dict[str, int] = field(default_factory=lambda: {"validate": 0, "evolve": 0})
    """Steps taken in the real environment."""

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
            InputError: the file is truncated or of another kind.
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
            raise InputError(f"{path} is not a history of an evolution: delete it") from error

    def check(self, path: Path, num_parameters: int, population: int) -> None:
        """Checks that the history fits C and the population.

        Raises:
            InputError: it does not.
        """
        sizes = {one.shape for one in (self.start, self.mean, *(v.mean for v in self.validated))}
        if sizes != {(num_parameters,)} or {one.shape for one in self.told} != {(population,)}:
            raise InputError(
                f"{path} does not fit {num_parameters} parameters and {population} candidates: "
                "delete it and evolve again"
            )


def history_file(run: Run, evolution: int = 0) -> Path:
    """Where one of a run's evolutions keeps its history."""
    return run.controller / f"history{f'_{evolution}' if evolution else ''}.safetensors"
