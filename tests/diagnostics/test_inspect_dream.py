"""The inspection of a tiny run: its numbers, its figures, and what goes wrong with it."""

import json
import shutil
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from certain import certain_reward

from worldmodels.artifacts import load_controller
from worldmodels.diagnostics import prediction
from worldmodels.diagnostics.inspection import Part
from worldmodels.files import load_json, load_tensors, save_tensors

M = ["episodes", "vae", "latents", "mdnrnn", "controller"]
REWARD, TERMINATION = slice(-62, -1), -1
"""Rows of M's last layer."""
HORIZON = 12
SMALL = {
    "workers.processes": 1,
    "inspect.episodes": 12,
    "inspect.starts": 12,
    "inspect.dreams": 2,
    "inspect.ranking_episodes": 3,
    "inspect.ranking_dreams": 8,
    "inspect.neighbours": 4,
}
FIGURES = {f"{part}.png" for part in get_args(Part)} - {"fireballs.png", "reward.png", "risk.png"}


@pytest.fixture(autouse=True)
def fewer_windows(monkeypatch):
    monkeypatch.setattr(prediction, "WINDOWS", 20)
    monkeypatch.setattr(prediction, "SAMPLES", 4)


@pytest.fixture
def inspect(script):
    """Runs the command; what inspection.json holds then."""

    def run_it(run, *flags):
        script("inspect_dream", run.folder, *(f"--{k}={v}" for k, v in SMALL.items()), *flags)
        return load_json(run.folder / "inspection" / "inspection.json")

    return run_it


@pytest.fixture
def run(smoke_copy):
    """A run with three controllers to be ranked."""
    run = smoke_copy(*M)
    best = load_controller(run).best
    means = torch.stack([best, -best, torch.zeros_like(best)])
    tensors = {"means": means, "generations": torch.tensor([2, 4, 6])}
    save_tensors(run.folder / "controllers" / "seed0.safetensors", tensors)
    return run


def dies(run, *, after_one_step):
    """An M that pays 1 a step, as CartPole does, and ends every dream at once or none ever."""
    path = run.mdnrnn / "mdnrnn.safetensors"
    tensors, metadata = load_tensors(path)
    tensors["head.weight"][-62:] = 0.0
    tensors["head.bias"][REWARD] = certain_reward(1.0)
    tensors["head.bias"][TERMINATION] = 20.0 if after_one_step else -20.0
    save_tensors(path, tensors, metadata)


def test_a_whole_inspection(inspect, run, capsys):
    report = inspect(run)
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"{run.folder / 'inspection'} holds inspection.json and the figures"
    assert {path.name for path in (run.folder / "inspection").iterdir()} >= FIGURES
    assert report["reconstruction"][0]["latents"] == 8
    assert 0 < report["reconstruction"][0]["moving_share"] < 0.2  # cart and pole
    assert report["fireballs"] == []  # this world has none
    assert any(line.startswith("| frames | latents | active |") for line in said)
    rows = report["likelihood"]
    assert [row["steps_ahead"] for row in rows] == [1, 5, 15, 50]
    assert all(row["windows"] + row["left_out"] == 20 for row in rows)
    assert (rows[3]["windows"], rows[3]["nll"]) == (0, None)
    raw, corrected = report["termination"]
    assert corrected["probability"] == "corrected for weight 10"
    assert raw["predicted"] > corrected["predicted"]
    assert report["risk"] == []  # this M has no such head
    assert np.mean(report["pit"][0]["histogram"]) == pytest.approx(1)
    check_survival(report["survival"])
    check_held_out(run, report)
    (ranking,) = report["ranking"]
    assert ranking["controllers"] == 3
    assert [one["generation"] for one in ranking["candidates"]] == [2, 4, 6]
    (near,) = report["neighbours"]
    assert (near["controllers"], near["sigma"]) == (4, 0.1)
    assert len({one["dream"] for one in near["candidates"]}) > 1
    assert all("inspect-dream" in made["command"] for made in report["conditions"].values())
    ends = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert any(line["stage"] == "inspect_dream" and line.get("event") == "end" for line in ends)


def check_survival(rows):
    """Open-loop policies go on from the collecting policy's moments, C from its own."""
    assert all(row["horizon"] == HORIZON for row in rows)
    drivers = {row["policy"]: row["driver"] for row in rows}
    own = {"random": "explorer", "explorer": "explorer", "controller": "controller"}
    assert drivers == own
    assert all(row["starts"] == 12 for row in rows)
    assert all(1 < row["episodes"] <= 12 for row in rows)


def check_held_out(run, report):
    """Fresh episodes on validation seeds, none of the run's own; every part says how many."""
    counts = {
        "explorer": {"episodes": 12, "first_seed": 100_001_000},
        "controller": {"episodes": 12, "first_seed": 100_001_012},
    }
    assert all(made["held_out"] == counts for made in report["conditions"].values())
    recorded = {path.read_bytes() for path in run.episodes.glob("*.npz")}
    for driver in counts:
        fresh = list((run.folder / "inspection" / driver / "episodes").glob("*.npz"))
        assert len(fresh) == 12
        assert not recorded & {path.read_bytes() for path in fresh}


