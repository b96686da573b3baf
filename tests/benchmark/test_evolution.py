"""Ways of evolving, compared at equal spending."""

import numpy as np
import pytest
from benchmark import evolution
from benchmark.evolution import compare, crossing, savings

from worldmodels.command_line import read
from worldmodels.config import Config


def test_every_way_may_spend_the_same(smoke_run, monkeypatch):
    for name, value in (("ROLLOUTS", 3), ("GENERATIONS", 4), ("POINTS", 2), ("TRACKS", 1)):
        monkeypatch.setattr(evolution, name, value)
    ways = {"full": {}, "fewer": {"rollouts_per_candidate": 2}}
    monkeypatch.setattr(evolution, "WAYS", ways)
    config = read(Config, smoke_run.config_file)
    per_generation = config.cma.population_size * 3 * config.dream.horizon
    full, fewer = compare(smoke_run, config, [0])
    assert next(compare(smoke_run, config, [0])) == full
    assert (full[0]["way"], fewer[0]["way"], full[0]["seed"]) == ("full", "fewer", 0)
    for curve in (full, fewer):
        for share, point in enumerate(curve, 1):
            assert point["steps"] < per_generation * (4 * share / 2 + 1)
            assert point["return"] > 0
    last = fewer[-1]
    assert last["episodes"] == last["generations"] * (config.cma.population_size * 2)
    assert last["generations"] > full[-1]["generations"]


def test_savings_are_read_off_the_mean_curve(monkeypatch):
    monkeypatch.setattr(evolution, "SHARE", 0.6)

    def curve(way, validation, cost):
        points = enumerate(validation, 1)
        return [{"way": way, "steps": g * cost, "episodes": 2 * g, "return": v} for g, v in points]

    curves = [
        curve("full", [0.0, 10.0, 20.0], 100),
        curve("fast", [8.0, 24.0, 22.0], 50),
        curve("full", [0.0, 20.0, 30.0], 100),
        curve("fast", [12.0, 16.0, 24.0], 50),
        curve("never", [1.0, 2.0, 3.0], 1),
    ]
    names = "steps", "episodes", "saves", "return_at_the_end", "error"
    full, fast, never = ([row[name] for name in names] for row in savings(curves))
    assert full == [200.0, 4.0, 1.0, 25.0, 5.0]
    assert fast == [75.0, 3.0, pytest.approx(200 / 75), 23.0, 1.0]
    assert never == [None, None, None, 3.0, 0.0]


def test_the_first_crossing_counts():
    x = np.array([10.0, 20.0, 30.0])
    assert crossing(x, np.array([5.0, 0.0, 9.0]), 5.0) == 10.0
    assert crossing(x, np.array([0.0, 0.0, 8.0]), 2.0) == pytest.approx(22.5)
