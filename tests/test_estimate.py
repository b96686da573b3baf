"""Minutes that a run takes: those that are left, and those expected before it begins."""

import json
from dataclasses import replace

import numpy as np
import pytest

from worldmodels import estimate
from worldmodels.command_line import parse
from worldmodels.config import Config
from worldmodels.envs.picture import RawPicture
from worldmodels.envs.preflight import preflight
from worldmodels.estimate import expected_minutes, minutes_left
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
    # a later round takes 10 minutes a stage; V has .3 of its first steps, then none
    assert minutes_left([first], config) == pytest.approx(2 * 40 + 3)
    assert minutes_left([first, tmp_run.round(1), tmp_run.round(2)], config) is None
    real = replace(config, later={1: {"evolve": {"real_generations": 1}}})
    assert minutes_left([first], real) is None


def test_expected_minutes_are_pace_times_work(monkeypatch):
    """A second for each unit of work, and two for an official step."""
    paces = {**dict.fromkeys(STAGES, 1.0), "official": 2.0}
    monkeypatch.setattr(estimate, "_paces", lambda config, world: paces)
    config, _ = parse(Config, "", ["--config", "quick"], home="runs/none")
    world = World(config.env, {}, 50.0, {}, RawPicture((96, 96, 3)))
    seconds = {k: 60 * v for k, v in expected_minutes(config, world).items()}
    frames = 600 * 100 + 3 * 150 * 250 + 2 * 300 * 250
    validations = 16 * (5 + 3 * 4) + 64 * 2 * 2
    assert seconds["collect"] == seconds["encode"] == pytest.approx(frames)
    assert seconds["train_vae"] == pytest.approx(64 * (1000 + 3 * 400 + 1500))
    assert seconds["train_mdnrnn"] == pytest.approx(64 * 64 * (1000 + 3 * 500 + 2 * 2500))
    dreams = 64 * 125 * (50 * 32 + 3 * 40 * 32 + 2 * 40 * 48)
    assert seconds["evolve"] == pytest.approx(dreams + 250 * validations)
    assert seconds["select"] == pytest.approx(250 * 3 * 256)
    assert seconds["evaluate"] == pytest.approx(2 * 250 * 20)


@pytest.mark.parametrize("world", ["CartPole-v1", "CarRacing-v3"])
def test_every_stage_is_measured(world, monkeypatch):
    monkeypatch.setattr(estimate, "SECONDS", 0.01)
    official = {"training_id": "worldmodels/CarRacing-v3"} if world == "CarRacing-v3" else {}
    env = EnvConfig(id=world, max_episode_steps=4, **official)
    config, _ = parse(Config, "", ["--config", "smoke"], home="runs/none")
    workers = WorkersConfig(processes=1)
    config = replace(config, env=env, workers=workers)
    minutes = expected_minutes(config, preflight(env, workers).world)
    assert list(minutes) == [*STAGES, "evaluate"]
    assert all(np.isfinite(number) and number > 0 for number in minutes.values())
    assert sum(minutes.values()) < 5  # smoke takes seconds
