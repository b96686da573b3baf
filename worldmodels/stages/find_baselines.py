"""Find baselines: the best open-loop policy of a world, on validation episodes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worldmodels.acting.evaluate import evaluate_open_loop, interval
from worldmodels.acting.policies import BASELINES, Baseline
from worldmodels.envs.real import describe
from worldmodels.envs.take_cover import TAKE_COVER
from worldmodels.files import load_json, save_json
from worldmodels.run import progress, say
from worldmodels.seeding import environment_seeds
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig, World


@dataclass(frozen=True)
class Search:
    """A world, its candidates, and how many episodes choose among them."""

    env: EnvConfig
    policy: Literal["constant", "sweep"]
    arguments: Sequence[Any]
    described: str
    rungs: Sequence[tuple[int, int]]
    """(episodes that each candidate has played by then, candidates that are kept)."""
    final_episodes: int
    """Further episodes of the best one: those that chose it are too favourable."""


STEERINGS = np.linspace(-0.1, 0.1, 20).round(4).tolist()
"""The track is a loop 150 units in radius; a steering of 0.1 turns in 32."""
GASES = np.geomspace(0.02, 1, 10).round(3).tolist()

SEARCHES = {
    "car_racing": Search(
        EnvConfig(id="CarRacing-v3", training_id="worldmodels/CarRacing-v3"),
        "constant",
        [[steering, gas, 0.0] for steering, gas in product(STEERINGS, GASES)],
        "200 constant actions: 20 steerings from -0.1 to 0.1, 10 gases from 0.02 to 1, no brake",
        rungs=((4, 40), (8, 10), (32, 1)),
        final_episodes=32,
    ),
    "take_cover": Search(
        EnvConfig(
            id="VizdoomTakeCover-v1",
            kwargs=dict(TAKE_COVER),
            screen="screen",
            action="thirds",
        ),
        "sweep",
        list(range(20, 241, 20)),
        "12 periods from 20 to 240 tics: the first half to the left, the second to the right",
        rungs=((8, 5), (32, 2), (64, 1)),
        final_episodes=64,
    ),
}


def find_baselines(
    search: Search, workers: WorkersConfig, command: str, file: Path = BASELINES
) -> dict[str, Any]:
    """Finds the best open-loop policy of a world and writes it to baselines.json.

    Args:
        search: world and candidates.
        workers: where episodes run; results do not depend on it.
        command: goes into the file, to be repeated.
        file: baselines.json; its entries of other worlds stay.

    Returns:
        The world's entry.
    """
    evaluation = _Evaluation(describe(search.env), search.policy, workers)
    best = halve(search.arguments, evaluation, search.rungs)
    chosen_on = max(episodes for episodes, _ in search.rungs)
    final = interval(evaluation(best, chosen_on, search.final_episodes))
    seeds = environment_seeds("validation", 0, chosen_on + search.final_episodes)
    entry = {
        "name": search.policy,
        "policy": search.policy,
        "argument": best,
        "chosen_from": search.described,
        "chosen_on": {"episodes": chosen_on, "seeds": [seeds[0], chosen_on]},
        "validation": {
            "mean": round(final.mean, 2),
            "std": round(final.std, 2),
            "episodes": search.final_episodes,
            "seeds": [seeds[chosen_on], search.final_episodes],
        },
        "command": command,
    }
    known = load_json(file) if file.exists() else {}
    save_json(file, known | {search.env.id: [entry]})
    found = f"{search.policy} {best}, {final.mean:.1f} ± {final.std:.1f}"
    say(f"{search.env.id}: {found}; now in {file}")
    return entry


@dataclass(frozen=True)
class _Evaluation:
    """Returns of open-loop policies on validation episodes."""

    world: World
    policy: Literal["constant", "sweep"]
    workers: WorkersConfig

    def __call__(self, argument: Any, first: int, count: int) -> np.ndarray:
        """Returns on `count` episodes from number `first` on."""
        baseline = Baseline(self.policy, self.policy, argument)
        seeds = environment_seeds("validation", first, count)
        return evaluate_open_loop(self.world, baseline, seeds, self.workers)[0]


def halve(
    candidates: Sequence[Any],
    measure: Callable[[Any, int, int], np.ndarray],
    rungs: Sequence[tuple[int, int]],
) -> Any:
    """The best candidate by successive halving: fewer and fewer of them on more and more episodes.

    Source: Karnin, Koren & Somekh 2013, with rungs of any size; earlier episodes count too.

    Args:
        candidates: what is compared.
        measure: (candidate, first episode, number of episodes) to returns.
        rungs: (episodes each candidate has then played, candidates kept).
    """
    returns: dict[int, list[float]] = {i: [] for i in range(len(candidates))}
    for episodes, kept in rungs:
        for i in progress(returns, f"{len(returns)} candidates, {episodes} episodes"):
            played = len(returns[i])
            returns[i] += list(measure(candidates[i], played, episodes - played))
        ranked = sorted(returns, key=lambda i: -float(np.mean(returns[i])))
        for i in ranked[:3]:
            mean, std = np.mean(returns[i]), np.std(returns[i], ddof=1)
            say(f"  {episodes} episodes: {candidates[i]} {mean:.1f} ± {std:.1f}")
        returns = {i: returns[i] for i in ranked[:kept]}
    return candidates[next(iter(returns))]
