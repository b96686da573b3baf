"""What evolution's savings save is written down; what can't be is refused."""

import json

import pytest

from worldmodels.errors import InputError
from worldmodels.run import Run
from worldmodels.stages.evolve import EvolveConfig

POPULATION, ROLLOUTS, HORIZON = 6, 3, 12


def dreamt_steps(run: Run):
    lines = map(json.loads, run.metrics_file.read_text().splitlines())
    return [line["steps"] for line in lines if line["stage"] == "evolve" and "steps" in line]


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
def test_steps_of_each_generation(script, smoke_copy, savings, episodes, length):
    """In a world that pays nothing and never ends by itself."""
    run = smoke_copy(
        *("episodes", "vae", "latents", "mdnrnn"),
        cma={"population_size": POPULATION},
        dream={"horizon": HORIZON},
        evolve={"generations": 2, "rollouts_per_candidate": ROLLOUTS, **savings},
    )
    world = json.loads(run.world_file.read_text())
    world["config"] |= {"reward": "constant", "reward_per_frame": 0.0, "terminates": False}
    run.world_file.write_text(json.dumps(world))
    script("evolve", "--run", run.folder)
    assert dreamt_steps(run) == [episodes * length] * 2


def test_validation_is_never_stopped_early(script, smoke_copy):
    run = smoke_copy(
        *("episodes", "vae", "latents", "mdnrnn"),
        evolve={"generations": 0, "real_generations": 1, "patience": 1, "real_max_steps": 5},
    )
    world = json.loads(run.world_file.read_text())
    script("evolve", "--run", run.folder)
    assert world["config"]["id"] == "CartPole-v1"  # each step pays 1: patience never ends


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
