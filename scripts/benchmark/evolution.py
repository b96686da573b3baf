"""What evolution's savings save: dream steps until the same return on real validation tracks.

    python -m benchmark.evolution RUN

evolves C from zeros in RUN's dream in each of `WAYS`, for three seeds, and prints a table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from worldmodels.acting.environments import Dreams, Reality
from worldmodels.acting.evaluate import Evaluation
from worldmodels.command_line import read
from worldmodels.config import Config
from worldmodels.diagnostics.table import table_of
from worldmodels.precision import set_precision
from worldmodels.run import Run, say
from worldmodels.seeding import environment_seeds, seed_for
from worldmodels.stages.cmaes import CMAES

WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "early stop": {"patience": 25},
    "fewer episodes": {"rollouts_per_candidate": 5},
}
"""What each changes in `evolve`, beside 8 episodes per candidate."""
ROLLOUTS, GENERATIONS, POINTS, TRACKS = 8, 12, 10, 8
"""Episodes per candidate; generations of the first way, whose dream steps every way may spend;
validations, after equal shares of those steps; real validation episodes of each."""
SHARE = 0.9
"""The table counts the costs until this share of what the first way reaches at its end."""

Curve = list[dict[str, Any]]
"""An evolution's points: its way, and what it has spent until a validation."""


def compare(run: Run, config: Config, seeds: Sequence[int] = (0, 1, 2)) -> Iterator[Curve]:
    """Evolves C from zeros in a run's dream in all `WAYS`, for the same number of dream steps.

    Args:
        run: has V, M and latents.
        config: its config.
        seeds: of evolution; the ways share first candidates, starts and noise.
    """
    full = config.cma.population_size * ROLLOUTS * config.dream.horizon
    stops = np.linspace(0, GENERATIONS * full, POINTS + 1)[1:]
    plain = {"rollouts_per_candidate": ROLLOUTS, "patience": None}
    for seed, (way, changes) in product(seeds, WAYS.items()):
        changed = replace(config, evolve=replace(config.evolve, **{**plain, **changes}), seed=seed)
        yield [{"way": way, "seed": seed, **point} for point in _points(run, changed, stops)]


def _points(run: Run, config: Config, stops: np.ndarray) -> Iterator[dict[str, Any]]:
    way, seed = config.evolve, config.seed
    place = Dreams.of_run(run, config.controller, config.dream, seed)
    validate = Evaluation(place=Reality.of_run(run, config.controller), workers=config.workers)
    evaluate = replace(validate, place=place, patience=way.patience)
    zeros = np.zeros(place.controller.num_parameters)
    es = CMAES(config.cma, zeros, seed_for(seed, "benchmark evolution"))
    validation = environment_seeds("validation", 0, TRACKS)
    steps = episodes = generations = 0
    for stop in stops:
        while steps < stop:
            base = seed_for(seed, "benchmark dreams", generations) % 2**40
            dreams = [base + r for r in range(way.rollouts_per_candidate)]
            returns, lengths = evaluate(es.ask(), dreams)
            es.tell(returns.mean(axis=1))
            steps, episodes = steps + int(lengths.sum()), episodes + lengths.size
            generations += 1
        score = float(validate(es.mean[None], validation)[0].mean())
        yield {"generations": generations, "episodes": episodes, "steps": steps, "return": score}


def savings(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Of each way: dream steps and episodes until the mean over seeds reaches the threshold.

    None: it never does. `saves` is the ratio of the first way's steps to these.
    """
    means = {way: _means(curves, way) for way in dict.fromkeys(c[0]["way"] for c in curves)}
    first = next(iter(means.values()))
    threshold = SHARE * float(first["return"].mean(axis=0)[-1])
    rows: list[dict[str, Any]] = []
    for way, mean in means.items():
        y, last = mean["return"].mean(axis=0), mean["return"][:, -1]
        costs = {n: crossing(mean[n].mean(axis=0), y, threshold) for n in ("steps", "episodes")}
        whole = rows[0]["steps"] if rows else costs["steps"]
        saves = whole / costs["steps"] if whole and costs["steps"] else None
        error = float(last.std(ddof=1) / len(last) ** 0.5) if len(last) > 1 else 0.0
        spent = {"return_reached": threshold, **costs, "saves": saves}
        rows.append({"way": way, **spent, "return_at_the_end": float(last.mean()), "error": error})
    return rows


def _means(curves: Sequence[Curve], way: str) -> dict[str, np.ndarray]:
    """Seeds x points of a way."""
    mine = [curve for curve in curves if curve[0]["way"] == way]
    names = "steps", "episodes", "return"
    return {name: np.array([[p[name] for p in curve] for curve in mine], float) for name in names}


def crossing(x: np.ndarray, y: np.ndarray, threshold: float) -> float | None:
    """The first x at which the line through the points reaches a threshold; none: never.

    >>> crossing(np.array([1.0, 2.0, 3.0]), np.array([0.0, 10.0, 5.0]), 5.0)
    1.5
    """
    reached = np.flatnonzero(y >= threshold)
    if not len(reached):
        return None
    i = int(reached[0])
    ends = slice(max(0, i - 1), i + 1)
    return float(np.interp(threshold, y[ends], x[ends]))


def _main(folder: str) -> None:
    run = Run(folder)
    config = read(Config, run.need(run.config_file, "worldmodels pipeline"))
    set_precision(config.precision)
    curves = []
    for curve in compare(run, config):
        curves.append(curve)
        returns = " ".join(f"{point['return']:.0f}" for point in curve)
        say(f"{curve[0]['way']}, seed {curve[0]['seed']}: {returns}")
    say(table_of(savings(curves)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
