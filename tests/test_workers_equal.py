"""Real work gives the same bits on one and on two worker processes."""

import shutil

import pytest

from worldmodels.files import load_json, load_tensors
from worldmodels.run import Run

TWO = "--workers.processes=2"


def both(script, run, stage, *flags):
    """The stage on one worker in this folder, on two in a copy of it."""
    twin = Run(run.folder.parent / "two")
    shutil.copytree(run.folder, twin.folder)
    script(stage, "--run", run.folder, *flags)
    script(stage, "--run", twin.folder, *flags, TWO)
    return run, twin


def test_collect_cart_pole(script, smoke_copy, hashes):
    one, two = both(script, smoke_copy(collect={"episodes": 12}), "collect")
    assert len(hashes(one.episodes)) == 12 + 1  # and the manifest
    assert hashes(one.episodes) == hashes(two.episodes)


def test_collect_car_racing(script, smoke_copy, hashes):
    """An environment that keeps much between episodes: which worker played before must not show."""
    car = {
        **{"id": "worldmodels/CarRacing-v3", "action_repeat": 2, "action_clip": [2]},
        **{"reward": "count", "count_attribute": "tile_visited_count", "terminates": False},
    }
    run = smoke_copy(env=car, collect={"episodes": 8, "max_steps": 5})
    run.world_file.unlink()
    one, two = both(script, run, "collect")
    assert len(hashes(one.episodes)) == 8 + 1
    assert hashes(one.episodes) == hashes(two.episodes)
    assert load_json(one.world_file) == load_json(two.world_file)


@pytest.mark.parametrize(
    ("dreamt", "savings"),
    [(0, {}), (1, {}), (0, {"patience": 4})],
    ids=["cold", "warm", "saving"],
)
def test_evolve_in_the_real_world(script, smoke_copy, hashes, dreamt, savings):
    """Cold, and from the mean that the dream left."""
    lengths = {"generations": dreamt, "real_generations": 2}
    run = smoke_copy("episodes", "vae", "latents", "mdnrnn", evolve=lengths | savings)
    one, two = both(script, run, "evolve")
    result = "controller.safetensors"
    assert hashes(one.controller)[result] == hashes(two.controller)[result]
    tensors, about = load_tensors(two.controller / result)
    assert tensors["last"].abs().max() > 0
    assert about["real_steps"]["evolve"] > 0
