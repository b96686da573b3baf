"""Find baselines: the best open-loop policy of an environment, on validation episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from worldmodels.acting.evaluate import Lengths, Returns, evaluate_open_loop, interval
from worldmodels.acting.policies import BASELINES, RANDOM, Baseline
from worldmodels.acting.selection import race
from worldmodels.envs.real import describe
from worldmodels.envs.take_cover import TAKE_COVER
from worldmodels.files import load_json, plain, save_json
from worldmodels.models.action import Actions
from worldmodels.run import Run, say
from worldmodels.schema import load_like
from worldmodels.seeding import environment_seeds, numpy_generator
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig, World


@dataclass(frozen=True)
class Search:
    """Candidates in an environment, and how many episodes select among them."""

    policy: Literal["constant", "sweep"]
    arguments: Sequence[Any]
    described: str
    rungs: Sequence[tuple[int, int]]
    """(episodes that each candidate has played by then, candidates that are kept)."""
    final_episodes: int = 0
    """Further episodes of the best one: those that chose it are too favourable."""
    max_frames: int | None = None
    """Frames after which an episode is cut; none: it is not."""


Play = Callable[[Sequence[Baseline], Sequence[int]], tuple[Returns, Lengths]]
"""Returns and lengths of an episode of every policy on every seed."""


class Found(TypedDict):
    """What a run's baselines.json holds."""

    world: dict[str, Any]
    name: str
    policy: str
    argument: Any


STEERINGS = np.linspace(-0.1, 0.1, 20).round(4).tolist()
"""The track is a loop 150 units in radius; a steering of 0.1 turns in 32."""
GASES = np.geomspace(0.02, 1, 10).round(3).tolist()

SEARCHES = {
    "car_racing": (
        EnvConfig(id="CarRacing-v3", training_id="worldmodels/CarRacing-v3"),
        Search(
            "constant",
            [[steering, gas, 0.0] for steering, gas in product(STEERINGS, GASES)],
            "200 constant actions: 20 steerings from -0.1 to 0.1, 10 gases from 0.02 to 1, no "
            "brake",
            rungs=((4, 40), (8, 10), (32, 1)),
            final_episodes=32,
        ),
    ),
    "take_cover": (
        EnvConfig(
            id="VizdoomTakeCover-v1",
            kwargs=dict(TAKE_COVER),
            screen="screen",
            action="thirds",
        ),
        Search(
            "sweep",
            list(range(20, 241, 20)),
            "12 periods from 20 to 240 tics: the first half to the left, the second to the right",
            rungs=((8, 5), (32, 2), (64, 1)),
            final_episodes=64,
        ),
    ),
}
"""The environments for which the package has an open-loop policy, and how it was found."""

MOST = 64
"""Maximum number of constant actions that are tried in other environments."""
LEVELS = {1: 9, 2: 5, 3: 3}
"""Values of each part of a box, by its number of parts; with more parts actions are sampled."""
RUNGS = (2, 8), (6, 3), (16, 1)
"""At most 64 actions play 190 episodes: as many as two policies in an evaluation."""
MAX_FRAMES = 2000
"""Longer episodes of this search are cut."""


def baselines_of(world: World, workers: WorkersConfig, run: Run) -> list[Baseline]:
    """The random policy, and the best open-loop policy of an environment.

    This is the one that comes with the package, or the best constant action: it is found now and
    kept in the run's baselines.json.

    Args:
        world: which environment.
        workers: where episodes run; results do not depend on it.
        run: keeps what is found.
    """
    if shipped := Baseline.shipped(world):
        return [RANDOM, *shipped]
    file = run.folder / "baselines.json"
    about = plain({"env": asdict(world.config), "action": world.action})
    entry = load_like(file, Found) if file.exists() else {}
    if entry.get("world") != about:
        search = constant_actions(world)
        entry = {"world": about, **best_of(search, _real(search, world, workers))}
        save_json(file, entry)
        chosen = f"{entry['argument']}, of {len(search.arguments)}"
        say(f"{world.config.id}: the best constant action is {chosen}; now in {file}")
    return [RANDOM, Baseline(entry["name"], entry["policy"], entry["argument"])]


