"""Learning rates: rising at first, lower in later rounds; gradients of a largest norm."""

import shutil

import pytest
import torch

from worldmodels.artifacts import load_mdnrnn, load_vae
from worldmodels.models.heads.build import WorldMDNRNNConfig
from worldmodels.models.vae import VAEConfig
from worldmodels.run import Run
from worldmodels.stages.encode import encode
from worldmodels.stages.train_mdnrnn import TrainMDNRNNConfig, train_mdnrnn
from worldmodels.stages.train_vae import TrainVAEConfig, train_vae

MODEL = VAEConfig(latent_size=4, width=4)


@pytest.fixture
def rounds(smoke_run, tmp_path):
    """Two rounds of a run that hold the smoke run's episodes and nothing else."""
    made = []
    for number in range(2):
        run = Run(tmp_path / "run").round(number)
        shutil.copytree(
            smoke_run.episodes, run.episodes, ignore=shutil.ignore_patterns("manifest.json")
        )
        for path in sorted(run.episodes.glob("*.npz")):
            path.rename(path.with_name(f"{number:02d}{path.name[2:]}"))
        shutil.copyfile(smoke_run.world_file, run.world_file)
        made.append(run)
    return made


def trained(run, **settings):
    """V's weights in one vector after the training said, begun anew."""
    shutil.rmtree(run.vae, ignore_errors=True)
    common = {"batch_size": 4, "learning_rate": 0.01}
    train_vae(run, MODEL, TrainVAEConfig(**{**common, "steps": 3, **settings}), seed=0)
    return weights(load_vae(run))


def weights(model):
    return torch.cat([p.flatten() for p in model.parameters()])


def test_the_first_steps_of_a_rising_rate_are_small(rounds):
    fast = trained(rounds[0])
    slow, slower = (trained(rounds[0], warmup_steps=steps) for steps in (1000, 2000))
    assert (slow - fast).abs().max() > 0.01
    still = 2 * slower - slow  # both have moved from there by hardly anything
    moved = [(w - still).abs().max().item() for w in (slow, slower)]
    assert max(moved) < 1e-3


def test_gradients_are_cut_where_they_are_long(rounds):
    free, wide, narrow = (trained(rounds[0], gradient_clip=c) for c in (None, 1e9, 1e-3))
    assert torch.equal(free, wide)
    assert not torch.equal(free, narrow)


def test_later_rounds_have_a_rate_of_their_own(rounds):
    first, second = rounds
    before = trained(first)
    moves = [
        (trained(second, learning_rate=rate) - before).abs().max().item() for rate in (0.01, 1e-5)
    ]
    assert moves[0] > 5e-3
    assert moves[1] < 1e-4


def test_ms_later_rounds_too(rounds):
    for run in rounds:
        trained(run)
        encode(run)
    settings = {"steps": 3, "batch_size": 4, "sequence_length": 8}
    model = WorldMDNRNNConfig(hidden_size=8, reward_head="world")
    moves = []
    for rate in (0.01, 1e-5):
        for run, its_rate in zip(rounds, (0.01, rate), strict=True):
            shutil.rmtree(run.mdnrnn, ignore_errors=True)
            train_mdnrnn(run, model, TrainMDNRNNConfig(**settings, learning_rate=its_rate), 0)
        before, after = (load_mdnrnn(run) for run in rounds)
        moves.append((weights(after) - weights(before)).abs().max().item())
    assert moves[0] > 5e-3
    assert moves[1] < 1e-4
