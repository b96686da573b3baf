"""Select: which of several rounds is kept, by validation episodes that chose none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldmodels.acting.evaluate import ModelFiles, RealEvaluation
from worldmodels.artifacts import load_controller, load_mdnrnn, load_world
from worldmodels.errors import check_at_least
from worldmodels.files import load_json, save_json
from worldmodels.models.controller import controller_for
from worldmodels.run import Metrics, Run, say
from worldmodels.seeding import environment_seeds
from worldmodels.workers import WorkersConfig


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """How the best of several rounds is found."""

    rounds: int = 3
    """The best so many by evolve's own validation are measured again..."""
    episodes: int = 64
    """...on so many other validation episodes, which alone decide. The best of many short
    measurements is the luckiest one."""

    def __post_init__(self) -> None:
        check_at_least("select", self, 1, "rounds", "episodes")


def select_round(
    run: Run,
    rounds: Sequence[Run],
    config: SelectConfig,
    workers: WorkersConfig,
    first: int,
    max_steps: int | None = None,
) -> Run:
    """The best of the rounds; writes selection.json, from which the same command reads it again.

    Args:
        run: to which the rounds belong.
        rounds: each with V, M and C.
        config: how many are measured, and for how long.
        workers: where real episodes run.
        first: number of the first validation episode that no round was chosen by.
        max_steps: of an episode.
    """
    path = run.folder / "selection.json"
    if path.exists():
        return rounds[load_json(path)["best"]]
    with Metrics(run, "select") as metrics:
        known = np.array([load_controller(one).validation_return for one in rounds])
        finalists = np.argsort(-known, kind="stable")[: config.rounds].tolist()
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
    saved, senses = load_controller(run), ModelFiles.of_run(run)
    mdnrnn = load_mdnrnn(run.mdnrnn / "mdnrnn.safetensors")
    controller = controller_for(saved.config, mdnrnn)
    fixed = load_world(run), senses, controller, workers
    measure = RealEvaluation(*fixed, official=False, max_steps=max_steps, label="select")
    returns, lengths = measure(saved.parameters["best"].double().numpy()[None], seeds)
    return float(returns.mean()), int(lengths.sum())
