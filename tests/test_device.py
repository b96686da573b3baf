"""The device is one setting; on another device than the CPU no tensor is made on the wrong one."""

import copy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from worldmodels.acting.dream_batch import DreamBatch
from worldmodels.cli import main
from worldmodels.data.dataset import FrameBatch
from worldmodels.data.starts import Starts
from worldmodels.device import get_device, set_device
from worldmodels.envs.dream import DreamConfig, DreamEnv
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig, controller_for
from worldmodels.models.heads.returns import ReturnHead
from worldmodels.models.heads.reward import CountHead, RewardHead
from worldmodels.models.heads.risk import RiskHead
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.sequence import SequenceBatch
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.precision import set_precision
from worldmodels.run import Metrics
from worldmodels.stages.fit import adam
from worldmodels.stages.train_mdnrnn import TrainMDNRNNConfig, mdnrnn_loss
from worldmodels.stages.train_vae import TrainVAEConfig, frames_loss
from worldmodels.world import EnvConfig, RawPicture, World

META = torch.device("meta")
BOX, CHOICE = Actions("box", (-1.0, 0.0), (1.0, 2.0), (1,)), Actions("discrete", counts=(2,))
RISK = RiskHead(choices=2, horizons=(3,), hidden=(4,))
COPIES = torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of several devices, but for copies and single numbers.

    A GPU refuses them too. The `meta` device, where tensors have shapes but no numbers, does not
    always.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        devices = {x.device.type for x in tensors if x.ndim or x.device.type != "cpu"}
        assert len(devices) <= 1 or func in COPIES, f"{func}: {devices}"
        return func(*args, **(kwargs or {}))


def test_a_device_that_is_not_there_is_one_line(tmp_path, capsys):
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    for name in (name for name, found in there.items() if not found):
        with pytest.raises(SystemExit, match="2"):
            main(["collect", f"--device={name}", f"--run={tmp_path / 'run'}"])
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"device is {name}, but PyTorch finds no such device: set it to auto" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"), reason="a GPU")
def test_the_check_of_a_gpu_needs_one():
    script = Path(__file__).resolve().parents[1] / "scripts" / "check_cuda.sh"
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: this machine has no GPU of CUDA\n"


def test_the_setting_and_its_variable(monkeypatch):
    assert get_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert get_device().type == "cuda"
    set_device("cpu")
    assert get_device().type == "cpu"
    monkeypatch.setenv("WORLDMODELS_DEVICE", "tpu")
    with pytest.raises(InputError, match="device is 'tpu': it must be one of auto, cpu, cuda, mps"):
        get_device()


def test_a_stage_says_which_device_it_used(script, smoke_copy):
    run = smoke_copy("episodes")
    script("train_vae", "--run", run.folder, "--device=cpu")
    assert (run.vae / "vae.safetensors").exists()
    started = [line for line in Metrics.lines(run) if "device" in line]
    assert [line["device"] for line in started] == ["cpu"]


def batch_of(B=5, T=11, Z=4):
    generator = torch.Generator().manual_seed(0)
    mu, actions = (torch.randn(B, n, Z, generator=generator) for n in (T + 1, T))
    ends = (torch.rand(B, T, generator=generator) < 0.1).float()
    valid = torch.arange(T).expand(B, T) < 8
    flags = ends, ends, ends, ends, valid, valid
    return SequenceBatch(mu, mu - 4, actions[..., :2], 3 * actions[..., 0], *flags)


@pytest.mark.parametrize(
    ("heads", "config"),
    [
        ([CountHead(), TerminationHead()], {"restart_input": True}),
        ([RewardHead()], {"mixture": "joint"}),
    ],
)
def test_m_trains_on_the_device_of_its_weights(heads, config):
    mdnrnn = MDNRNN(MDNRNNConfig(hidden_size=8, **config), 4, 2, heads).to(META)
    with OneDevice():
        noise = torch.Generator().manual_seed(0)
        loss, parts = mdnrnn_loss(mdnrnn, batch_of().to(META), TrainMDNRNNConfig(), noise)
        loss.backward()
    assert {x.device for x in (loss, *parts.values())} == {META}
    trained = [p for p in mdnrnn.parameters() if p.requires_grad]
    assert {p.grad.device for p in trained} == {META}


