"""What evolution's savings save is written down; what can't be is refused."""

import json

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from worldmodels.errors import InputError
from worldmodels.files import load_tensors
from worldmodels.stages.evolve import EvolveConfig

POPULATION, ROLLOUTS, HORIZON = 6, 3, 12
VALIDATED = 2


class Unpaid(CartPoleEnv):
    """Falls as ever, for nothing."""

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, 0.0, *rest


gymnasium.register("tests/Unpaid-v0", Unpaid)


def steps_of(run):
    lines = map(json.loads, run.metrics.read_text().splitlines())
    return [line["steps"] for line in lines if line["stage"] == "evolve" and "steps" in line]


@pytest.fixture
def barren(script, smoke_copy):
    """A run whose dream, and whose cart in reality, pay nothing."""

    def make(**evolve):
        run = smoke_copy(
            *("episodes", "vae", "latents"),
            cma={"population_size": POPULATION},
            dream={"horizon": HORIZON},
            mdnrnn={"reward_head": "none", "termination_head": "none"},
            evolve={"rollouts_per_candidate": ROLLOUTS, **evolve},
        )
        world = json.loads(run.world_file.read_text())
        unpaid = {"reward": "constant", "reward_per_frame": 0.0, "terminates": False}
        world["config"] |= {"id": "tests/Unpaid-v0", **unpaid}
        run.world_file.write_text(json.dumps(world))
        script("train_mdnrnn", "--run", run.folder)
        script("evolve", "--run", run.folder)
        return run

    return make


@pytest.mark.parametrize(
    ("savings", "episodes", "length"),
    [
        ({}, POPULATION * ROLLOUTS, HORIZON),
        ({"screening_rollouts": 1}, POPULATION + POPULATION // 2 * (ROLLOUTS - 1), HORIZON),
        ({"patience": 5}, POPULATION * ROLLOUTS, 5),
        ({"patience": 5, "screening_rollouts": 2}, POPULATION * 2 + POPULATION // 2, 5),
    ],
    ids=["full", "halving", "early stop", "both"],
)
def test_steps_of_each_generation(barren, savings, episodes, length):
    run = barren(generations=2, **savings)
    assert steps_of(run) == [episodes * length] * 2


def test_only_training_stops_early(barren):
    settings = {"generations": 0, "real_generations": 1, "patience": 2}
    run = barren(validation_max_steps=4, **settings)
    assert steps_of(run) == [POPULATION * ROLLOUTS * 2]
    about = load_tensors(run.controller / "controller.safetensors")[1]
    assert json.loads(about["real_steps"]) == {"evolve": 36, "validate": VALIDATED * 4}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"screening_rollouts": 16}, "screening_rollouts"),
        ({"screening_rollouts": -1}, "screening_rollouts"),
        ({"patience": 0}, "patience"),
    ],
)
def test_wrong_settings_are_named(settings, field):
    with pytest.raises(InputError, match=rf"evolve\.{field}"):
        EvolveConfig(**settings)
