"""Select the best of several rounds, by validation episodes that have chosen none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldmodels.acting.environments import ModelFiles
from worldmodels.acting.evaluate import RealEvaluation
from worldmodels.artifacts import load_controller, load_mdnrnn, load_world
from worldmodels.files import load_json, save_json
from worldmodels.models.controller import controller_for
from worldmodels.ranges import PositiveInt
from worldmodels.run import Metrics, Run, say
from worldmodels.seeding import environment_seeds
from worldmodels.workers import WorkersConfig

FINALISTS = 3
"""Rounds, the best ones by the validation of `evolve`, that are measured again."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """How the best of several rounds is chosen."""

    episodes: PositiveInt = 64
    """Further validation episodes on which they are measured. These alone decide: the best of many
    short measurements is the luckiest one."""


def select_round(
    run: Run,
    rounds: Sequence[Run],
    config: SelectConfig,
    workers: WorkersConfig,
    first: int,
    max_steps: int | None = None,
) -> Run:
    """The best of the rounds; writes selection.json, which the same command reads again.

    Args:
        run: to which the rounds belong.
        rounds: each with V, M and C.
        config: on how many episodes rounds are measured.
        workers: where real episodes run.
        first: number of the first validation episode that has chosen no round.
        max_steps: most steps of an episode; none: to its end.
    """
    path = run.folder / "selection.json"
    if path.exists():
        return rounds[load_json(path)["best"]]
    with Metrics(run, "select") as metrics:
        known = np.array([load_controller(one).validation_return for one in rounds])
        finalists = np.argsort(-known, kind="stable")[:FINALISTS].tolist()
        seeds = environment_seeds("validation", first, config.episodes)
        returns, steps = {}, 0
        for index in finalists:
            returns[index], used = _measure(rounds[index], seeds, workers, max_steps)
            metrics.log(index, validation=returns[index])
            steps += used
        best = max(finalists, key=lambda index: returns[index])
        about = {"best": best, "validation": returns, "episodes": config.episodes, "steps": steps}
        save_json(path, about)
    say(f"round {best} is the best: {returns[best]:.1f} on {config.episodes} validation episodes")
    return rounds[best]


def _measure(
    run: Run, seeds: list[int], workers: WorkersConfig, max_steps: int | None
) -> tuple[float, int]:
    """Mean return of a round's controller, and the steps that took."""
    saved = load_controller(run)
    measure = RealEvaluation(
        world=load_world(run),
        models=ModelFiles.of_run(run),
        controller=controller_for(saved.config, load_mdnrnn(run)),
        workers=workers,
        max_steps=max_steps,
        label="select",
    )
    returns, lengths = measure(saved.best.double().numpy()[None], seeds)
    return float(returns.mean()), int(lengths.sum())
