"""Each sanity band, broken on purpose: its one line is seen."""

import numpy as np
import pytest
import torch

from worldmodels.files import load_tensors, save_arrays, save_tensors

M = ["episodes", "vae", "latents", "mdnrnn"]
REWARD, TERMINATION = -2, -1
"""Rows of M's last layer."""


@pytest.fixture
def lines(script, capsys):
    """Runs a stage; what it says looks wrong."""

    def run_it(stage, run):
        capsys.readouterr()
        script(stage, "--run", run.folder)
        said = capsys.readouterr().out.splitlines()
        return [line for line in said if line.startswith("looks wrong: ")]

    return run_it


def about(subject, said):
    return [line for line in said if subject in line]


def set_latents(run, mu, logvar):
    """Gives all episodes latents that are functions of (frames, latent_size)."""
    for path in run.latents.glob("*.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        shape = arrays["mu"].shape
        arrays["mu"] = mu(shape).astype(np.float16)
        arrays["logvar"] = np.full(shape, logvar, np.float16)
        save_arrays(path, **arrays)


def change_mdnrnn(run, change):
    """Changes M's weights in their file."""
    path = run.mdnrnn / "mdnrnn.safetensors"
    tensors, metadata = load_tensors(path)
    change(tensors)
    save_tensors(path, tensors, metadata)


def test_a_v_that_has_learnt_nothing(lines, smoke_copy):
    said = lines("train_vae", smoke_copy("episodes", train_vae={"steps": 1}))
    assert "active latents is 0, below 4" in about("active latents", said)[0]
    assert "train longer or lower train_vae.free_nats" in about("active latents", said)[0]
    assert "below" in about("KL is", said)[0]
    assert "raise train_vae.steps" in about("reconstruction error", said)[0]


def test_an_m_that_has_learnt_nothing(lines, smoke_copy):
    """z stands still, which "copy z" knows and an untrained M doesn't."""
    run = smoke_copy("episodes", "vae", "latents")
    generator = np.random.default_rng(0)
    set_latents(run, lambda shape: np.ones(shape) * generator.normal(size=shape[1:]), -6.0)
    (line,) = about("M's NLL", lines("train_mdnrnn", run))
    assert ", above " in line
    assert "raise train_mdnrnn.learning_rate" in line


def test_an_m_that_knows_what_nobody_can(lines, smoke_copy, monkeypatch):
    """The noise of z is forgotten: its NLL falls below the posterior's entropy."""
    run = smoke_copy("episodes", "vae", "latents")
    set_latents(run, np.zeros, 2.0)
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))
    (line,) = about("M's NLL", lines("train_mdnrnn", run))
    assert ", below " in line
    assert "check the time alignment" in line


@pytest.mark.parametrize("reacts", [True, False])
def test_a_dream_that_does_not_react(lines, smoke_copy, reacts):
    run = smoke_copy(*M, dream={"horizon": 10}, evolve={"rollouts_per_candidate": 4})

    def change(tensors):
        tensors["head.weight"][REWARD] = torch.linspace(-3.0, 3.0, 16)
        tensors["head.bias"][TERMINATION] = -20.0
        if not reacts:
            tensors["lstm.weight_ih_l0"][:, 8:] = 0.0  # the actions' columns

    change_mdnrnn(run, change)
    said = about("share of dead candidates", lines("evolve", run))
    assert (said == []) == reacts
    assert all("the dream does not react to actions" in line for line in said)
