"""The numbers of a row over its evolutions, and the table in Markdown."""

from dataclasses import replace

import pytest

from worldmodels.config import Config
from worldmodels.diagnostics.study.rows import StudyRow
from worldmodels.diagnostics.study.table import markdown, papers_numbers, summed_up
from worldmodels.models.controller import ControllerConfig
from worldmodels.world import EnvConfig, RawPicture, World


def evolution(dream, real, seconds=30.0):
    rows = {"dream": dream, "real": real}
    measured = {name: {"mean": sum(r) / len(r), "returns": r} for name, r in rows.items()}
    return {"seconds": seconds, **measured}


TWO = [evolution([10.0, 20.0], [1.0, 2.0, 3.0]), evolution([30.0, 40.0], [4.0, 5.0, 9.0], 60.0)]


def test_episodes_are_pooled_and_evolutions_apart():
    row = summed_up(TWO)
    assert (row["evolutions"], row["minutes"]) == (2, 1.5)
    assert (row["dream"]["mean"], row["dream"]["episodes"]) == (25.0, 4)
    assert (row["real"]["mean"], row["real"]["episodes"]) == (4.0, 6)
    assert row["real"]["std"] == pytest.approx((40 / 5) ** 0.5)
    low, high = row["real"]["ci95"]
    assert 1 < low < 4 < high < 9
    assert row["between"]["real"] == pytest.approx(8**0.5)  # means 2 and 6
    assert row["between"]["dream"] == pytest.approx(200**0.5)
    assert summed_up(TWO[:1])["between"] == {"dream": None, "real": None}


def world(id_="VizdoomTakeCover-v1"):
    return World(EnvConfig(id=id_), {}, 35.0, {}, RawPicture((64, 64, 3)))


@pytest.mark.parametrize(
    ("temperature", "changes", "expected"),
    [
        (1.15, {}, (918, 1092)),
        (0.1, {}, (2086, 193)),
        (1.2, {}, None),
        (1.0, {"inputs": "z"}, None),
        (1.0, {"senses": "blind"}, None),
    ],
)
def test_the_papers_number_of_the_same_thing_only(temperature, changes, expected):
    config = Config(controller=ControllerConfig(**{"inputs": "zch", **changes}))
    config = replace(config, dream=replace(config.dream, temperature=temperature))
    row = StudyRow(name="row")
    assert papers_numbers(world(), row, config) == expected
    assert papers_numbers(world("CarRacing-v3"), row, config) is None
    assert papers_numbers(world(), replace(row, round=0), config) is None


def report(**changes):
    baseline = {"mean": 200.0, "std": 110.0, "ci95": (190.0, 210.0)}
    budget = {"generations": 4, "population_size": 6, "rollouts_per_candidate": 2}
    return {
        "run": "toy",
        "environment": "VizdoomTakeCover-v1",
        "config": {
            "evolutions": 2,
            "validation_episodes": 2,
            "dream_episodes": 2,
            "test_episodes": 3,
        },
        "budget": budget,
        "command": "study.py toy",
        "cores": 2,
        "paper_random": 210,
        "rows": {
            "cold": {"summary": summed_up(TWO), "paper": (2086, 193)},
            "blind": {"summary": summed_up(TWO[:1]), "paper": None},
        },
        "baselines": {"random": baseline, "sweep": baseline},
        **changes,
    }


def cells(text):
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


def test_the_table():
    text = markdown(report())
    assert text.startswith("# Study of toy\n\nVizdoomTakeCover-v1. ")
    assert "4 generations of 6 candidates with 2 dreams each" in text
    head, _, cold, blind, random, _ = cells(text)
    assert head[0:3] == ["row", "dream return", "real return"]
    assert head[-1] == "paper: dream / real"
    assert cold[:3] == ["cold", "25.0", "4.0 ± 2.8"]
    assert cold[4:] == ["2.8", "1.5", "2086 / 193"]
    assert blind[0] == "blind (1 of 2 evolutions)"
    assert blind[4] == "-"
    assert random[0] == "random"
    assert random[2] == "200.0 ± 110.0"
    assert random[-1] == "- / 210"


def test_other_worlds_have_no_column_of_the_paper():
    text = markdown(report(paper_random=None))
    assert "paper" not in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {7}
