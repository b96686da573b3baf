"""Find baselines: the best open-loop policy of a world, on validation episodes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worldmodels.acting.evaluate import Lengths, Returns, evaluate_open_loop, interval
from worldmodels.acting.policies import BASELINES, Baseline
from worldmodels.acting.selection import race
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
    chosen_on = search.rungs[-1][0]
    seeds = environment_seeds("validation", 0, chosen_on + search.final_episodes)
    measure = partial(_measure, search, describe(search.env), workers)
    candidates = np.arange(len(search.arguments))
    best = race(measure, candidates, seeds[:chosen_on], search.rungs).kept[0]
    final = interval(measure(candidates[[best]], seeds[chosen_on:])[0][0])
    argument = search.arguments[best]
    entry = {
        "name": search.policy,
        "policy": search.policy,
        "argument": argument,
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
    found = f"{search.policy} {argument}, {final.mean:.1f} ± {final.std:.1f}"
    say(f"{search.env.id}: {found}; now in {file}")
    return entry


def _measure(
    search: Search, world: World, workers: WorkersConfig, indices: np.ndarray, seeds: Sequence[int]
) -> tuple[Returns, Lengths]:
    """Returns of some candidates; nobody asks for their lengths."""
    played = [
        evaluate_open_loop(
            world, Baseline(search.policy, search.policy, search.arguments[i]), seeds, workers
        )
        for i in progress(indices, f"{len(indices)} candidates, {len(seeds)} episodes")
    ]
    return np.stack(played), np.zeros((len(indices), len(seeds)), np.int64)
