"""Every shape annotation of the package is checked; every test has a folder of its own."""

import gc
import hashlib
import os
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parents[1]

install_import_hook("worldmodels", "beartype.beartype")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers of pytest on two cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `worldmodels` does, before torch loads
os.environ["SDL_VIDEODRIVER"] = "dummy"
os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
# bits are compared: one kind of machine, but for tests marked `cuda`
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("WORLDMODELS_TEST_GPU", "")
# the benchmark is a package in scripts/; tests/ has toy_world.py and processes.py
FOLDERS = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests")]
os.environ["PYTHONPATH"] = os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")])
sys.path[:0] = FOLDERS
CHROMIUM_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

if "PYTEST_XDIST_WORKER" in os.environ:
    import torch

    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `bfloat16` or `cuda` are skipped where the machine lacks it."""
    import torch

    from worldmodels.precision import multiplies_bfloat16

    there = {"bfloat16": multiplies_bfloat16(), "cuda": torch.cuda.is_available()}
    for item in items:
        for name, found in there.items():
            if not found and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"this machine has no native {name}"))


def pytest_collection_finish() -> None:
    """What was imported stays: collecting garbage need not look at it again."""
    gc.freeze()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; where there is none the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="there is no playwright")
    found = next(filter(None, map(shutil.which, CHROMES)), None)
    if found is None:
        pytest.skip(f"there is none of {', '.join(CHROMES)}")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ViZDoom writes to the working directory, and two games that start in one race."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLDMODELS_PRECISION", "auto")  # commands change these for the process
    monkeypatch.setenv("WORLDMODELS_DEVICE", "auto")


@pytest.fixture
def no_type_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shape annotations are not checked, as for users: the functions' own checks must do."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def float32() -> Iterator[None]:
    """Products are float32, as in plain PyTorch; on a GPU too, where other tests may allow TF32."""
    from worldmodels.precision import set_precision

    set_precision("float32")
    yield
    set_precision("auto")


@pytest.fixture
def tmp_run(tmp_path: Path):
    """An empty run."""
    from worldmodels.run import Run

    return Run(tmp_path / "run")


@pytest.fixture(scope="session")
def script():
    """Runs scripts/NAME.py as its command line does, in this process and on one thread."""
    from worldmodels.workers import one_thread

    def run(name, *flags):
        words = [str(flag) for flag in flags]
        kept = {word.split("=")[0]: word for word in words if "=" in word}  # the last one wins
        words = [word for word in words if kept.get(word.split("=")[0], word) is word]
        with pytest.MonkeyPatch.context() as patch, one_thread():
            patch.setattr(sys, "argv", [f"scripts/{name}.py", *words])
            runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name="__main__")

    return run


TINY = [
    "--workers.processes=1",
    "--train_vae.steps=2",
    "--train_mdnrnn.steps=2",
    "--evolve.generations=1",
    "--cma.population_size=4",
    "--evolve.rollouts_per_candidate=1",
    "--watch.seconds=0.5",
    "--watch.films=[dream]",
]


@pytest.fixture(scope="session")
def tiny():
    """Flags that make configs/smoke*.yaml smaller still."""
    return TINY


@pytest.fixture(scope="session")
def smoke_run(script, tmp_path_factory):
    """A run of configs/smoke.yaml from collect to evolve. Only to be read: see `smoke_copy`."""
    from worldmodels.run import Run

    run = Run(tmp_path_factory.mktemp("smoke") / "run")
    script("collect", "--config", ROOT / "configs/smoke.yaml", "--run", run.folder, *TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worldmodels.stages.fit.CHECKPOINT_SECONDS", 0.0)
        for stage in ("train_vae", "encode", "train_mdnrnn", "evolve"):
            script(stage, "--run", run.folder)
    return run


@pytest.fixture
def smoke_copy(smoke_run, tmp_run):
    """A run with chosen parts of `smoke_run`, and other values of its config: section={...}."""
    import yaml

    from worldmodels.command_line import keep, read
    from worldmodels.config import Config

    def copy(*parts, **sections):
        tmp_run.folder.mkdir(exist_ok=True)
        for name in ("world.json", *parts):
            source, target = smoke_run.folder / name, tmp_run.folder / name
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        if not sections:
            shutil.copyfile(smoke_run.config_file, tmp_run.config_file)
            return tmp_run
        config = yaml.safe_load(smoke_run.config_file.read_text())
        for name, values in sections.items():
            config[name] |= values
        tmp_run.config_file.write_text(yaml.safe_dump(config))
        resolved = read(Config, tmp_run.config_file)
        shutil.copyfile(smoke_run.config_file, tmp_run.config_file)
        keep(resolved, tmp_run, replace=True)
        return tmp_run

    return copy


@pytest.fixture
def hashes():
    """Name and sha256 of each file of a run, but for the logs, which every command adds to."""

    def of(folder, *, without=("metrics.jsonl", "tensorboard", ".lock")):
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        names = {path.relative_to(folder): path for path in sorted(files)}
        return {
            str(name): hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in names.items()
            if not set(name.parts) & set(without)
        }

    return of


@pytest.fixture(scope="session")
def write_bundle():
    """Writes a tiny untrained bundle of a world to a folder."""
    import torch

    from worldmodels.artifacts import Bundle
    from worldmodels.data.starts import Starts
    from worldmodels.models.action import Actions
    from worldmodels.models.controller import ControllerConfig, controller_for
    from worldmodels.models.heads.build import WorldMDNRNNConfig, mdnrnn_for
    from worldmodels.models.vae import VAE, VAEConfig
    from worldmodels.seeding import torch_generator

    def write(folder, world, **dream):
        generator = torch_generator(0, "tiny bundle")
        size = Actions.from_dict(world.action).size
        config = WorldMDNRNNConfig(hidden_size=8, reward_head="world", termination_head="world")
        vae = VAE(VAEConfig(latent_size=4, width=2), world.config.size)
        mdnrnn = mdnrnn_for(config, world, 4)
        for parameter in (*vae.parameters(), *mdnrnn.parameters()):
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2, generator=generator)
        controller = controller_for(ControllerConfig(), mdnrnn)
        parameters = torch.randn(controller.num_parameters, generator=generator)
        mu = torch.randn(6, 5, 4, generator=generator)
        starts = Starts(mu, torch.zeros(6, 5, size), torch.zeros(6))
        dream = {"temperature": 1.0, "horizon": 50, **dream}
        bundle = Bundle(world, vae, mdnrnn, controller, parameters, starts, dream)
        bundle.save(folder)
        return folder

    return write


@pytest.fixture
def make_bundle(write_bundle, tmp_path: Path):
    """Writes a tiny untrained bundle of a world; returns its folder."""
    return lambda world, name="bundle", **dream: write_bundle(tmp_path / name, world, **dream)


@pytest.fixture(scope="session")
def car_racing_bundle(write_bundle, tmp_path_factory):
    """The folder of a tiny untrained bundle of CarRacing. Only to be read: see `tiny_bundle`."""
    from worldmodels.world import EnvConfig, RawPicture, World

    config = EnvConfig(
        id="worldmodels/CarRacing-v3",
        crop=(0, 84, 0, 96),
        action_repeat=4,
        action_clip=(2,),
        reward="count",
        count_attribute="tile_visited_count",
        reward_per_count=1000 / 300,
        reward_per_frame=-0.1,
        terminates=False,
    )
    low, high = (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    action = {"kind": "box", "low": low, "high": high, "clip": (2,), "counts": ()}
    world = World(config, action, 50.0, {}, RawPicture((96, 96, 3)))
    return write_bundle(tmp_path_factory.mktemp("car_racing") / "bundle", world)


@pytest.fixture
def tiny_bundle(car_racing_bundle, tmp_path: Path):
    """The folder of a tiny untrained bundle of CarRacing."""
    return shutil.copytree(car_racing_bundle, tmp_path / "bundle")


@pytest.fixture
def linear_mdnrnn():
    """An M set by hand: z' = decay z + gain a + (one of `offsets`) + std noise, a known world.

    It ends an episode where threshold < ends · (z, a).
    """
    import torch

    from worldmodels.models.heads.termination import TerminationHead
    from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig

    def make(
        decay=0.8, gain=0.5, offsets=(0.0,), weights=(1.0,), std=0.1, ends=None, threshold=0.0
    ):
        K, small = len(offsets), 1e-3  # tanh is linear there
        config = MDNRNNConfig(hidden_size=2, num_mixtures=K)
        heads = [] if ends is None else [TerminationHead()]
        mdnrnn = MDNRNN(config, 1, 1, heads).requires_grad_(False)
        for parameter in mdnrnn.parameters():
            parameter.zero_()
        # gates: input open, forget shut, candidate small (z, a), output open; so h = small (z, a)
        mdnrnn.lstm.bias_ih_l0.copy_(torch.tensor([20.0, 20, -20, -20, 0, 0, 20, 20]))
        mdnrnn.lstm.weight_ih_l0[4:6] = small * torch.eye(2)
        mdnrnn.head.weight[K : 2 * K] = torch.tensor([decay, gain]) / small
        parts = torch.tensor(weights).log(), torch.tensor(offsets), torch.tensor([std] * K).log()
        mdnrnn.head.bias[: 3 * K] = torch.cat(parts)
        if ends is not None:
            mdnrnn.head.weight[-1] = torch.tensor(ends) / small
            mdnrnn.head.bias[-1] = -threshold
        return mdnrnn

    return make
