"""Ways of evolving, compared at equal spending."""

import numpy as np
import pytest
from benchmark.evolution import (
    Budget,
    Curve,
    Point,
    Way,
    compare,
    crossing,
    savings,
    savings_table,
)

from worldmodels.command_line import read
from worldmodels.config import Config


def test_every_way_may_spend_the_same(smoke_run):
    config = read(Config, smoke_run.config_file)
    per_generation = config.cma.population_size * 3 * config.dream.horizon
    budget = Budget(generations=4, points=2, tracks=1)
    ways = Way(name="full", rollouts=3), Way(name="halving", rollouts=3, screening=1)
    full, halved, again = list(compare(smoke_run, config, ways, [0], budget, smoke_run)) + list(
        compare(smoke_run, config, ways[:1], [0], budget, smoke_run)
    )
    assert full == again
    assert (full.way, halved.way, full.seed) == ("full", "halving", 0)
    for curve in (full, halved):
        for share, point in enumerate(curve.points, 1):
            most = per_generation * (budget.generations * share / budget.points + 1)
            assert point.steps < most
            assert point.validation > 0
    last = halved.points[-1]
    assert last.episodes == last.generations * (config.cma.population_size * 2)
    assert last.generations > full.points[-1].generations


def test_savings_are_read_off_the_mean_curve():
    def curve(way, seed, validation, cost):
        points = [Point(g, 2 * g, g * cost, v) for g, v in enumerate(validation, 1)]
        return Curve(way, seed, points)

    curves = [
        curve("full", 0, [0.0, 10.0, 20.0], 100),
        curve("fast", 0, [8.0, 24.0, 22.0], 50),
        curve("full", 1, [0.0, 20.0, 30.0], 100),
        curve("fast", 1, [12.0, 16.0, 24.0], 50),
        curve("never", 0, [1.0, 2.0, 3.0], 1),
    ]
    full, fast, never = savings(curves, 15.0)
    assert (full.way, full.last, full.error) == ("full", 25.0, 5.0)
    assert (full.steps, full.episodes) == (200.0, 4.0)
    assert (fast.steps, fast.episodes) == (75.0, 3.0)
    assert (never.steps, never.episodes, never.error) == (None, None, 0.0)
    rows = savings_table(curves, share=0.6).splitlines()
    assert rows[0].startswith("| way | dream steps to 15 |")
    assert rows[3] == "| fast | 75 | 3 | 2.7x | 23 ± 1 |"
    assert rows[4] == "| never | not reached |  |  | 3 ± 0 |"


def test_the_first_crossing_counts():
    x = np.array([10.0, 20.0, 30.0])
    assert crossing(x, np.array([5.0, 0.0, 9.0]), 5.0) == 10.0
    assert crossing(x, np.array([0.0, 0.0, 8.0]), 2.0) == pytest.approx(22.5)
