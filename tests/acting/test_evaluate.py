"""The measure of a controller: other candidates, workers and lanes do not change its bits."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

from worldmodels.acting.environments import Dreams, ModelFiles, Reality
from worldmodels.acting.evaluate import Evaluation, evaluate_open_loop, interval
from worldmodels.acting.policies import RANDOM, Baseline
from worldmodels.artifacts import Bundle
from worldmodels.data.starts import Starts
from worldmodels.envs.dream import DreamConfig
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, ControllerConfig
from worldmodels.models.engine import ReferenceEngine
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.stages.cmaes import CMAES, CMAConfig
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig, RawPicture, World

HERE = WorkersConfig(processes=1)


def constant(action):
    return Baseline("constant", "constant", action)


def returns_of(world, baseline, seeds, **options):
    return evaluate_open_loop(world, [baseline], seeds, HERE, **options)[0][0]


class Ledger(gymnasium.Env):
    """Writes down base 3 what was done in six frames: that is the return."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.frame = 0
        return np.zeros((8, 8, 3), np.uint8), {}

    def step(self, action):
        self.frame += 1
        reward = float(action * 3 ** (6 - self.frame))
        return np.zeros((8, 8, 3), np.uint8), reward, self.frame == 6, False, {}


gymnasium.register("tests/Ledger-v0", Ledger)


def candidates(bundle, count):
    generator = np.random.default_rng(0)
    return generator.normal(size=(count, bundle.controller.num_parameters))


@pytest.fixture
def short(tiny_bundle):
    """CarRacing's bundle, its real episodes truncated after 8 frames, two steps of the agent."""
    bundle = Bundle.load(tiny_bundle)
    config = replace(bundle.world.config, max_episode_steps=8)
    return replace(bundle, world=replace(bundle.world, config=config))


class ReferenceDreams(Dreams):
    """Dreams that PyTorch computes, operation by operation."""

    def make(self, num_envs, starts=None, config=None):
        env = super().make(num_envs, starts, config)
        env.engine = ReferenceEngine(self.mdnrnn)
        return env


def dreaming(bundle, horizon, processes=1, reference=False):
    place = (ReferenceDreams if reference else Dreams).of_bundle(
        bundle, DreamConfig(horizon=horizon)
    )
    return Evaluation(place=place, workers=WorkersConfig(processes=processes))


def test_a_population_in_the_dream_is_its_members_one_by_one(tiny_bundle, float32):
    bundle = Bundle.load(tiny_bundle)
    population, seeds = candidates(bundle, 4), [11, 12, 13]
    population[3] = population[0]
    evaluate, alone = dreaming(bundle, 15), dreaming(bundle, 15)
    returns, lengths = evaluate(population, seeds)
    assert returns.shape == lengths.shape == (4, 3)
    assert (lengths == 15).all()
    for p, member in enumerate(population):
        for r, seed in enumerate(seeds):
            assert alone(member[None], [seed])[0].item() == pytest.approx(returns[p, r], rel=1e-4)
    np.testing.assert_allclose(returns[3], returns[0], rtol=1e-5)  # the same dreams for all
    assert np.ptp(returns) > 0.01


@pytest.mark.parametrize("reference", [False, True])
def test_dreams_give_equal_bits_on_any_threads(tiny_bundle, reference):
    bundle = Bundle.load(tiny_bundle)
    population, seeds = candidates(bundle, 7), [3, 4, 5]
    measured = [dreaming(bundle, 15, n, reference)(population, seeds)[0] for n in (1, 2, 3)]
    for returns in measured[1:]:
        np.testing.assert_array_equal(returns, measured[0])


