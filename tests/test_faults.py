"""Bad input: one line that names field or file and the fix, exit code 2, nothing lost."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from processes import start

from worldmodels.errors import InputError
from worldmodels.files import load_json, load_tensors, save_arrays, save_json, save_tensors
from worldmodels.run import Metrics

ROOT = Path(__file__).resolve().parents[1]
EPISODE = "episodes/00_000003.npz"
LATENT = "latents/00_000003.npz"


@pytest.fixture
def fails(script, capsys, hashes):
    """Runs a command that must fail; the line it says. Files that were there stay as they are."""

    def run_it(stage, run, *flags):
        before = hashes(run.folder)
        capsys.readouterr()
        with pytest.raises(SystemExit, match=r"^2$"):
            script(stage, "--run", run.folder, *flags)
        line = capsys.readouterr().err
        assert line.startswith("error: ")
        assert line.count("\n") == 1
        assert before.items() <= hashes(run.folder).items()
        assert list(run.folder.rglob("*.tmp*")) == []
        return line

    return run_it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_vae: {stepz: 1}", "bad.yaml: train_vae.stepz is unknown: did you mean train_vae.s"),
        ("train_vae: {steps: many}", "bad.yaml: train_vae.steps: "),
        ("train_vae: {steps: 0}", "bad.yaml: train_vae.steps is 0: it must be at least 1"),
    ],
)
def test_a_mistake_in_the_file(fails, tmp_run, text, message):
    Path("bad.yaml").write_text(text)
    assert message in fails("collect", tmp_run, "--config", "bad.yaml")
    assert not tmp_run.folder.exists()


def test_an_unknown_environment(fails, script, tmp_run, tiny):
    """And the right name can be given to the same folder afterwards."""
    flags = ["--config", ROOT / "configs/smoke.yaml", *tiny, "--collect.episodes=1"]
    line = fails("collect", tmp_run, *flags, "--env.id=CartPoll-v1")
    assert "env.id CartPoll-v1 cannot be made" in line
    assert not tmp_run.folder.exists()
    script("collect", "--run", tmp_run.folder, *flags)
    assert tmp_run.world_file.exists()


@pytest.mark.parametrize("environment", ["CartPole-v1", "CartPoll-v1"])
@pytest.mark.parametrize("text", ["seed: 3\n", "layers: [1, 2]\n", ""])
def test_a_config_of_somebody_else(fails, tmp_run, tiny, environment, text):
    """It stays as it is, whether the environment exists or not."""
    tmp_run.folder.mkdir()
    tmp_run.config_file.write_text(text)
    flags = ["--config", ROOT / "configs/smoke.yaml", *tiny, f"--env.id={environment}"]
    line = fails("collect", tmp_run, *flags)
    assert f"{tmp_run.config_file} was not written by this program: use another --run" in line
    assert os.listdir(tmp_run.folder) == ["config.yaml"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluation.json", "report.html"])
def test_a_folder_of_somebody_else(fails, tmp_run, tiny, name):
    tmp_run.folder.mkdir()
    (tmp_run.folder / name).write_text('{"loss": 0.5}')
    line = fails("collect", tmp_run, "--config", ROOT / "configs/smoke.yaml", *tiny)
    assert f"{tmp_run.folder / name} is there, but no config.yaml of this program: move it" in line
    assert os.listdir(tmp_run.folder) == [name]


def test_latents_of_somebody_else(fails, smoke_copy):
    run = smoke_copy("episodes", "vae")
    (run.latents / "thesis").mkdir(parents=True)
    (run.latents / "00_000000.npz").write_bytes(b"years of work")
    assert f"{run.latents} was not made by worldmodels" in fails("encode", run)
    (run.latents / "index.json").write_text("{}")
    assert f"{run.latents} was not made by worldmodels" in fails("encode", run)


def test_other_files_among_latents_stay(script, smoke_copy):
    run = smoke_copy("episodes", "vae", "latents")
    (run.latents / "notes.txt").write_text("mine")
    save_json(run.latents / "index.json", {"vae": "another", "hash": None})
    script("encode", "--run", run.folder)
    assert (run.latents / "notes.txt").read_text() == "mine"
    assert load_json(run.latents / "index.json")["hash"]


@pytest.mark.parametrize(
    ("stage", "there", "needed"),
    [
        ("train_vae", [], "collect"),
        ("encode", ["episodes"], "train-vae"),
        ("train_mdnrnn", ["episodes", "vae"], "encode"),
        ("evolve", ["episodes", "vae"], "encode"),
        ("evolve", ["episodes", "vae", "latents"], "train-mdnrnn"),
        ("evaluate", ["episodes", "vae", "latents", "mdnrnn"], "evolve"),
        ("watch", ["episodes", "vae", "latents", "mdnrnn", "controller"], "evaluate"),
    ],
)
def test_a_missing_stage(fails, smoke_copy, stage, there, needed):
    line = fails(stage, smoke_copy(*there))
    assert "is missing" in line
    assert f"run `worldmodels {needed}` first" in line


def test_a_stage_before_everything(fails, tmp_run):
    assert "config.yaml is missing: run `worldmodels collect` first" in fails("encode", tmp_run)


def test_a_run_of_another_config(fails, smoke_copy):
    run = smoke_copy("episodes")
    line = fails("train_vae", run, "--vae.latent_size=5")
    assert f"vae.latent_size is 5, but {run.config_file} says 8" in line
    assert "another --run" in line


def test_another_v_and_another_m(fails, script, smoke_copy):
    """The messages say what to renew; done as they say, the chain fits again."""
    run = smoke_copy("episodes", "vae", "latents", "mdnrnn")
    weights = run.vae / "vae.safetensors"
    tensors, about = load_tensors(weights)
    tensors["posterior.bias"] += 0.1
    save_tensors(weights, tensors, about)
    for stage in ("train_mdnrnn", "evolve"):
        assert "made by another V: run `worldmodels encode` again" in fails(stage, run)
    script("encode", "--run", run.folder)
    for stage in ("train_mdnrnn", "evolve"):
        line = fails(stage, run)
        assert f"learned from other latents: delete {run.mdnrnn}" in line
    for path in run.mdnrnn.iterdir():
        path.unlink()
    script("train_mdnrnn", "--run", run.folder)
    script("evolve", "--run", run.folder)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


TRUNCATED = [
    ("train_vae", EPISODE, ["episodes"], "worldmodels collect"),
    ("encode", EPISODE, ["episodes", "vae"], "worldmodels collect"),
    ("train_mdnrnn", LATENT, ["episodes", "vae", "latents"], "worldmodels encode"),
    ("train_mdnrnn", "latents/index.json", ["episodes", "vae", "latents"], "its stage"),
    ("encode", "vae/vae.safetensors", ["episodes", "vae", "latents"], "its stage"),
    ("train_vae", "vae/checkpoint.safetensors", ["episodes", "vae"], "its stage"),
    (
        *("train_mdnrnn", "mdnrnn/checkpoint.safetensors"),
        *(["episodes", "vae", "latents", "mdnrnn"], "its stage"),
    ),
    (
        *("evolve", "controller/history.safetensors"),
        *(["vae", "latents", "mdnrnn", "controller"], "its stage"),
    ),
    ("evolve", "world.json", ["vae", "latents", "mdnrnn"], "its stage"),
    (
        *("evaluate", "controller/controller.safetensors"),
        *(["vae", "latents", "mdnrnn", "controller"], "its stage"),
    ),
]
RESULTS = {
    "train_vae": "vae/vae",
    "train_mdnrnn": "mdnrnn/mdnrnn",
    "evolve": "controller/controller",
}


def without_result(run, stage):
    """A stage whose result is there does nothing."""
    if stage in RESULTS:
        (run.folder / f"{RESULTS[stage]}.safetensors").unlink(missing_ok=True)


@pytest.mark.parametrize(("stage", "name", "needs", "fix"), TRUNCATED)
def test_a_truncated_file(fails, smoke_copy, stage, name, needs, fix):
    run = smoke_copy(*needs)
    without_result(run, stage)
    truncate(run.folder / name)
    line = fails(stage, run)
    assert f"{run.folder / name} is truncated" in line
    assert fix in line


@pytest.mark.parametrize(
    ("stage", "name", "foreign", "needs"),
    [
        ("encode", "vae/vae", "mdnrnn/mdnrnn", ["episodes", "vae", "mdnrnn"]),
        ("evolve", "mdnrnn/mdnrnn", "vae/vae", ["episodes", "vae", "latents", "mdnrnn"]),
        ("train_vae", "vae/checkpoint", "mdnrnn/checkpoint", ["episodes", "vae", "mdnrnn"]),
        (
            *("evaluate", "controller/controller", "vae/vae"),
            ["episodes", "vae", "latents", "mdnrnn", "controller"],
        ),
    ],
)
def test_a_foreign_checkpoint(fails, smoke_copy, stage, name, foreign, needs):
    run = smoke_copy(*needs)
    without_result(run, stage)
    path = run.folder / f"{name}.safetensors"
    path.write_bytes((run.folder / f"{foreign}.safetensors").read_bytes())
    assert str(path) in fails(stage, run)


def test_a_foreign_episode_and_its_cure(fails, script, smoke_copy, hashes):
    """Delete it and collect again, as the line says: the same bits are back."""
    run = smoke_copy("episodes")
    before = hashes(run.episodes)
    path = run.folder / EPISODE
    save_arrays(path, frames=np.zeros(3))
    assert f"{path} is truncated or another file (it has {path.stat().st_size} bytes" in fails(
        "train_vae", run
    )
    path.unlink()
    assert f"{path} is missing: run `worldmodels collect` again" in fails("train_vae", run)
    script("collect", "--run", run.folder)
    assert hashes(run.episodes) == before


@pytest.mark.parametrize(
    ("stage", "folder", "needs", "fix"),
    [
        ("train_vae", "episodes", ["episodes"], "collect"),
        ("encode", "episodes", ["episodes", "vae"], "collect"),
        ("train_mdnrnn", "latents", ["episodes", "vae", "latents"], "encode"),
    ],
)
def test_an_empty_data_set(fails, smoke_copy, stage, folder, needs, fix):
    run = smoke_copy(*needs)
    without_result(run, stage)
    for path in (run.folder / folder).glob("*.npz"):
        path.unlink()
    line = fails(stage, run)
    assert f"{run.folder / folder} holds no episodes: run `worldmodels {fix}` first" in line


@pytest.mark.parametrize(("stage", "folder"), [("train_vae", "vae"), ("train_mdnrnn", "mdnrnn")])
def test_a_loss_that_explodes(fails, script, smoke_copy, stage, folder, monkeypatch):
    """Step 1 is the checkpoint's; after it the weights are thrown to 1e38."""
    monkeypatch.setattr("worldmodels.stages.fit.CHECKPOINT_SECONDS", 0.0)
    needs = {"vae": ["episodes", "vae"], "mdnrnn": ["episodes", "vae", "latents", "mdnrnn"]}
    run = smoke_copy(*needs[folder], **{stage: {"steps": 6, "learning_rate": 1e38}})
    without_result(run, stage)
    checkpoint = run.folder / folder / "checkpoint.safetensors"
    line = fails(stage, run)
    expected = f"{stage}: the loss is not finite at step 2 ({checkpoint} is the last good state)"
    assert expected in line
    assert "lower its learning_rate" in line
    tensors, about = load_tensors(checkpoint)
    assert about["step"] == "1"
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    text = run.config_file.read_text()
    run.config_file.write_text(text.replace("1.0e+38", "0.0001"))
    script(stage, "--run", run.folder)
    tensors, _ = load_tensors(run.folder / f"{RESULTS[stage]}.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_loss_that_explodes_in_the_last_step(fails, smoke_copy):
    run = smoke_copy("episodes", train_vae={"steps": 1, "learning_rate": 1e30})
    line = fails("train_vae", run)
    assert "train_vae: the loss is not finite at step 1 (nothing is lost)" in line
    assert not (run.vae / "vae.safetensors").exists()


def test_latents_that_are_not_numbers(fails, smoke_copy):
    run = smoke_copy("episodes", "vae", "latents")
    for path in run.latents.glob("*.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        arrays["mu"] = np.full_like(arrays["mu"], np.nan)
        save_arrays(path, **arrays)
    line = fails("train_mdnrnn", run)
    assert "mu does not fit" in line
    assert "not finite" in line
    assert not run.mdnrnn.exists()


def test_two_commands_on_one_run(fails, script, smoke_copy):
    """The second is refused, also in a round of the run; a killed one is not in the way."""
    run = smoke_copy("episodes", train_vae={"steps": 10**7})
    first = start("train-vae", "--run", run.folder)
    try:
        while not run.metrics.exists():  # training has begun
            assert first.is_alive()
            time.sleep(0.05)
        for stage in ("collect", "train_vae"):
            line = fails(stage, run)
            assert f"{run.folder} is in use by process {first.pid} on " in line
            assert "wait until it ends, or stop it" in line
        with pytest.raises(InputError, match="in use"), Metrics(run.round(1), "encode"):
            pass
    finally:
        first.kill()
        first.join()
    leftover = run.vae / f"vae.safetensors.{first.pid}.tmp"
    leftover.parent.mkdir()
    leftover.touch()
    script("collect", "--run", run.folder)
    assert not leftover.exists()
