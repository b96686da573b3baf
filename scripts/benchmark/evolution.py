"""What evolution's savings save: dream steps until the same return on real validation tracks.

    python -m benchmark.evolution RUN

evolves C from zeros in RUN's dream in each of `WAYS`, for three seeds, and prints a table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from benchmark.report import table
from worldmodels.acting.evaluate import Evaluations
from worldmodels.acting.selection import halving, merits
from worldmodels.artifacts import load_controller
from worldmodels.command_line import read
from worldmodels.config import Config
from worldmodels.precision import set_precision
from worldmodels.run import Run, say
from worldmodels.seeding import environment_seeds, seed_for
from worldmodels.stages.cmaes import CMAES


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to spend dream steps."""

    name: str
    rollouts: int = 8
    """Episodes per candidate."""
    screening: int = 0
    """Everyone's, before the worse half is dropped; 0: all."""
    patience: int | None = None
    """Steps without a new best return after which an episode ends; none: never."""


WAYS = (
    Way(name="full"),
    Way(name="halving", screening=2),
    Way(name="early stop", patience=25),
    Way(name="both", screening=2, patience=25),
    Way(name="fewer episodes", rollouts=5),
)
"""`fewer episodes` costs what `halving` does: what halving must beat."""


@dataclass(frozen=True)
class Point:
    """Where an evolution stands after some spending."""

    generations: int
    episodes: int
    """Dreamt so far, by all candidates."""
    steps: int
    """Dreamt so far."""
    validation: float
    """Mean return of the distribution's mean on real validation tracks."""


@dataclass(frozen=True)
class Curve:
    """One evolution, measured whenever another share of its budget is spent."""

    way: str
    seed: int
    points: list[Point]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long each evolution is, and how it is measured."""

    generations: int = 50
    """Of the first way, without savings: the dream steps that every way may spend."""
    points: int = 10
    """Validations, after equal shares of those steps."""
    tracks: int = 8
    """Real validation episodes of each."""


def compare(
    run: Run,
    config: Config,
    ways: Sequence[Way] = WAYS,
    seeds: Sequence[int] = (0, 1, 2),
    budget: Budget = Budget(),
    start: Run | None = None,
) -> Iterator[Curve]:
    """Evolves C in a run's dream in all `ways`, for the same number of dream steps.

    Args:
        run: has V, M and latents.
        config: its config, but for the episodes per candidate.
        ways: how dream steps are spent.
        seeds: of evolution; the ways share first candidates, starts and noise.
        budget: how long each is.
        start: the run whose best controller is the start; none: zeros.
    """
    full = config.cma.population_size * ways[0].rollouts * config.dream.horizon
    stops = np.linspace(0, budget.generations * full, budget.points + 1)[1:]
    for seed, way in product(seeds, ways):
        evaluations = _evaluations(run, config, way, seed)
        mean = np.zeros(evaluations.num_parameters)
        if start is not None:
            mean = load_controller(start).best.double().numpy()
        es = CMAES(config.cma, mean, seed_for(seed, "benchmark evolution"))
        yield Curve(way.name, seed, list(_points(es, evaluations, way, seed, stops, budget.tracks)))


def _evaluations(run: Run, config: Config, way: Way, seed: int) -> Evaluations:
    settings = config.controller, config.dream, config.workers, seed
    return Evaluations.of_run(run, *settings, patience=way.patience)


def _points(
    es: CMAES, evaluations: Evaluations, way: Way, seed: int, stops: np.ndarray, tracks: int
) -> Iterator[Point]:
    validation = environment_seeds("validation", 0, tracks)
    steps = episodes = generation = 0
    for stop in stops:
        while steps < stop:
            base = seed_for(seed, "benchmark dreams", generation) % 2**40
            dreams = [base + r for r in range(way.rollouts)]
            returns, lengths = halving(evaluations.dream, way.screening, es.ask(), dreams)
            es.tell(merits(returns))
            steps, episodes = steps + int(lengths.sum()), episodes + int((lengths > 0).sum())
            generation += 1
        score = evaluations.validation(es.mean[None], validation)[0].mean()
        yield Point(generation, episodes, steps, float(score))


@dataclass(frozen=True)
class Saving:
    """What a way costs until its mean curve reaches a return; none: it doesn't."""

    way: str
    last: float
    """Mean validation at the end of the budget."""
    error: float
    """Standard error of that mean over the seeds."""
    steps: float | None
    episodes: float | None


def savings(curves: Sequence[Curve], threshold: float) -> list[Saving]:
    """One row per way: dream steps and episodes until the mean over seeds reaches `threshold`."""
    ways = dict.fromkeys(curve.way for curve in curves)
    return [_saving([c for c in curves if c.way == way], threshold) for way in ways]


def _saving(curves: Sequence[Curve], threshold: float) -> Saving:
    steps, episodes, validation = (
        np.array([[getattr(point, name) for point in curve.points] for curve in curves], float)
        for name in ("steps", "episodes", "validation")
    )
    last, mean = validation[:, -1], validation.mean(axis=0)
    spent = [crossing(x.mean(axis=0), mean, threshold) for x in (steps, episodes)]
    error = float(last.std(ddof=1) / len(last) ** 0.5) if len(last) > 1 else 0.0
    return Saving(curves[0].way, float(last.mean()), error, *spent)


def crossing(x: np.ndarray, y: np.ndarray, threshold: float) -> float | None:
    """The first x at which the line through the points reaches a threshold; none: never.

    >>> crossing(np.array([1.0, 2.0, 3.0]), np.array([0.0, 10.0, 5.0]), 5.0)
    1.5
    """
    reached = np.flatnonzero(y >= threshold)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return float(x[0])
    share = (threshold - y[i - 1]) / (y[i] - y[i - 1])
    return float(x[i - 1] + share * (x[i] - x[i - 1]))


def savings_table(curves: Sequence[Curve], share: float = 0.9) -> str:
    """Costs until `share` of what the first way reaches at its end, as Markdown."""
    last = [curve.points[-1].validation for curve in curves if curve.way == curves[0].way]
    threshold = share * float(np.mean(last))
    found = savings(curves, threshold)
    head = ("way", f"dream steps to {threshold:.0f}", "episodes", "saves", "return at the end")
    return table(head, [_cells(saving, found[0]) for saving in found])


def _cells(saving: Saving, first: Saving) -> Sequence[str]:
    end = f"{saving.last:.0f} ± {saving.error:.0f}"
    if saving.steps is None or saving.episodes is None:
        return saving.way, "not reached", "", "", end
    saved = f"{(first.steps or np.nan) / saving.steps:.1f}x"
    return saving.way, f"{saving.steps:,.0f}", f"{saving.episodes:,.0f}", saved, end


def _main(folder: str) -> None:
    run = Run(folder)
    config = read(Config, run.need(run.config_file, "worldmodels pipeline"))
    set_precision(config.precision)
    curves = []
    for curve in compare(run, config, budget=Budget(generations=12)):
        curves.append(curve)
        returns = " ".join(f"{point.validation:.0f}" for point in curve.points)
        say(f"{curve.way}, seed {curve.seed}: {returns}")
    say(savings_table(curves))


if __name__ == "__main__":
    _main(*sys.argv[1:])
