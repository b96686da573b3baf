"""Select the best of several rounds, on validation episodes that were not used before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NotRequired, TypedDict

import numpy as np

from worldmodels.acting.environments import Reality
from worldmodels.acting.evaluate import Evaluation, Lengths, Returns, evaluate_all
from worldmodels.acting.selection import race
from worldmodels.artifacts import load_controller
from worldmodels.errors import InputError
from worldmodels.files import save_json
from worldmodels.ranges import Episodes
from worldmodels.run import Metrics, Run, say
from worldmodels.schema import load_like
from worldmodels.seeding import environment_seeds
from worldmodels.workers import WorkersConfig

FINALISTS = 3
"""Rounds, the best ones by the validation of `evolve`, that are measured again."""


class Selection(TypedDict):
    """What selection.json holds, beside the finalists' returns."""

    best: int
    steps: int
    """Real steps that selecting took."""
    rounds: NotRequired[int]
    """Rounds among which it was selected; older files do not say."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """How the best of several rounds is selected."""

    episodes: Episodes = 64
    """Further validation episodes that select among the three best rounds."""


def select_round(
    run: Run, rounds: Sequence[Run], config: SelectConfig, workers: WorkersConfig, first: int
) -> Run:
    """The best of the rounds; writes selection.json, which is read again until rounds are added.

    Args:
        run: to which the rounds belong.
        rounds: each with V, M and C.
        config: on how many episodes rounds are measured.
        workers: where real episodes run.
        first: number of the first validation episode that has chosen no round.
    """
    path = run.folder / "selection.json"
    if path.exists():
        known = load_like(path, Selection)
        best = known["best"]
        if best not in range(len(rounds)):
            raise InputError(f"{path}: there is no round {best}: delete it to select again")
        if known.get("rounds", len(rounds)) == len(rounds):
            return rounds[best]
    with Metrics(run, "select") as metrics:
        scores = np.array([load_controller(one).validation_return for one in rounds])
        finalists = np.argsort(-scores, kind="stable")[:FINALISTS]
        seeds = environment_seeds("validation", first, config.episodes)
        measure, rungs = partial(_measure, rounds, workers), [(len(seeds), FINALISTS)]
        raced = race(measure, finalists, seeds, rungs)
        returns = dict(zip(finalists[raced.kept].tolist(), raced.returns.mean(axis=1), strict=True))
        for index, score in returns.items():
            metrics.log(index, validation=score)
        best = next(iter(returns))
        about = {"best": best, "validation": returns, "episodes": config.episodes}
        run.evaluation_file.unlink(missing_ok=True)  # of fewer rounds
        save_json(path, about | {"steps": raced.steps, "rounds": len(rounds)})
    say(f"round {best} is the best: {returns[best]:.1f} on {config.episodes} validation episodes")
    return rounds[best]


def _measure(
    rounds: Sequence[Run], workers: WorkersConfig, indices: np.ndarray, seeds: Sequence[int]
) -> tuple[Returns, Lengths]:
    """Returns and lengths of the controllers of some rounds, each with its own V and M."""
    requests = []
    for run in (rounds[index] for index in indices):
        saved = load_controller(run)
        reality = Reality.of_run(run, saved.config)
        evaluation = Evaluation(place=reality, workers=workers, label="select")
        requests.append((evaluation, saved.best.double().numpy()[None], seeds))
    measured = zip(*evaluate_all(requests), strict=True)
    returns, lengths = (np.concatenate(rows) for rows in measured)
    return returns, lengths