@pytest.mark.parametrize("size", [64, 96])
def test_v_trains_and_encodes_on_the_device_of_its_weights(size):
    vae = VAE(VAEConfig(latent_size=4, width=4), size).to(META)
    frames = torch.zeros(3, size, size, 3, dtype=torch.uint8)
    batch, config = FrameBatch(frames, frames).to(META), TrainVAEConfig(motion_weight=1.0)
    with OneDevice():
        loss, _ = frames_loss(vae, batch, torch.zeros(3, 4).to(META), config)
        loss.backward()
        mu, logvar = vae.encode(batch.frames)
    assert {x.device for x in (loss, mu, logvar, *(p.grad for p in vae.parameters()))} == {META}
    assert mu.shape == logvar.shape == (3, 4)


@pytest.mark.bfloat16
def test_a_gpus_arithmetic_is_that_of_the_cpu_to_rounding():
    """`VAE.plain` is what a GPU computes; in float32 the CPU computes it too."""
    set_precision("bfloat16")
    torch.manual_seed(0)
    vae = VAE(VAEConfig(latent_size=4, width=4, first_weights="he"))
    noise = torch.randn(6, 4)
    frames = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8)
    ours, theirs = vae.plain(frames, noise), vae(frames, noise)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("heads", "actions", "how"),
    [
        ([CountHead(), TerminationHead()], BOX, {"goal": 5.0, "ends": "sampled"}),
        ([RewardHead(), RISK], CHOICE, {"weight": "risk", "ends": "none"}),
        ([RewardHead(), ReturnHead(choices=2, horizons=(3,))], CHOICE, {}),
    ],
)
def test_a_population_dreams_on_one_device(heads, actions, how):
    mdnrnn = MDNRNN(MDNRNNConfig(hidden_size=8), 4, 2, heads).requires_grad_(False)
    starts = Starts(torch.zeros(3, 2, 4), torch.zeros(3, 2, 2), torch.zeros(3))
    world = World(EnvConfig(terminates=True), actions.to_dict(), 30.0, {}, RawPicture((64, 64, 3)))
    inputs = "zchr" if actions is CHOICE else "zch"
    options = {"inputs": inputs, "autoreset_mode": AutoresetMode.DISABLED}
    env = DreamEnv(mdnrnn, starts, world, DreamConfig(**how), 5, **options)
    controller = controller_for(ControllerConfig(inputs=inputs), mdnrnn)
    batch = DreamBatch(env, controller, 2, 4, META)
    with OneDevice():
        batch.begin(np.zeros((2, controller.num_parameters)), range(5))
        batch.step()
    assert {x.device for x in (*batch.state.parts, batch.returns, batch.lengths)} == {META}
    assert batch.returns.shape == (10,)


@pytest.mark.cuda
def test_training_on_cuda_is_training_on_the_cpu():
    set_precision("auto")
    vae, mdnrnn = (
        VAE(VAEConfig(latent_size=4, width=8)),
        MDNRNN(MDNRNNConfig(), 4, 2, [RewardHead(), RISK]),
    )
    frames = torch.randint(0, 256, (16, 64, 64, 3), dtype=torch.uint8)
    numbers = {}
    for device in (torch.device("cpu"), torch.device("cuda")):
        ours, M = copy.deepcopy(vae).to(device), copy.deepcopy(mdnrnn).to(device)
        optimizers = adam(ours, 1e-3), adam(M, 1e-3)
        found = []
        for step in range(5):
            noise = torch.Generator().manual_seed(step)
            batch, normals = FrameBatch(frames).to(device), torch.randn(16, 4, generator=noise)
            losses = (
                frames_loss(ours, batch, normals.to(device), TrainVAEConfig())[0],
                mdnrnn_loss(M, batch_of().to(device), TrainMDNRNNConfig(), noise)[0],
            )
            for loss, optimizer in zip(losses, optimizers, strict=True):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                found.append(loss.item())
        mu, logvar = ours.encode(frames.to(device))
        numbers[device.type] = torch.tensor(found), mu.cpu(), logvar.cpu()
    for a, b in zip(numbers["cuda"], numbers["cpu"], strict=True):
        torch.testing.assert_close(a, b, rtol=0.03, atol=0.03)


@pytest.mark.cuda
def test_all_stages_run_on_cuda(smoke_run):
    lines = Metrics.lines(smoke_run)
    assert {line["device"] for line in lines if "device" in line} == {"cuda"}
    assert (smoke_run.controller / "controller.safetensors").exists()
