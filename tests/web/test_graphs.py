"""The ONNX graphs compute what PyTorch does, for every kind of bundle."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodels.artifacts import Bundle
from worldmodels.data.starts import Starts
from worldmodels.envs.dream import warm
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig, controller_for, features
from worldmodels.models.engine import DreamState, ReferenceEngine
from worldmodels.models.heads.build import WorldMDNRNNConfig, mdnrnn_for
from worldmodels.models.vae import VAE, VAEConfig, frames_of
from worldmodels.web.graphs import graphs
from worldmodels.world import EnvConfig, RawPicture, World

onnxruntime = pytest.importorskip("onnxruntime")


def made(env, actions, controller, **mdnrnn):
    """An untrained bundle, with its weights rounded to float16."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = EnvConfig(**env)
        world = World(config, actions.to_dict(), 50.0, {}, RawPicture((64, 64, 3)))
        heads = WorldMDNRNNConfig(
            hidden_size=12, reward_head="world", termination_head="world", **mdnrnn
        )
        vae, M = VAE(VAEConfig(latent_size=5, width=4)), mdnrnn_for(heads, world, 5)
        for model in (vae, M):
            for weight in model.parameters():
                weight.requires_grad_(False).copy_((3 * weight).half())
        C = controller_for(ControllerConfig(**controller), M)
        parameters = torch.randn(C.num_parameters).half().float()
        size = actions.size
        starts = Starts(torch.randn(2, 4, 5), torch.zeros(2, 4, size), torch.zeros(2))
    return Bundle(world, vae.eval(), M.eval(), C, parameters, starts, {})


BUNDLES = {
    "take_cover": lambda: Bundle.load("take_cover"),
    "car_racing_dream": lambda: Bundle.load("car_racing_dream"),
    "counts": lambda: made(
        {"reward": "count", "count_attribute": "x", "reward_per_frame": -0.1, "terminates": False},
        Actions("box", (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (2,)),
        {"inputs": "zh", "hidden_size": 3},
    ),
    "joint": lambda: made(
        {"reward": "real"},
        Actions("multi_binary", counts=(1, 1)),
        {"inputs": "zch"},
        mixture="joint",
        restart_input=True,
    ),
    "returns": lambda: made(
        {"reward": "real"},
        Actions("discrete", counts=(3,)),
        {"inputs": "r", "bias": False},
        return_horizons=(2, 5),
    ),
}


@functools.cache
def graphs_of(name):
    """Making graphs takes seconds."""
    return graphs(BUNDLES[name]())


@pytest.mark.parametrize("name", BUNDLES)
@torch.inference_mode()
def test_they_equal_pytorch(name):
    with torch.inference_mode(False):
        bundle, found = BUNDLES[name](), graphs_of(name)
    sessions = {name: onnxruntime.InferenceSession(graph) for name, graph in found.items()}
    M, generator = bundle.mdnrnn, np.random.default_rng(0)
    z, h, c, first = (part[:1].clone() for part in warm(M, bundle.starts))
    state, engine, lane = DreamState(z, h, c, first), ReferenceEngine(M), np.zeros(1, np.int64)
    for temperature in (0.3, 1.0, 1.3) * 5:
        before = {name: getattr(state, name).numpy().copy() for name in ("z", "h", "c", "first")}
        seen = features(M, state.z, state.h, state.c, bundle.controller.config.inputs)
        agent = bundle.actions.bound(bundle.controller.act(bundle.parameters, seen)).numpy()
        given = {part.name: before[part.name] for part in sessions["controller"].get_inputs()}
        np.testing.assert_allclose(sessions["controller"].run(None, given)[0], agent, atol=1e-5)
        uniforms = generator.random((1, M.uniforms), np.float32)
        normals = generator.standard_normal((1, M.latent_size), np.float32)
        tape = np.concatenate([uniforms, normals], 1)
        outputs = engine.step(state, lane, agent, tape, lane, temperature)
        noise = {"uniforms": uniforms, "normals": normals}
        degrees = {"temperature": np.float32([temperature])}
        given = {**before, **noise, **degrees, "action": agent}
        names = [part.name for part in sessions["mdnrnn"].get_inputs()]
        ours = sessions["mdnrnn"].run(None, {name: given[name] for name in names})
        pays = [head.pays(outputs[head.name]) for head in M.heads if head.does("pays")]
        ends = [head.ends(outputs[head.name]) for head in M.heads if head.does("ends")]
        reward = sum(pays, torch.full((1,), bundle.world.config.reward_per_step))
        wanted = [state.z, state.h, state.c, reward, ends[0] if ends else torch.tensor([-np.inf])]
        for one, other in zip(ours[:5], wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)
        frame = sessions["decoder"].run(None, {"z": state.z.numpy()})[0].astype(int)
        assert np.abs(frame - frames_of(bundle.vae.decode(state.z))[0].numpy()).max() <= 1
        state.first[:] = 0.0


def test_weights_are_half_as_large_as_in_single_precision():
    bundle, half = BUNDLES["counts"](), graphs_of("counts")
    other = replace(bundle, parameters=bundle.parameters + 1e-4)  # float16 cannot hold these
    for weight in bundle.vae.parameters():
        weight.mul_(1.0001)
    single = graphs(other)
    numbers = sum(weight.numel() for weight in bundle.vae.decoder.parameters())
    assert len(single["decoder"]) - len(half["decoder"]) > 1.5 * numbers
