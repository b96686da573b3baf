"""A bundle becomes a run again: its dream is all that other controllers need."""

import gymnasium
import numpy as np
import pytest
import torch
import yaml

from worldmodels.acting.environments import Dreams
from worldmodels.artifacts import Bundle, load_controller
from worldmodels.command_line import read
from worldmodels.config import Config
from worldmodels.files import load_json
from worldmodels.run import Run

BUDGET = {
    "evolutions": 1,
    "changes": {"evolve": {"generations": 2, "validate_every": 1, "validation_episodes": 0}},
    "test_episodes": 2,
    "dream_episodes": 4,
}


@pytest.fixture
def unpacked(script, smoke_copy, tmp_path):
    """A run made of the bundle of another, and that bundle."""
    run = smoke_copy("vae", "latents", "mdnrnn", "controller")
    script("evaluate", "--run", run.folder, "--evaluate.episodes=2")
    found = Run(tmp_path / "unpacked")
    script("unpack", run.folder, "--config", run.config_file, "--run", found.folder)
    return found, run.bundle


def test_controllers_are_evolved_studied_and_ranked_without_the_data(script, unpacked, tmp_path):
    run, folder = unpacked
    script("evolve", "--run", run.folder)
    bundle, saved = Bundle.load(folder), load_controller(run)
    assert saved.best.shape == bundle.parameters.shape
    script("evaluate", "--run", run.folder, "--evaluate.episodes=2")
    again = Bundle.load(run.bundle)
    torch.testing.assert_close(again.parameters, saved.best, rtol=1e-3, atol=1e-3)
    assert torch.equal(again.starts.mu, bundle.starts.mu)
    rows = tmp_path / "study.yaml"
    rows.write_text(yaml.safe_dump({"study": {**BUDGET, "rows": {"own": {}}}}))
    script("study", run.folder, "--config", rows)
    few = "--inspect.episodes=2", "--inspect.ranking_episodes=2", "--inspect.ranking_dreams=4"
    script("inspect_dream", run.folder, "--inspect.parts=[ranking]", *few)
    assert (
        load_json(run.folder / "inspection" / "inspection.json")["ranking"][0]["controllers"] == 2
    )


def test_its_dream_is_inspected_without_the_data(script, unpacked):
    """The bundle's own controller drives half of the held-out episodes."""
    run, folder = unpacked
    bundle, saved = Bundle.load(folder), load_controller(run)
    np.testing.assert_array_equal(saved.best, bundle.parameters)
    few = "--inspect.episodes=3", "--inspect.starts=3"
    script("inspect_dream", run.folder, "--inspect.parts=[pit,survival]", *few)
    report = load_json(run.folder / "inspection" / "inspection.json")
    assert report["pit"][0]["steps"] > 0
    assert "controller" in [row["policy"] for row in report["survival"]]


def test_the_dream_is_the_bundles(unpacked):
    run, folder = unpacked
    config = read(Config, run.config_file)
    ours = Dreams.of_run(run, config.controller, config.dream, 0).make(3)
    bundles = gymnasium.make_vec("worldmodels/Dream-v0", num_envs=3, bundle=folder)
    (a, _), (b, _) = ours.reset(seed=5), bundles.reset(seed=5)
    np.testing.assert_array_equal(a, b)
    actions = np.stack([ours.single_action_space.sample() for _ in range(3)])
    np.testing.assert_array_equal(ours.step(actions)[0], bundles.step(actions)[0])


def test_what_is_lacking_is_named_and_no_run_is_overwritten(script, unpacked, tmp_path, capsys):
    (run, folder), fresh, rounds = unpacked, tmp_path / "fresh", tmp_path / "rounds.yaml"
    rows = {"one_round": {"round": 0}}
    rounds.write_text(yaml.safe_dump({"study": {**BUDGET, "rows": rows}}))
    for command, missing in (
        (("study", run.folder, "--config", rounds), "needs round 0"),
        (("unpack", folder, "--config", run.config_file, "--run", run.folder), "has already begun"),
        (("unpack", folder, "--run", fresh), "--config is missing"),
        (("unpack", "none", "--config", run.config_file, "--run", fresh), "none is not a bundle"),
        (("unpack", "--run", fresh), "no bundle is named"),
    ):
        with pytest.raises(SystemExit, match="2"):
            script(*command)
        assert missing in capsys.readouterr().err
    script("unpack", folder, "--config", run.config_file, "--run", fresh)  # nothing is in the way
