"""Open-loop baselines: the search, and what it found."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from worldmodels.acting.evaluate import evaluate_open_loop
from worldmodels.acting.policies import BASELINES, Baseline
from worldmodels.envs.real import describe, make_env
from worldmodels.envs.take_cover import TAKE_COVER
from worldmodels.files import load_json
from worldmodels.models.action import Actions
from worldmodels.seeding import SPLIT_SIZE, SPLITS
from worldmodels.stages import find_baselines as module
from worldmodels.stages.find_baselines import (
    SEARCHES,
    baselines_of,
    constant_actions,
    find_baselines,
)
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig, RawPicture, World

HERE = WorkersConfig(processes=1)
SCRIPT = Path(__file__).parents[2] / "scripts" / "find_baselines.py"


def test_a_tiny_search_and_its_file(tmp_path, monkeypatch):
    pytest.importorskip("Box2D")
    env, search = SEARCHES["car_racing"]
    env = replace(env, max_episode_steps=60)
    search = replace(
        search, arguments=[[0.0, 0.0, 1.0], [0.0, 0.1, 0.0]], rungs=((2, 1),), final_episodes=2
    )
    monkeypatch.setitem(SEARCHES, "car_racing", (env, search))
    file = tmp_path / "baselines.json"
    file.write_text('{"Other-v0": []}')
    entry = find_baselines("car_racing", HERE, "the command", file)
    assert entry["argument"] == [0.0, 0.1, 0.0]  # who brakes takes no tile
    first = SPLITS["validation"]
    assert entry["chosen_on"]["seeds"] == [first, 2]
    assert entry["validation"]["seeds"] == [first + 2, 2]
    assert load_json(file) == {"Other-v0": [], "CarRacing-v3": [entry]}
    seeds = [first + 2, first + 3]
    found = Baseline("constant", "constant", entry["argument"])
    again = evaluate_open_loop(describe(env), [found], seeds, HERE)[0]
    assert entry["validation"]["mean"] == round(again.mean(), 2)
    # without pictures the redrawn twin is the official world, to the bit
    official = replace(env, training_id=None)
    same = evaluate_open_loop(describe(official), [found], seeds, HERE)[0]
    assert (same == again).all()


@pytest.mark.parametrize("name", SEARCHES)
def test_the_shipped_baselines(name):
    pytest.importorskip({"car_racing": "Box2D", "take_cover": "vizdoom"}[name])
    env, search = SEARCHES[name]
    (entry,) = load_json(BASELINES)[env.id]
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
        car = make_env(env, official=True)
        assert car.action_space.contains(np.array(entry["argument"], np.float32))
        car.close()


def test_dooms_actions_are_what_the_sweep_takes_them_for():
    vizdoom = pytest.importorskip("vizdoom")
    env = make_env(SEARCHES["take_cover"][0], official=True).unwrapped
    buttons = env.game.get_available_buttons()
    pressed = [[b for b, on in zip(buttons, row, strict=True) if on] for row in env.button_map]
    assert pressed == [[], [vizdoom.Button.MOVE_RIGHT], [vizdoom.Button.MOVE_LEFT]]
    assert SEARCHES["take_cover"][0].kwargs == TAKE_COVER
    env.close()


class Levers(gymnasium.Env):
    """The second of four levers pays 1 with probability 0.9, the others with 0.1; no end."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(4)

    def __init__(self, pays=1.0):
        self.pays = pays

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((8, 8, 3), np.uint8), {}

    def step(self, action):
        paid = self.np_random.random() < (0.9 if action == 1 else 0.1)
        return np.zeros((8, 8, 3), np.uint8), self.pays * paid, False, False, {}


gymnasium.register("tests/Levers-v0", Levers)


def test_the_best_constant_action_is_found_once(tmp_run, monkeypatch):
    monkeypatch.setattr(module, "MAX_FRAMES", 20)  # the world has no end of its own
    world = describe(EnvConfig(id="tests/Levers-v0"))
    random, constant = baselines_of(world, HERE, tmp_run)
    assert (random.name, constant.name, constant.argument) == ("random", "constant", 1)
    kept = (tmp_run.folder / "baselines.json").read_bytes()
    assert load_json(tmp_run.folder / "baselines.json")["chosen_on"]["seeds"] == [
        SPLITS["validation"],
        16,
    ]
    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate_open_loop", None)  # nothing is played again
        assert baselines_of(world, HERE, tmp_run) == [random, constant]
    dear = describe(EnvConfig(id="tests/Levers-v0", kwargs={"pays": -1.0}))
    assert baselines_of(dear, HERE, tmp_run)[1].argument != 1
    assert (tmp_run.folder / "baselines.json").read_bytes() != kept


@pytest.mark.parametrize(
    ("actions", "count"),
    [
        (Actions("discrete", counts=(6,)), 6),
        (Actions("thirds", (-1.0,), (1.0,)), 3),
        (Actions("multi_binary", counts=(1, 1, 1)), 8),
        (Actions("multi_discrete", counts=(3, 2)), 6),
        (Actions("multi_discrete", counts=(9,) * 20), 64),
        (Actions("box", (-2.0,), (2.0,)), 9),
        (Actions("box", (-1.0, 0.0), (1.0, 1.0)), 25),
        (Actions("box", (-1.0,) * 3, (1.0,) * 3), 27),
        (Actions("box", (-1.0,) * 17, (1.0,) * 17), 64),
    ],
)
def test_constant_actions_of_every_kind_of_space(actions, count):
    world = World(EnvConfig(), actions.to_dict(), 30.0, {}, RawPicture((64, 64, 3)))
    found = constant_actions(world).arguments
    assert len(found) == len({str(one) for one in found}) == count
    own = actions.from_environment(np.stack([np.asarray(one) for one in found]))
    assert all(actions.space.contains(row) for row in own.astype(np.float32))
    if actions.kind == "box":
        assert [0.0] * len(actions.low) in found or actions.low[1] == 0.0


def test_the_command_line_names_the_worlds(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, "--world", "chess"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    message = capsys.readouterr().err
    assert "car_racing" in message
    assert "take_cover" in message
