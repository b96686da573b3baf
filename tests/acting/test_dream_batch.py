"""A population's dreams as one batch of tensors are what `rollout` plays lane by lane."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from worldmodels.acting.dream_batch import DreamBatch
from worldmodels.acting.environments import Dreams
from worldmodels.acting.evaluate import Evaluation
from worldmodels.data.starts import Starts
from worldmodels.envs.dream import DreamConfig
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig, controller_for
from worldmodels.models.heads.returns import ReturnHead
from worldmodels.models.heads.reward import CountHead, RewardHead
from worldmodels.models.heads.risk import RiskHead
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.precision import set_precision
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig, RawPicture, World

BOX, CHOICE = Actions("box", (-1.0, 0.0), (1.0, 2.0), (1,)), Actions("discrete", counts=(2,))
COUNT = EnvConfig(reward="count", count_attribute="n", reward_per_frame=-0.125)
ALIVE = EnvConfig(reward="constant", reward_per_frame=1.0)
RISK = RiskHead(choices=2, horizons=(3,), hidden=(4,))
RETURNS = ReturnHead(choices=2, horizons=(2, 4), hidden=(4,))
SETTINGS = [
    (COUNT, BOX, [CountHead(reward_per_count=3.0)], {"goal": 60.0}, {"restart_input": True}),
    (ALIVE, BOX, [TerminationHead()], {"ends": "sampled", "temperature": 1.2}, {}),
    (ALIVE, CHOICE, [TerminationHead()], {"ends": "threshold"}, {"mixture": "joint"}),
    (ALIVE, CHOICE, [RISK, RewardHead()], {"weight": "risk", "ends": "none"}, {}),
    (ALIVE, CHOICE, [TerminationHead(), RETURNS], {"ends": "sampled"}, {}),
]


def dreams(world, actions, heads, how, config, scale=1.0, horizon=70):
    """Of a random M: Z = 3, A = 2, H = 8. Its dreams may be longer than a block of noise."""
    torch.manual_seed(2)
    mdnrnn = MDNRNN(MDNRNNConfig(hidden_size=8, **config), 3, 2, heads).requires_grad_(False)
    for parameter in mdnrnn.parameters():
        parameter.mul_(scale)
    if RETURNS in heads:  # make its features as large as z and h
        mdnrnn.returns_layers[-1].weight.mul_(20.0)
    if mdnrnn.find(TerminationHead) is not None:
        mdnrnn.head.weight[-1].mul_(20.0)
        mdnrnn.head.bias[-1] = -4.0
    generator = torch.Generator().manual_seed(3)
    mu, acted = (torch.randn(5, 4, n, generator=generator) for n in (3, 2))
    starts = Starts(mu, acted, torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0]))
    inputs = "zchr" if RISK in heads or RETURNS in heads else "zh"
    controller = controller_for(ControllerConfig(inputs=inputs), mdnrnn)
    world = World(world, actions.to_dict(), 30.0, {}, RawPicture((64, 64, 3)))
    how = DreamConfig(horizon=horizon, **how)
    return Dreams(world, VAE(VAEConfig(latent_size=3, width=2)), mdnrnn, starts, how, controller)


def population(place, count):
    shape = count, place.controller.num_parameters
    return np.random.default_rng(1).normal(size=shape)


def lane_by_lane(place, parameters, seeds, patience=None):
    evaluate = Evaluation(place=place, workers=WorkersConfig(processes=1), patience=patience)
    return evaluate(parameters, seeds)


class Batched(Dreams):
    """Dreams as on a GPU, whose place the CPU takes."""

    gpu = torch.device("cpu")


def batched(place, parameters, seeds, patience=None, device="cpu"):
    P, R = len(parameters), len(seeds)
    how = place.controller, P, patience, torch.device(device)
    played = DreamBatch(place.make(R), *how).play(parameters, seeds)
    return [part.reshape(P, R) for part in played]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("patience", [None, 5])
def test_returns_and_lengths_are_those_of_lanes(setting, patience, float32):
    place = dreams(*setting)
    parameters, seeds = population(place, 4), [7, 8, 2**40]
    returns, lengths = lane_by_lane(place, parameters, seeds, patience)
    ours = batched(place, parameters, seeds, patience)
    np.testing.assert_array_equal(ours[1], lengths)
    np.testing.assert_allclose(ours[0], returns, rtol=1e-3, atol=1e-3)
    assert np.ptp(returns) > 0.01


def test_a_batch_plays_again_and_equal_seeds_are_equal_dreams(float32):
    place = dreams(*SETTINGS[0])
    batch = DreamBatch(place.make(4), place.controller, 3, None, torch.device("cpu"))
    parameters = population(place, 3)
    parameters[2] = parameters[0]
    first, _ = batch.play(parameters, [1, 2, 3, 1])
    np.testing.assert_allclose(first[::4], first[3::4], rtol=1e-4)  # the first seed and the last
    np.testing.assert_allclose(first[:4], first[8:], rtol=1e-4)  # candidates of equal parameters
    other, _ = batch.play(-parameters, [1, 2, 3, 1])
    again, _ = batch.play(parameters, [1, 2, 3, 1])
    assert (again == first).all()
    assert (other != first).any()


def test_an_evaluation_on_a_gpu_is_one_on_the_cpu(float32):
    place = dreams(*SETTINGS[3])
    parts = place.world, place.vae, place.mdnrnn, place.starts, place.config, place.controller
    on_gpu = Batched(*parts)
    for parameters in (population(place, 3), population(place, 2)):
        theirs = lane_by_lane(place, parameters, [5, 6])
        ours = lane_by_lane(on_gpu, parameters, [5, 6])
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_a_lively_dream_returns_the_same_in_distribution():
    """Rounding is amplified there; with bfloat16 on this processor it is another rounding."""
    place = dreams(*SETTINGS[0], scale=3.0)
    parameters, seeds = population(place, 1), range(400)
    ours = batched(place, parameters, seeds)[0][0]
    theirs = lane_by_lane(place, parameters, range(1000, 1400))[0][0]
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001
    assert ours.std() > 0.1


def test_a_population_is_one_job_on_a_gpu(monkeypatch):
    place = dreams(*SETTINGS[0])
    assert len(place.split(64, 16)) > 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ((candidates, rollouts),) = place.split(64, 16)
    assert candidates.tolist() == list(range(64))
    assert rollouts.tolist() == list(range(16)) * 64
    blind = replace(place.controller.config, senses="blind")
    ablation = replace(place, controller=controller_for(blind, place.mdnrnn))
    assert ablation.gpu is None


@pytest.mark.cuda
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("patience", [None, 5])
def test_a_graph_on_cuda_dreams_what_the_cpu_dreams(setting, patience, float32):
    place = dreams(*setting)
    parameters, seeds = population(place, 4), [7, 8, 2**40]
    how = place.controller, 4, patience, torch.device("cuda")
    batch = DreamBatch(place.make(3), *how)
    first, lengths = batch.play(parameters, seeds)
    again, _ = batch.play(parameters, seeds)
    expected = batched(place, parameters, seeds, patience)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(lengths, expected[1].ravel())
    np.testing.assert_allclose(first, expected[0].ravel(), rtol=1e-3, atol=1e-3)


@pytest.mark.cuda
def test_tf32_dreams_return_the_same_in_distribution():
    set_precision("auto")
    place = dreams(*SETTINGS[0], scale=3.0)
    parameters = population(place, 1)
    ours = lane_by_lane(place, parameters, range(400))[0][0]  # on the GPU
    theirs = batched(place, parameters, range(1000, 1400))[0][0]
    assert place._batches
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001
