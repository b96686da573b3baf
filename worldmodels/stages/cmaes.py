"""CMA-ES behind `ask` and `tell`, with its own random numbers; pycma does the work.

Source: Hansen 2016 (arXiv 1604.00772).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float64

from worldmodels.ranges import PositiveFloat, PositiveInt, Range
from worldmodels.seeding import numpy_generator


@dataclass(frozen=True, kw_only=True)
class CMAConfig:
    """The evolution strategy."""

    population_size: Annotated[int, Range(4.0)] = 64
    """Candidates a generation; the paper: 64."""
    sigma0: PositiveFloat = 0.1
    """First standard deviation of the parameters; the paper: 0.1."""
    full_at_most: PositiveInt = 100
    """Most parameters for which the full covariance is learned, else its diagonal. At the paper's
    867 the full one needs thousands of generations to adapt."""


class CMAES:
    """Maximises a return over parameter vectors.

    The same calls give the same bits: candidates depend on the arguments and on what was told.

    >>> es = CMAES(CMAConfig(population_size=8, sigma0=0.5), np.ones(3), seed=0)
    >>> for _ in range(60):
    ...     candidates = es.ask()
    ...     es.tell(-(candidates**2).sum(axis=1))
    >>> bool((abs(es.mean) < 0.01).all())
    True
    """

    def __init__(self, config: CMAConfig, start: np.ndarray, seed: int) -> None:
        with warnings.catch_warnings():  # only evolution waits for this slow import
            warnings.simplefilter("ignore")
            import cma
        generator = numpy_generator(seed, "cma")
        options: dict[str, Any] = {
            "popsize": config.population_size,
            "CMA_diagonal": len(start) > config.full_at_most,
            # pycma's own source of normal numbers reseeds NumPy's global generator
            "randn": lambda *shape: generator.standard_normal(shape),
            "seed": math.nan,
            "verbose": -9,
            "maxiter": math.inf,
        }
        self._es = cma.CMAEvolutionStrategy(start.astype(float), config.sigma0, options)
        self._asked: list[np.ndarray] = []

    def ask(self) -> Float64[np.ndarray, "P N"]:
        """The next generation's candidates."""
        self._asked = self._es.ask()
        return np.stack(self._asked)

    def tell(self, returns: Float64[np.ndarray, " P"]) -> None:
        """Takes the returns in the order of `ask`; values that are not finite rank last."""
        costs = -np.asarray(returns, float)  # the one sign flip: pycma minimises
        finite = np.isfinite(costs)
        worst = costs[finite].max() if finite.any() else 0.0
        self._es.tell(self._asked, list(np.where(finite, costs, worst + 1.0)))

    @property
    def mean(self) -> Float64[np.ndarray, " N"]:
        """The distribution's mean (N,)."""
        return np.array(self._es.result.xfavorite)

    @property
    def sigma(self) -> float:
        return float(self._es.sigma)
