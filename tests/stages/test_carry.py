"""C carried over to other features does nearly what it did."""

import shutil
from dataclasses import replace

import numpy as np
import torch

from worldmodels.artifacts import load_controller, load_mdnrnn, load_world, save_mdnrnn
from worldmodels.data.episode import LatentEpisode
from worldmodels.models.controller import controller_for, features
from worldmodels.run import Run
from worldmodels.stages.carry import carried_over


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
