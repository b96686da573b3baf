"""Plans side by side: each gets the bits that it has alone, and a failure ends all."""

from dataclasses import replace

import numpy as np
import pytest

from worldmodels.acting.environments import Dreams, ModelFiles, Reality
from worldmodels.acting.evaluate import Evaluation
from worldmodels.acting.plans import carry_out, measure, side_by_side
from worldmodels.artifacts import Bundle
from worldmodels.envs.dream import DreamConfig
from worldmodels.workers import WorkersConfig

THREADS = WorkersConfig(processes=3)


@pytest.fixture
def bundle(tiny_bundle):
    return Bundle.load(tiny_bundle)


@pytest.fixture
def dream(bundle):
    place = Dreams.of_bundle(bundle, DreamConfig(horizon=6))
    return Evaluation(place=place, workers=THREADS)


def search(evaluation, seed, generations, population):
    """Each generation is sampled around the best candidate of the one before."""
    generator = np.random.default_rng(seed)
    best, told = np.zeros(evaluation.place.controller.num_parameters), []
    for generation in range(generations):
        candidates = best + generator.normal(size=(population, len(best)))
        returns, lengths = yield from measure(evaluation, candidates, [generation, seed])
        best = candidates[returns.mean(axis=1).argmax()]
        told.append((returns, lengths))
    return told


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_each_plan_gets_the_bits_that_it_has_alone(dream, at_once):
    sizes = [(1, 2, 3), (2, 1, 4), (3, 3, 2), (4, 0, 1)]
    alone = [carry_out(search(dream, *size)) for size in sizes]
    assert len({told[0][0].tobytes() for told in alone if told}) == 3
    together = carry_out(side_by_side([search(dream, *size) for size in sizes], at_once))
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other)
        assert all(equal(*pair) for pair in zip(one, other, strict=True))


def test_dreams_and_reality_side_by_side(bundle, dream, tmp_path):
    bundle.save(tmp_path / "bundle")
    world = replace(bundle.world, config=replace(bundle.world.config, max_episode_steps=8))
    files = ModelFiles.of_bundle(tmp_path / "bundle")
    reality = Reality(world, files, bundle.controller)
    real = Evaluation(place=reality, workers=WorkersConfig(processes=1))
    alone = [carry_out(search(one, 1, 2, 2)) for one in (real, dream)]
    plans = [search(one, 1, 2, 2) for one in (real, dream)]
    (played, dreamt) = carry_out(side_by_side(plans, 2))
    assert equal(played[1], alone[0][1])
    assert equal(dreamt[1], alone[1][1])
    assert (played[0][1] == 2).all()  # steps of four frames
    assert (dreamt[0][1] == 6).all()


def test_a_failure_ends_all_plans_with_their_own_cleaning_up(dream):
    ended = []

    def careful(number):
        try:
            yield from search(dream, number, 5, 1)
        except BaseException as error:
            ended.append((number, type(error)))
            raise

    def failing():
        yield from search(dream, 7, 1, 1)
        raise ValueError("a mistake")

    plans = [careful(0), failing(), careful(2), careful(3)]
    with pytest.raises(ValueError, match="a mistake"):
        carry_out(side_by_side(plans, 3))
    assert ended == [(0, ValueError), (2, ValueError)]