def test_evolution_finds_the_optimum_of_a_toy_dream(linear_mdnrnn):
    """z drifts up by 0.3 a step and ends the dream above 1; a = -1 takes 0.6 off."""
    mdnrnn = linear_mdnrnn(1.0, 0.6, (0.3,), (1.0,), 0.05, ends=(1.0, 0.0), threshold=1.0)
    starts = Starts(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1))
    world = EnvConfig(reward="constant", reward_per_frame=1.0)
    action, config = Actions("box", (-1.0,), (1.0,)).to_dict(), DreamConfig(horizon=40)
    world = World(world, action, 30.0, {}, RawPicture((64, 64, 3)))
    controller = Controller(ControllerConfig(inputs="z"), 1, 2, 1)
    dreams = Dreams(world, VAE(VAEConfig()), mdnrnn, starts, config, controller)
    evaluate = Evaluation(place=dreams, workers=HERE)
    assert evaluate(np.zeros((1, 2)), [1, 2])[0].max() < 8
    es = CMAES(CMAConfig(population_size=8, sigma0=0.5), np.zeros(2), seed=0)
    for generation in range(12):
        es.tell(evaluate(es.ask(), [generation, 100 + generation])[0].mean(axis=1))
    returns, lengths = evaluate(es.mean[None], range(500, 510))
    assert (returns == 40).all()
    assert (lengths == 40).all()


def test_reality_gives_equal_bits_on_any_workers(short, tmp_path):
    short.save(tmp_path / "bundle")
    population, seeds = candidates(short, 3), [5, 6]
    reality = Reality(short.world, ModelFiles.of_bundle(tmp_path / "bundle"), short.controller)
    evaluate = Evaluation(place=reality, workers=HERE)
    two = replace(evaluate, workers=WorkersConfig(processes=2))
    results = [one(population, seeds) for one in (evaluate, two)]
    np.testing.assert_array_equal(results[0], results[1])
    returns, lengths = results[0]
    assert (lengths == 2).all()  # steps of four frames
    # two jobs of three lanes: all candidates on seed 5, and on seed 6
    alone, _ = replace(evaluate, place=replace(reality, official=True))(population[1:2], [6])
    assert alone[0, 0] == pytest.approx(returns[1, 1], abs=1e-6)


def test_open_loop_policies_play_frame_by_frame(short):
    seeds = [5, 6, 7]
    random = returns_of(short.world, RANDOM, seeds)
    assert random.shape == (3,)
    gas = returns_of(short.world, constant([0.0, 1.0, 0.0]), seeds)
    idle = returns_of(short.world, constant([0.0, 0.0, 0.0]), seeds)
    assert (gas >= idle).all()
    # an episode depends on its seed alone
    later = returns_of(short.world, RANDOM, seeds[2:])
    assert later[0] == random[2]


def test_a_sweep_is_left_then_right():
    actions = Actions.of_space(Ledger.action_space, "thirds").to_dict()
    config = EnvConfig(id="tests/Ledger-v0", action="thirds", action_repeat=3)
    world = World(config, actions, 30.0, {}, RawPicture((64, 64, 3)))
    returns = returns_of(world, Baseline("sweep", "sweep", 4), [1, 2])
    assert [np.base_repr(int(r), 3) for r in returns] == ["221122"] * 2
    cut = returns_of(world, constant(1), [1], max_frames=4)
    assert np.base_repr(int(cut[0]), 3) == "111100"
    both, lengths = evaluate_open_loop(world, [constant(1), constant(2)], [1, 2, 3], HERE)
    assert [np.base_repr(int(r), 3) for r in both[:, 2]] == ["111111", "222222"]
    assert (lengths == 6).all()
    random = returns_of(world, RANDOM, range(20))
    assert {digit for r in random for digit in np.base_repr(int(r), 3)} == set("012")
    assert len(set(random)) > 15


def test_the_interval_covers_the_mean():
    values = np.random.default_rng(0).normal(50, 10, size=400)
    found = interval(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.std == pytest.approx(values.std(ddof=1))
    half = 1.96 * found.std / 20  # what the normal law says
    assert found.ci95 == pytest.approx((found.mean - half, found.mean + half), abs=0.1)
    assert found == interval(values)
    single = interval(np.array([3.0]))
    assert (single.mean, single.std, single.ci95) == (3.0, 0.0, (3.0, 3.0))
