"""Open-loop baselines: the search, and what it found."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worldmodels.acting.evaluate import evaluate_open_loop
from worldmodels.acting.policies import BASELINES, Baseline
from worldmodels.envs.real import describe, make_env
from worldmodels.envs.take_cover import TAKE_COVER
from worldmodels.files import load_json
from worldmodels.seeding import SPLIT_SIZE, SPLITS
from worldmodels.stages.find_baselines import SEARCHES, find_baselines
from worldmodels.workers import WorkersConfig

HERE = WorkersConfig(processes=1)
SCRIPT = Path(__file__).parents[2] / "scripts" / "find_baselines.py"


def test_a_tiny_search_and_its_file(tmp_path):
    pytest.importorskip("Box2D")
    search = replace(
        SEARCHES["car_racing"],
        env=replace(SEARCHES["car_racing"].env, max_episode_steps=60),
        arguments=[[0.0, 0.0, 1.0], [0.0, 0.1, 0.0]],
        rungs=((2, 1),),
        final_episodes=2,
    )
    file = tmp_path / "baselines.json"
    file.write_text('{"Other-v0": []}')
    entry = find_baselines(search, HERE, "the command", file)
    assert entry["argument"] == [0.0, 0.1, 0.0]  # who brakes takes no tile
    first = SPLITS["validation"]
    assert entry["chosen_on"]["seeds"] == [first, 2]
    assert entry["validation"]["seeds"] == [first + 2, 2]
    assert load_json(file) == {"Other-v0": [], "CarRacing-v3": [entry]}
    seeds = [first + 2, first + 3]
    found = Baseline("constant", "constant", entry["argument"])
    again = evaluate_open_loop(describe(search.env), found, seeds, HERE)
    assert entry["validation"]["mean"] == round(again.mean(), 2)
    # without pictures the redrawn twin is the official world, to the bit
    official = replace(search.env, training_id=None)
    same = evaluate_open_loop(describe(official), found, seeds, HERE)
    assert (same == again).all()


@pytest.mark.parametrize("name", SEARCHES)
def test_the_shipped_baselines(name):
    pytest.importorskip({"car_racing": "Box2D", "take_cover": "vizdoom"}[name])
    search = SEARCHES[name]
    (entry,) = load_json(BASELINES)[search.env.id]
    assert entry["policy"] == search.policy
    assert entry["argument"] in list(search.arguments)
    assert entry["command"] == f"worldmodels find-baselines --world {name}"
    for key in ("chosen_on", "validation"):
        first, count = entry[key]["seeds"]
        start = SPLITS["validation"]
        assert start <= first < first + count <= start + SPLIT_SIZE
        assert entry[key]["episodes"] == count
    if name == "car_racing":
        assert len(search.arguments) == 200
        env = make_env(search.env, official=True)
        assert env.action_space.contains(np.array(entry["argument"], np.float32))
        env.close()


def test_dooms_actions_are_what_the_sweep_takes_them_for():
    vizdoom = pytest.importorskip("vizdoom")
    env = make_env(SEARCHES["take_cover"].env, official=True).unwrapped
    buttons = env.game.get_available_buttons()
    pressed = [[b for b, on in zip(buttons, row, strict=True) if on] for row in env.button_map]
    assert pressed == [[], [vizdoom.Button.MOVE_RIGHT], [vizdoom.Button.MOVE_LEFT]]
    assert SEARCHES["take_cover"].env.kwargs == TAKE_COVER
    env.close()


def test_the_command_line_names_the_worlds(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, "--world", "chess"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    message = capsys.readouterr().err
    assert "car_racing" in message
    assert "take_cover" in message
