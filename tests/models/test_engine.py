"""The compiled engines: what the reference in PyTorch does, to rounding or in distribution."""

import numpy as np
import pytest
import torch
from scipy import stats

from worldmodels.envs.noise import Noise
from worldmodels.models.engine import (
    CompiledEngine,
    DreamState,
    ReferenceEngine,
)
from worldmodels.models.heads.reward import CountHead, RewardHead
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig

COUNT_AND_END = [CountHead(count_limit=2.4), TerminationHead()]
SHAPES = [
    {"heads": []},
    {"heads": COUNT_AND_END, "restart_input": True},
    {"heads": [RewardHead()], "mixture": "joint"},
    {"heads": [TerminationHead()], "num_mixtures": 1},
]


def lively(heads, scale=3.0, **config):
    """A random M with outputs of size 1."""
    torch.manual_seed(1)
    mdnrnn = MDNRNN(MDNRNNConfig(hidden_size=24, **config), 6, 2, heads).requires_grad_(False)
    for parameter in mdnrnn.parameters():
        parameter.mul_(scale)
    return mdnrnn


class Dreaming:
    """Lanes of an engine, from a random state on."""

    def __init__(self, mdnrnn, engine, num_envs):
        self.noise = Noise(num_envs, mdnrnn.uniforms, mdnrnn.latent_size)
        self.noise.begin(range(num_envs), [(lane, 0) for lane in range(num_envs)])
        self.state, self.engine = DreamState.empty(mdnrnn, num_envs), engine
        generator = torch.Generator().manual_seed(2)
        for part in (self.state.z, self.state.h, self.state.c, self.state.first):
            part.copy_(torch.rand(part.shape, generator=generator).round(decimals=1))
        self.actions = np.random.default_rng(3).uniform(-1, 1, (num_envs, 2)).astype(np.float32)
        self.steps = np.zeros(num_envs, np.int64)

    def step(self, lanes=None, temperature=1.2):
        lanes = np.arange(len(self.steps)) if lanes is None else lanes
        rows = self.noise.rows(lanes, self.steps[lanes])
        self.steps[lanes] += 1
        noise = self.noise.tape, rows, temperature
        return self.engine.step(self.state, lanes, self.actions, *noise)


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_is_the_reference_to_rounding(shape):
    mdnrnn = lively(**shape)
    compiled = Dreaming(mdnrnn, CompiledEngine(mdnrnn, torch.float32, 40), 40)
    reference = Dreaming(mdnrnn, ReferenceEngine(mdnrnn), 40)
    for lanes in (None, np.array([3, 4, 31]), None):
        ours, theirs = compiled.step(lanes), reference.step(lanes)
        assert ours.keys() == theirs.keys() == {head.name for head in mdnrnn.heads}
        for name, outputs in ours.items():
            np.testing.assert_allclose(outputs, theirs[name], rtol=1e-4, atol=1e-4)
        for name in ("z", "h", "c"):
            mine, theirs = getattr(compiled.state, name), getattr(reference.state, name)
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.bfloat16
@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_dreams_the_same_law(shape):
    """After some steps, z of thousands of lanes: Kolmogorov and Smirnov see no difference."""
    mdnrnn, lanes = lively(**shape, scale=1.5), 4000
    engines = CompiledEngine(mdnrnn, torch.bfloat16, lanes), ReferenceEngine(mdnrnn)
    dreams = [Dreaming(mdnrnn, engine, lanes) for engine in engines]
    dreams[1].noise.begin(range(lanes), [(lanes + lane, 0) for lane in range(lanes)])
    for dream in dreams:
        dream.state.z[:], dream.state.h[:], dream.state.c[:] = 0.5, 0.1, 0.2
        dream.actions[:] = 0.3
        for _ in range(8):
            heads = dream.step()
        dream.heads = [outputs[:, 0] for outputs in heads.values()]
    samples = [[*d.state.z.T.numpy(), *d.state.h.T[:4].numpy(), *d.heads] for d in dreams]
    tests = [stats.ks_2samp(mine, theirs) for mine, theirs in zip(*samples, strict=True)]
    assert min(test.pvalue for test in tests) > 0.001 / len(tests)


@pytest.mark.bfloat16
def test_bfloat16_stays_near_the_reference_for_a_step():
    mdnrnn = lively(COUNT_AND_END)
    compiled = Dreaming(mdnrnn, CompiledEngine(mdnrnn, torch.bfloat16, 500), 500)
    reference = Dreaming(mdnrnn, ReferenceEngine(mdnrnn), 500)
    compiled.step()
    reference.step()
    assert (compiled.state.h - reference.state.h).abs().max() < 0.03
    # where rounding moves a uniform across a weight's border, another component is drawn
    far = (compiled.state.z - reference.state.z).abs() > 0.1
    assert far.float().mean() < 0.02


def test_lanes_that_are_not_stepped_stay_as_they_are():
    mdnrnn = lively([])
    dream = Dreaming(mdnrnn, CompiledEngine(mdnrnn, torch.float32, 9), 9)
    before = {name: getattr(dream.state, name).clone() for name in "zhc"}
    dream.step(np.array([2, 7]))
    for name, old in before.items():
        changed = (getattr(dream.state, name) != old).any(1)
        assert changed.nonzero().flatten().tolist() == [2, 7]