@pytest.mark.parametrize("after_one_step", [True, False])
def test_a_dream_that_ends_otherwise_than_reality(inspect, smoke_copy, capsys, after_one_step):
    run = smoke_copy("episodes", "vae", "latents", "mdnrnn")
    dies(run, after_one_step=after_one_step)
    report = inspect(run, "--inspect.parts=[survival]")
    for row in report["survival"]:
        alive = [1.0] + [0.0 if after_one_step else 1.0] * HORIZON
        assert [x for x in row["curves"]["dream"] if x is not None] == pytest.approx(alive)
        assert row["returns"]["dream"] == pytest.approx(row["dream"], rel=1e-3)
        assert row["returns"]["real"] == pytest.approx(row["real"])
        assert (row["ratio"] < 1) == after_one_step
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("looks wrong")]
    assert "explorer: steps survived in the dream" in line
    assert ("below -0.15" if after_one_step else "above 0.15") in line
    assert "controller" not in [row["policy"] for row in report["survival"]]


def test_parts_are_added_and_measured_controllers_kept(inspect, run, monkeypatch):
    first = inspect(run, "--inspect.parts=[ranking]")
    assert "pit" not in first
    monkeypatch.setattr("worldmodels.acting.evaluate.run_jobs", None)  # nothing is measured again
    both = inspect(run, "--inspect.parts=[pit,ranking]")
    assert both["ranking"] == first["ranking"]
    assert both["pit"][0]["steps"] > 0


def test_another_m_is_measured_anew(inspect, run):
    inspect(run, "--inspect.parts=[pit]")
    dies(run, after_one_step=False)
    (run.controller / "controller.safetensors").unlink()
    assert "pit" not in inspect(run, "--inspect.parts=[likelihood]")


def test_it_needs_none_of_the_runs_own_episodes(inspect, smoke_copy):
    run = smoke_copy("vae", "latents", "mdnrnn")
    report = inspect(run, "--inspect.parts=[reconstruction,survival,ranking]")
    assert report["reconstruction"][0]["frames"] > 100
    assert {row["policy"] for row in report["survival"]} == {"random", "explorer"}
    assert report["ranking"] == []


def test_a_config_that_changes_later_rounds(inspect, smoke_copy):
    run = smoke_copy("vae", "latents", "mdnrnn", later={1: {"train_vae": {"steps": 3}}})
    assert inspect(run, "--inspect.parts=[pit]")["pit"][0]["steps"] > 0


def test_held_out_episodes_begin_without_options(inspect, smoke_copy):
    """Their moments are reached again by seed and actions."""
    run, found = smoke_copy(*M), []
    for options in ("{}", "{low: -0.2, high: -0.19}"):
        inspect(run, "--inspect.parts=[pit]", f"--collect.reset_options={options}")
        files = sorted((run.folder / "inspection").glob("*/episodes/*.npz"))
        found.append([path.read_bytes() for path in files])
        shutil.rmtree(run.folder / "inspection")
    assert len(found[0]) == 24
    assert found[1] == found[0]


def test_held_out_episodes_are_recorded_once(inspect, run, monkeypatch):
    inspect(run, "--inspect.parts=[pit]")
    folder = run.folder / "inspection"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}
    inspect(run, "--inspect.parts=[pit]")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")} == before
    (run.controller / "controller.safetensors").unlink()
    inspect(run, "--inspect.parts=[pit]", "--inspect.episodes=11")
    after = {path: path.stat().st_mtime_ns for path in (folder / "explorer").rglob("*.npz")}
    assert len(after) == 22
    assert all(after[path] != before[path] for path in after)


def test_without_matplotlib_the_numbers_are_there(inspect, smoke_copy, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run = smoke_copy("vae", "latents", "mdnrnn")
    assert inspect(run, "--inspect.parts=[pit]")["pit"][0]["steps"] > 0
    assert "pip install -e '.[figures]'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--inspect.starts=3"], "no run is named"),
        (["nothing"], "nothing/config.yaml is missing"),
        (["{run}", "--inspect.dreams=0"], "inspect.dreams is 0: it must be at least 1"),
        (["{run}", "--inspect.start=3"], "did you mean inspect.starts?"),
        (["{run}", "--inspect.parts=[dreams]"], "inspect.parts"),
        (["{run}"], "mdnrnn.safetensors is missing: run `worldmodels train-mdnrnn` first"),
    ],
)
def test_mistakes_are_one_line_and_code_2(script, smoke_copy, capsys, flags, message):
    run = smoke_copy("vae", "latents")
    with pytest.raises(SystemExit, match="2"):
        script("inspect_dream", *(flag.format(run=run.folder) for flag in flags))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
