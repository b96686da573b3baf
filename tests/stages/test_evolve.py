"""Evolution writes down what it was told and what it saved; what cannot be is refused."""

import json
import shutil

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from worldmodels.artifacts import load_controller
from worldmodels.errors import InputError
from worldmodels.files import load_tensors, save_tensors
from worldmodels.run import Metrics
from worldmodels.stages.evolve import EvolveConfig
from worldmodels.stages.history import History, Validated, history_file

POPULATION, ROLLOUTS, HORIZON = 6, 3, 12
VALIDATED = 2


class Unpaid(CartPoleEnv):
    """CartPole without rewards."""

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, 0.0, *rest


class Broken(CartPoleEnv):
    """CartPole that pays NaN where it goes left first, else its angle."""

    def reset(self, **options):
        self.first = True
        return super().reset(**options)

    def step(self, action):
        observation, _, *rest = super().step(action)
        reward = np.nan if self.first and action == 0 else float(observation[2])
        self.first = False
        return observation, reward, *rest


gymnasium.register("tests/Unpaid-v0", Unpaid)
gymnasium.register("tests/Broken-v0", Broken)


def steps_of(run):
    lines = map(json.loads, run.metrics.read_text().splitlines())
    return [line["steps"] for line in lines if line["stage"] == "evolve" and "steps" in line]


@pytest.fixture
def unrewarded(script, smoke_copy):
    """A run whose dream, and whose cart in reality, pay nothing."""

    def make(id_="tests/Unpaid-v0", **evolve):
        run = smoke_copy(
            *("episodes", "vae", "latents"),
            cma={"population_size": POPULATION},
            dream={"horizon": HORIZON},
            mdnrnn={"reward_head": "none", "termination_head": "none"},
            evolve={"rollouts_per_candidate": ROLLOUTS, **evolve},
        )
        world = json.loads(run.world_file.read_text())
        unpaid = {"reward": "constant", "reward_per_frame": 0.0, "terminates": False}
        world["config"] |= {"id": id_, **unpaid}
        run.world_file.write_text(json.dumps(world))
        script("train_mdnrnn", "--run", run.folder)
        script("evolve", "--run", run.folder)
        return run

    return make


@pytest.mark.parametrize(
    ("savings", "episodes", "length"),
    [
        ({}, POPULATION * ROLLOUTS, HORIZON),
        ({"patience": 5}, POPULATION * ROLLOUTS, 5),
    ],
    ids=["full", "early stop"],
)
def test_steps_of_each_generation(unrewarded, savings, episodes, length):
    run = unrewarded(generations=2, **savings)
    assert steps_of(run) == [episodes * length] * 2


def test_only_training_stops_early(unrewarded):
    run = unrewarded(generations=0, real_generations=1, patience=2)
    assert steps_of(run) == [POPULATION * ROLLOUTS * 2]
    about = load_tensors(run.controller / "controller.safetensors")[1]
    assert about["real_steps"]["evolve"] == 36
    assert about["real_steps"]["validate"] > VALIDATED * 4


def test_rewards_that_are_not_finite_end_their_episodes(unrewarded, capsys):
    run = unrewarded("tests/Broken-v0", generations=0, real_generations=1, validation_episodes=0)
    told = History.load(history_file(run)).told[0]
    assert np.isfinite(told).all()
    assert len(set(told)) > 1
    assert "an episode is lost: " in capsys.readouterr().out


def test_a_history_is_read_as_it_was_written(tmp_path):
    generator = np.random.default_rng(0)
    history = History("hash", generator.normal(size=5), generator.normal(size=5))
    history.told = [np.array([1.0, np.nan, -np.inf]), np.array([0.1, 2.0, 3.0])]
    history.validated = [Validated(2, history.mean, np.array([4.0, 5.0]))]
    history.real_steps = {"validate": 7, "evolve": 0}
    history.save(tmp_path / "history.safetensors")
    again = History.load(tmp_path / "history.safetensors")
    assert (again.mdnrnn, again.real_steps) == (history.mdnrnn, history.real_steps)
    for name in ("start", "mean", "told"):
        np.testing.assert_array_equal(getattr(again, name), getattr(history, name))
    (one,) = again.validated
    assert one.generation == 2
    np.testing.assert_array_equal(one.mean, history.mean)
    np.testing.assert_array_equal(one.returns, [4.0, 5.0])


def test_a_history_of_other_settings_is_refused(script, smoke_copy, capsys):
    run = smoke_copy("vae", "latents", "mdnrnn", "controller")
    (run.controller / "controller.safetensors").unlink()
    history = History.load(history_file(run))
    history.mean = history.mean + 1.0
    history.save(history_file(run))
    with pytest.raises(SystemExit, match="2"):
        script("evolve", "--run", run.folder)
    assert "does not lead to the mean that it holds" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["told", "returns", "start"])
def test_a_foreign_history_is_named(tmp_path, missing):
    path = tmp_path / "history.safetensors"
    History("", np.zeros(2), np.zeros(2)).save(path)
    tensors, about = load_tensors(path)
    del tensors[missing]
    save_tensors(path, tensors, about)
    with pytest.raises(InputError, match="is not a history of an evolution"):
        History.load(path)


def test_several_evolutions_differ_by_luck_and_the_best_is_kept(script, smoke_copy, hashes):
    run = smoke_copy(
        *("vae", "latents", "mdnrnn"),
        evolve={"evolutions": 2, "generations": 2, "validation_episodes": 3, "final_episodes": 0},
    )
    script("evolve", "--run", run.folder)
    files = [history_file(run, evolution) for evolution in (0, 1)]
    one, other = (History.load(path) for path in files)
    assert not np.array_equal(one.told, other.told)
    saved = load_controller(run)
    validated = max(one.validated + other.validated, key=lambda it: it.score)
    np.testing.assert_array_equal(saved.best, np.float32(validated.mean))
    assert saved.validation_return == validated.score
    spent = [history.real_steps["validate"] for history in (one, other)]
    assert saved.real_steps == {"validate": sum(spent), "evolve": 0}
    before = hashes(run.controller)
    files[1].unlink()  # as after a kill before its first generation
    (run.controller / "controller.safetensors").unlink()
    script("evolve", "--run", run.folder)
    assert hashes(run.controller) == before
    shutil.rmtree(run.controller)  # both at once
    script("evolve", "--run", run.folder, "--workers.processes=4")
    assert hashes(run.controller) == before
    lines = Metrics.lines(run)
    assert sorted({line["step"] for line in lines if "mean" in line}) == [0, 1, 2, 3]


def test_several_evolutions_need_validation():
    with pytest.raises(InputError, match=r"evolve\.evolutions is 3, but evolve\.valid"):
        EvolveConfig(evolutions=3, validation_episodes=0)


def test_evolution_starts_from_another_runs_controller(script, smoke_run, smoke_copy):
    short = {"generations": 1, "validate_every": 1, "start_from": str(smoke_run.folder)}
    run = smoke_copy("latents", "vae", "mdnrnn", evolve=short)
    script("evolve", "--run", run.folder)
    history, best = History.load(history_file(run, 0)), load_controller(smoke_run).best.double()
    np.testing.assert_array_equal(history.start, best)
    first, last = history.validated
    np.testing.assert_array_equal(first.mean, best)  # it is validated before a generation
    assert (first.generation, last.generation) == (0, 1)
    assert (last.mean != first.mean).any()
