"""A stage killed at a random moment and started again ends with the bits of an undisturbed one."""

import os
import shutil
import signal
import time

import numpy as np
import pytest
from processes import start

from worldmodels.files import load_tensors
from worldmodels.run import Run
from worldmodels.stages.history import History, history_file

EPISODES, STEPS, DREAMT, REAL = 48, 60, 8, 4


def kill_at(stage, run, reached, target, *flags):
    """Starts a stage, and kills it once reached(run) has come to `target`; its group's number."""
    process = start(stage, "--run", run.folder, *flags, checkpoint_seconds=0.0)
    try:
        while reached(run) < target:
            assert process.is_alive()
            time.sleep(0.005)
        # somewhere between two checkpoints, or inside of writing one
        time.sleep(np.random.default_rng(target).uniform(0, 0.05))
    finally:
        process.kill()
        process.join()
    return process.pid


def files(run):
    return len(list(run.episodes.glob("*.npz")))


def trained(folder):
    def steps(run):
        checkpoint = run.folder / folder / "checkpoint.safetensors"
        return int(load_tensors(checkpoint)[1]["step"]) if checkpoint.exists() else 0

    return steps


def generations(run):
    path = history_file(run)
    return len(History.load(path).told) if path.exists() else 0


def twin_of(run):
    """A second folder with the same files."""
    twin = Run(run.folder.parent / "undisturbed")
    shutil.copytree(run.folder, twin.folder)
    return twin


def check_equal(run, twin, hashes, *also_without):
    logs = ("metrics.jsonl", "tensorboard", *also_without)
    left, right = (hashes(each.folder, without=logs) for each in (run, twin))
    # a kill while a file is written leaves its beginning under a name that nothing reads
    assert {name: value for name, value in left.items() if ".tmp" not in name} == right


def wait_until_gone(group, seconds=20):
    """No process of a killed command stays behind."""
    try:
        for _ in range(seconds * 10):
            os.killpg(group, 0)
            time.sleep(0.1)
        os.killpg(group, signal.SIGKILL)
        pytest.fail("workers outlive the command that was killed")
    except ProcessLookupError:
        return


def test_collect(script, smoke_copy, hashes):
    """On two workers, which end with their command; then on one."""
    run = smoke_copy(collect={"episodes": EPISODES, "max_steps": 8})
    twin = twin_of(run)
    target = int(np.random.default_rng(1).integers(4, EPISODES // 4))
    wait_until_gone(kill_at("collect", run, files, target, "--workers.processes=2"))
    assert target <= files(run) < EPISODES
    script("collect", "--run", run.folder)
    script("collect", "--run", twin.folder)
    assert files(run) == EPISODES
    check_equal(run, twin, hashes, "config.yaml")  # it says how many workers


@pytest.mark.parametrize(
    ("stage", "folder", "needs"),
    [
        ("train-vae", "vae", ["episodes"]),
        ("train-mdnrnn", "mdnrnn", ["episodes", "vae", "latents"]),
    ],
)
def test_training(smoke_copy, hashes, stage, folder, needs):
    settings = {"steps": STEPS, "batch_size": 4}
    run = smoke_copy(*needs, **{f"train_{folder}": settings})
    twin = twin_of(run)
    target = int(np.random.default_rng(len(folder)).integers(STEPS // 10, STEPS // 2))
    kill_at(stage, run, trained(folder), target)
    assert target <= trained(folder)(run) < STEPS
    assert not (run.folder / folder / f"{folder}.safetensors").exists()
    for each in (run, twin):  # on as many threads as the process that was killed had
        process = start(stage, "--run", each.folder)
        process.join()
        assert process.exitcode == 0
    check_equal(run, twin, hashes, "checkpoint.safetensors")


def test_evolve(script, smoke_copy, hashes):
    """Killed in the dream and killed again in the real environment."""
    lengths = {"generations": DREAMT, "real_generations": REAL}
    savings = {"rollouts_per_candidate": 3, "patience": 5}
    run = smoke_copy("episodes", "vae", "latents", "mdnrnn", evolve=lengths | savings)
    twin = twin_of(run)
    result = run.controller / "controller.safetensors"
    for target in (int(np.random.default_rng(2).integers(2, DREAMT // 2)), DREAMT + 1):
        kill_at("evolve", run, generations, target)
        assert target <= generations(run) < DREAMT + REAL
        assert not result.exists()
    script("evolve", "--run", run.folder)
    script("evolve", "--run", twin.folder)
    check_equal(run, twin, hashes)
