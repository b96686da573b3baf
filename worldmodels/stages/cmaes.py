"""CMA-ES behind ask and tell: resumable, with random numbers of its own.

Source: Hansen 2016 (arXiv 1604.00772); the work is done by pycma.
"""

from __future__ import annotations

import math
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float64

from worldmodels.errors import InputError, check_above_zero, check_at_least
from worldmodels.seeding import numpy_generator

Kind = TypeVar("Kind")

FULL_AT_MOST = 100
"""Parameters whose full covariance is learnt within tens of generations."""


@dataclass(frozen=True, kw_only=True)
class CMAConfig:
    """The evolution strategy."""

    population_size: int = 64
    """Candidates a generation; the paper: 64."""
    sigma0: float = 0.1
    """First standard deviation of the parameters; the paper: 0.1."""
    covariance: Literal["diagonal", "full", "auto"] = "diagonal"
    """`full` needs thousands of generations to adapt at the paper's 867 parameters; `auto`: full
    up to 100 parameters."""

    def __post_init__(self) -> None:
        check_at_least("cma", self, 4, "population_size")
        check_above_zero("cma", self, "sigma0")


class _Normals:
    """pycma's source of normals: ours, because its own reseeds numpy's global generator."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def __call__(self, *shape: int) -> np.ndarray:
        return self.generator.standard_normal(shape)


class CMAES:
    """Maximises a return over parameter vectors.

    >>> es = CMAES(CMAConfig(population_size=8, sigma0=0.5), np.ones(3), seed=0)
    >>> for _ in range(60):
    ...     candidates = es.ask()
    ...     es.tell(-(candidates**2).sum(axis=1))
    >>> bool((abs(es.mean) < 0.01).all())
    True
    """

    def __init__(self, config: CMAConfig, start: np.ndarray, seed: int) -> None:
        full = config.covariance == "full"
        if config.covariance == "auto":
            full = len(start) <= FULL_AT_MOST
        options: dict[str, Any] = {
            "popsize": config.population_size,
            "CMA_diagonal": not full,
            "randn": _Normals(numpy_generator(seed, "cma")),
            "seed": math.nan,
            "verbose": -9,
            "maxiter": math.inf,
        }
        self._es = _pycma().CMAEvolutionStrategy(start.astype(float), config.sigma0, options)
        self._asked: list[np.ndarray] = []

    def ask(self) -> Float64[np.ndarray, "P N"]:
        """The next generation's candidates."""
        self._asked = self._es.ask()
        return np.stack(self._asked)

    def tell(self, returns: Float64[np.ndarray, " P"]) -> None:
        """The candidates' returns, in `ask`'s order; what isn't finite ranks last."""
        costs = -np.asarray(returns, float)  # the one sign flip: pycma minimises
        finite = np.isfinite(costs)
        worst = costs[finite].max() if finite.any() else 0.0
        self._es.tell(self._asked, list(np.where(finite, costs, worst + 1.0)))

    @property
    def mean(self) -> Float64[np.ndarray, " N"]:
        """The distribution's mean: what is validated and kept."""
        return np.array(self._es.result.xfavorite)

    @property
    def sigma(self) -> float:
        return float(self._es.sigma)

    def to_bytes(self) -> bytes:
        """The whole state, generator included. For a run's own folder, never for sharing."""
        return pickle.dumps(self._es)

    @classmethod
    def from_bytes(cls, data: bytes) -> CMAES:
        """Goes on exactly where `to_bytes` was called."""
        _pycma()
        restored = cls.__new__(cls)
        restored._es, restored._asked = pickle.loads(data), []
        return restored


def _pycma() -> Any:
    """The library; it draws in scipy and matplotlib, for which only evolution has to wait."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import cma
    return cma


def load_state(path: Path, kind: type[Kind]) -> Kind:
    """Where an evolution stands: an object of `kind` that was pickled in the run.

    Raises:
        InputError: the file is truncated or foreign.
    """
    try:
        state = pickle.loads(path.read_bytes())
    # broken bytes make pickle raise nearly anything
    except Exception as error:
        raise InputError(f"{path} is truncated or foreign: delete it to evolve anew") from error
    if not isinstance(state, kind):
        raise InputError(f"{path} is foreign: delete it to evolve anew")
    return state
