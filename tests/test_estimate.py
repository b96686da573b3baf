"""Minutes that a run takes: those that are left, and those expected before it begins."""

import json
from dataclasses import replace

import numpy as np
import pytest
import user_world
from loky import get_reusable_executor

from worldmodels import estimate
from worldmodels.command_line import parse
from worldmodels.config import Config
from worldmodels.envs.picture import RawPicture
from worldmodels.envs.preflight import preflight
from worldmodels.estimate import Acting, Paces, expected_minutes, minutes_left
from worldmodels.files import append_line
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig, World

STAGES = ["collect", "train_vae", "encode", "train_mdnrnn", "evolve"]


def test_the_minutes_left_follow_from_those_spent(tmp_run):
    config = Config(
        rounds=3,
        later={1: {"train_vae": {"steps": 300_000}}, 2: {"train_vae": {"start": "keep"}}},
    )
    first = tmp_run.round(0)
    for stage in STAGES:
        end = {"event": "end", "stage": stage, "seconds": 600.0, "cores": 1}
        append_line(first.metrics, json.dumps(end))
    # a later round takes 10 minutes a stage; V has .3 of its first steps, then none; a V that has
    # changed sees all episodes again
    assert minutes_left([first], config) == pytest.approx(2 * 30 + 20 + 10 + 3)
    assert minutes_left([first, tmp_run.round(1), tmp_run.round(2)], config) is None
    real = replace(config, later={1: {"evolve": {"real_generations": 1}}})
    assert minutes_left([first], real) is None


def test_expected_minutes_are_pace_times_work(monkeypatch):
    """A second for each unit of work and step, five for a reset, ten for an official step."""
    real, official = Acting(reset=5.0, step=1.0), Acting(reset=0.0, step=10.0)
    paces = Paces(dict.fromkeys(STAGES, 1.0), real, official)
    monkeypatch.setattr(estimate, "_paces", lambda config, world: paces)
    flags = ["--config", "quick", "--evolve.evolutions=2", "--evolve.final_episodes=7"]
    config, _ = parse(Config, "", flags, home="runs/none")
    world = World(config.env, {}, 50.0, {}, RawPicture((96, 96, 3)))
    seconds = {k: 60 * v for k, v in expected_minutes(config, world).items()}
    collected = [600 * 100, *[150 * 250] * 3, *[300 * 250] * 2]
    assert seconds["collect"] == pytest.approx(sum(collected) + 5 * (600 + 3 * 150 + 2 * 300))
    assert seconds["train_vae"] == pytest.approx(64 * (1000 + 3 * 400 + 1500))
    seen = [sum(collected[: i + 1]) for i in range(5)] + [collected[5]]  # the last keeps its V
    assert seconds["encode"] == pytest.approx(sum(seen))
    assert seconds["train_mdnrnn"] == pytest.approx(64 * 64 * (1000 + 3 * 500 + 2 * 2500))
    dreams = 2 * 64 * 125 * (50 * 32 + 3 * 40 * 32 + 2 * 40 * 48)
    validated = 16 * (2 * 5 + 3 * (2 * 4 + 1)) + 2 * 64 * (2 * 2 + 1) + 6 * 3 * 7
    assert seconds["evolve"] == pytest.approx(dreams + 255 * validated)
    assert seconds["select"] == pytest.approx(255 * 3 * 256)
    assert seconds["evaluate"] == pytest.approx(3 * 2500 * 20)


def test_a_run_begins_with_an_estimate(script, tmp_run, tiny, monkeypatch, capsys):
    """Only a new one, and not one that takes seconds."""
    said = "expected minutes, if dreams and episodes have their greatest length: collect 0."
    flags = ["--config", "smoke", "--run", tmp_run.folder, *tiny]
    with monkeypatch.context() as patch:
        patch.setattr(estimate, "SECONDS", 0.01)
        patch.setattr("worldmodels.pipeline.LEAST", 1)
        script("pipeline", *flags)
        assert said in capsys.readouterr().out
        script("pipeline", *flags)
        assert said not in capsys.readouterr().out
    script("pipeline", "--config", "smoke", "--run", tmp_run.folder / "other", *tiny)
    assert said not in capsys.readouterr().out


def test_the_official_environment_is_measured_apart(monkeypatch):
    """Its steps take many times as long."""
    monkeypatch.setattr(estimate, "SECONDS", 0.2)
    workers = WorkersConfig(processes=1)
    env = EnvConfig(id="CarRacing-v3", training_id="worldmodels/CarRacing-v3")
    config, _ = parse(Config, "", ["--config", "smoke"], home="runs/none")
    paces = estimate._paces(config, preflight(env, workers).world)
    assert sorted(paces.of) == sorted(STAGES)
    assert all(0 < pace < 1 for pace in paces.of.values())
    assert 0 < 2 * paces.real.step < paces.official.step


def test_episodes_are_as_long_as_the_environment_lets_them():
    """collect.max_steps is longer; they are truncated after seven steps."""
    env, workers = EnvConfig(id="CartPole-v1", max_episode_steps=7), WorkersConfig(processes=1)
    config, _ = parse(Config, "", ["--config", "smoke"], home="runs/none")
    real = estimate._paces(config, preflight(env, workers).world).real
    assert real.truncated == 7
    assert real.episode(1000) == real.episode(7) < real.episode(1000) + 1


def test_an_environment_that_ends_its_process_is_measured(monkeypatch, capfd):
    """As an episode that is lost, not as the end of the command."""
    monkeypatch.setenv("WORLDMODELS_TRUST_ENV", user_world.__file__)
    get_reusable_executor(1).shutdown(wait=True, kill_workers=True)  # the next workers trust it
    monkeypatch.setattr(estimate, "SECONDS", 1.0)
    workers = WorkersConfig(processes=2)
    kwargs = {"mistake": "dies", "at": 40, "every": 4, "length": 50}
    env = EnvConfig(id=f"{user_world.__file__}:UserWorld", kwargs=kwargs)
    config, _ = parse(Config, "", ["--config", "smoke"], home="runs/none")
    world = preflight(env, workers).world
    minutes = expected_minutes(replace(config, env=env, workers=workers), world)
    assert "an episode is lost" in capfd.readouterr().out
    assert all(np.isfinite(number) for number in minutes.values())
