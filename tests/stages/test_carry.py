"""C carried over to other features does nearly what it did."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodels.artifacts import (
    load_controller,
    load_mdnrnn,
    load_vae,
    load_world,
    save_controller,
    save_mdnrnn,
    save_vae,
)
from worldmodels.data.episode import LatentEpisode
from worldmodels.errors import InputError
from worldmodels.files import file_hash
from worldmodels.models.controller import ControllerConfig, controller_for, features
from worldmodels.run import Run
from worldmodels.stages.carry import carried_from, carried_over


def mirrored(old, folder):
    """The same run, whose V and M have changed the sign of every latent."""
    new = Run(folder)
    shutil.copytree(old.folder, new.folder)
    for path in new.latents.glob("*.npz"):
        episode = LatentEpisode.load(path)
        replace(episode, mu=-episode.mu).save(path)
    mdnrnn = load_mdnrnn(old)
    mdnrnn.lstm.get_parameter("weight_ih_l0").data[:, : mdnrnn.latent_size] *= -1
    save_mdnrnn(new, mdnrnn, load_world(old))
    return new


def outputs(controller, parameters, run):
    """C's raw outputs at the first frame of each of a run's episodes."""
    mdnrnn = load_mdnrnn(run)
    firsts = [LatentEpisode.load(path).mu[0] for path in sorted(run.latents.glob("*.npz"))]
    z = torch.from_numpy(np.array(firsts, np.float32))
    seen = features(mdnrnn, z, *mdnrnn.initial_state(len(z)), controller.config.inputs)
    return controller.act(torch.as_tensor(parameters).float(), seen)


def test_carried_over_c_does_nearly_what_it_did(smoke_copy, tmp_path):
    old = smoke_copy("latents", "vae", "mdnrnn", "controller")
    new = mirrored(old, tmp_path / "new")
    saved = load_controller(old)
    controller = controller_for(saved.config, load_mdnrnn(old))
    wanted, best = outputs(controller, saved.best, old), saved.best.double().numpy()
    carried = carried_over(old, new, controller)
    assert carried.shape == best.shape
    copied, moved = (
        (outputs(controller, p, new) - wanted).square().mean() for p in (best, carried)
    )
    assert moved < 0.5 * copied


def test_equal_features_leave_c_as_it_is(smoke_copy):
    run = smoke_copy("latents", "vae", "mdnrnn", "controller")
    saved = load_controller(run)
    controller = controller_for(saved.config, load_mdnrnn(run))
    np.testing.assert_array_equal(carried_over(run, run, controller), saved.best.double())


def test_a_blind_c_is_carried_as_it_is(smoke_copy, tmp_path):
    """z is 0 for it: other signs of the latents change nothing that it sees."""
    old = smoke_copy("latents", "vae", "mdnrnn", "controller")
    saved = load_controller(old)
    controller = controller_for(replace(saved.config, senses="blind"), load_mdnrnn(old))
    carried = carried_over(old, mirrored(old, tmp_path / "new"), controller)
    np.testing.assert_array_equal(carried, saved.best.double())


@pytest.fixture
def other(smoke_run, tmp_path):
    """Another run, whose V and M have changed the sign of every latent, with the same C."""
    run = mirrored(smoke_run, tmp_path / "other")
    vae = load_vae(smoke_run)
    vae.posterior.weight[: vae.config.latent_size] *= -1
    vae.posterior.bias[: vae.config.latent_size] *= -1
    save_vae(run, vae)
    saved = load_controller(smoke_run)
    mdnrnn = file_hash(run.mdnrnn / "mdnrnn.safetensors")
    save_controller(run.controller / "controller.safetensors", saved, mdnrnn)
    return run


def test_a_c_of_another_run_is_fitted_on_frames_that_its_own_v_has_seen(smoke_run, other):
    saved = load_controller(other)
    controller = controller_for(saved.config, load_mdnrnn(smoke_run))
    wanted = outputs(controller, saved.best, other)
    carried = carried_from(str(other.folder), smoke_run, controller)
    copied, moved = (
        (outputs(controller, p, smoke_run) - wanted).square().mean() for p in (saved.best, carried)
    )
    assert moved < 0.5 * copied


def test_a_c_that_sees_less_is_carried_too(smoke_run, other):
    saved = load_controller(other)
    wanted = outputs(controller_for(saved.config, load_mdnrnn(other)), saved.best, other)
    less = controller_for(replace(saved.config, inputs="z"), load_mdnrnn(smoke_run))
    carried = carried_from(str(other.folder), smoke_run, less)
    assert len(carried) == less.num_parameters
    near = (outputs(less, carried, smoke_run) - wanted).square().mean()
    assert near < 0.5 * (0 * wanted - wanted).square().mean()


def test_a_c_of_the_same_v_and_m_stays_as_it_is(smoke_run):
    saved = load_controller(smoke_run)
    controller = controller_for(saved.config, load_mdnrnn(smoke_run))
    carried = carried_from(str(smoke_run.folder), smoke_run, controller)
    np.testing.assert_array_equal(carried, saved.best.double())


def test_a_c_of_other_outputs_is_refused(smoke_run):
    controller = controller_for(ControllerConfig(), load_mdnrnn(smoke_run))
    with pytest.raises(InputError, match=r"controller of take_cover has layers of \[3\] outputs"):
        carried_from("take_cover", smoke_run, controller)
    with pytest.raises(InputError, match="nowhere is not a bundle"):
        carried_from("nowhere", smoke_run, controller)