def constant_actions(world: World) -> Search:
    """All actions of a discrete space, a grid of a small Box, or samples of a larger space."""
    actions = Actions.from_dict(world.action)
    low, high, counts = np.array(actions.low), np.array(actions.high), actions.counts
    generator = numpy_generator(0, "constant actions")
    if actions.choices:
        arguments: list[Any] = list(range(actions.choices))
        described = f"all {actions.choices} actions"
    elif counts:  # a multi-binary part has two choices, and one number in `counts`
        choices = np.array([2] * len(counts) if actions.kind == "multi_binary" else counts)
        if choices.prod(dtype=float) <= MOST:
            arguments = [list(one) for one in product(*map(range, choices.tolist()))]
        else:
            sampled = generator.integers(choices, size=(MOST - 1, len(choices))).tolist()
            arguments = np.unique([[0] * len(choices), *sampled], axis=0).tolist()
        described = f"{len(arguments)} combinations of the choices"
    elif len(low) in LEVELS:
        parts = np.linspace(low, high, LEVELS[len(low)]).T.tolist()
        arguments = [list(one) for one in product(*parts)]
        described = f"a grid of {len(arguments)} actions"
    else:
        rest = np.clip(np.zeros_like(low), low, high)
        uniform = generator.uniform(low, high, (MOST - 3, len(low)))
        arguments = np.stack([rest, low, high, *uniform]).tolist()
        described = f"{MOST} actions: at rest, the bounds, and uniform ones"
    return Search("constant", arguments, described, RUNGS, max_frames=MAX_FRAMES)


def find_baselines(
    name: str, workers: WorkersConfig, command: str, file: Path = BASELINES
) -> dict[str, Any]:
    """Finds the best open-loop policy of one of `SEARCHES` and writes it to baselines.json.

    Args:
        name: of the environment.
        workers: where episodes run; results do not depend on it.
        command: goes into the file, to be repeated.
        file: baselines.json; its entries of other environments stay.

    Returns:
        The environment's entry.
    """
    env, search = SEARCHES[name]
    entry = best_of(search, _real(search, describe(env), workers)) | {"command": command}
    known = load_json(file) if file.exists() else {}
    save_json(file, known | {env.id: [entry]})
    final = entry["validation"]
    found = f"{search.policy} {entry['argument']}, {final['mean']:.1f} ± {final['std']:.1f}"
    say(f"{env.id}: {found}; now in {file}")
    return entry


def best_of(search: Search, play: Play) -> dict[str, Any]:
    """The entry of the best candidate in baselines.json, from a race on validation episodes."""
    chosen_on = search.rungs[-1][0]
    seeds = environment_seeds("validation", 0, chosen_on + search.final_episodes)
    measure = partial(_measure, search, play)
    candidates = np.arange(len(search.arguments))
    best = race(measure, candidates, seeds[:chosen_on], search.rungs).kept[0]
    entry = {
        "name": search.policy,
        "policy": search.policy,
        "argument": search.arguments[best],
        "chosen_from": search.described,
        "chosen_on": {"episodes": chosen_on, "seeds": [seeds[0], chosen_on]},
    }
    if search.final_episodes:
        final = interval(measure(candidates[[best]], seeds[chosen_on:])[0][0])
        entry["validation"] = {
            "mean": round(final.mean, 2),
            "std": round(final.std, 2),
            "episodes": search.final_episodes,
            "seeds": [seeds[chosen_on], search.final_episodes],
        }
    return entry


def _real(search: Search, world: World, workers: WorkersConfig) -> Play:
    """Plays in a real environment."""
    return partial(
        evaluate_open_loop,
        world,
        workers=workers,
        max_frames=search.max_frames,
        label="open-loop policies",
    )


def _measure(
    search: Search, play: Play, indices: np.ndarray, seeds: Sequence[int]
) -> tuple[Returns, Lengths]:
    """Returns and lengths of some candidates."""
    tried = [Baseline(search.policy, search.policy, search.arguments[i]) for i in indices]
    return play(tried, seeds)
