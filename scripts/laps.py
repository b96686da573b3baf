"""What becomes of a CarRacing agent's laps: complete, tiles missed, or out of time.

    python scripts/laps.py runs/quick --tracks 100

Drives validation tracks, one after the other, in the redrawn environment, and prints a table.
"""

from typing import Any

import gymnasium
import numpy as np
from jsonargparse import auto_cli

import worldmodels
from worldmodels.acting.agent import Agent
from worldmodels.command_line import one_line_errors
from worldmodels.diagnostics.table import table_of
from worldmodels.seeding import environment_seeds

FIRST = 600
"""Number of the first track: none of those before, on which runs choose their controllers."""
KINDS = "complete", "tiles missed", "out of time"
NUMBERS = "return", "frames", "missed", "ahead"


def main(bundle: str, tracks: int = 100) -> None:
    """Prints shares and means of each kind of lap.

    Args:
        bundle: a shipped bundle's name, a bundle's folder or a run folder.
        tracks: laps, one on each track.
    """
    agent, env = worldmodels.load(bundle), gymnasium.make("worldmodels/CarRacing-v3")
    seeds = environment_seeds("validation", FIRST, tracks)
    laps = np.array([lap(agent, env, seed) for seed in seeds])
    kinds, returns = laps[:, 0], laps[:, 1]
    rows = []
    for kind, name in enumerate(KINDS):
        mine = laps[kinds == kind, 1:]
        means = zip(NUMBERS, mine.mean(axis=0) if len(mine) else [None] * 4, strict=True)
        rows.append({"laps": name, "share": len(mine) / tracks, **dict(means)})
    print(table_of(rows))
    print(f"all: {returns.mean():.1f} ± {returns.std():.1f}")


def lap(agent: Agent, env: gymnasium.Env[Any, Any], seed: int) -> tuple[int, float, int, int, int]:
    """The lap's kind, return, frames, and unvisited tiles before and after the last visited one."""
    observation, _ = env.reset(seed=seed)
    agent.reset()
    car: Any = env.unwrapped
    earned, frames, over = 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(agent.act(observation))
        earned, frames, over = earned + float(reward), frames + 1, terminated or truncated
    visited = np.array([tile.road_visited for tile in car.road])
    ahead = int(visited[::-1].argmax())
    missed = int((~visited).sum()) - ahead
    return 0 if visited.all() else 1 if ahead < 3 else 2, earned, frames, missed, ahead


if __name__ == "__main__":
    with one_line_errors():
        auto_cli(main, as_positional=True)
