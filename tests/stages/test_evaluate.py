"""A finished bundle is measured by name: the same returns again, and mistakes in a line."""

import shutil

import pytest

from worldmodels.artifacts import Bundle
from worldmodels.files import file_hash, load_json
from worldmodels.run import Metrics

FEW = ["--evaluate.episodes=3", "--workers.processes=1"]


@pytest.fixture
def bundle(script, smoke_copy):
    """Of a tiny run, which is gone."""
    run = smoke_copy("episodes", "vae", "latents", "mdnrnn", "controller", "metrics.jsonl")
    script("evaluate", "--run", run.folder, *FEW)
    kept = run.folder.parent / "kept"
    shutil.move(run.bundle, kept)
    report = load_json(run.evaluation_file)
    shutil.rmtree(run.folder)
    return kept, report


def test_the_card_tells_the_score(bundle):
    folder, report = bundle
    about = Bundle.load(folder).about
    assert about["scores"]["mean"] == report["mean"]
    assert about["scores"]["seeds"] == report["seeds"]
    assert about["licence"] == "MIT"
    assert "evaluate" not in about["command"]  # it evolved C
    assert "--run" not in about["command"]
    card = (folder / "README.md").read_text()
    assert f"{report['mean']:.1f} ± {report['std']:.1f}" in card
    assert "3 test episodes" in card
    assert file_hash(folder / "weights.safetensors") == report["bundle_sha256"]


def test_a_bundle_returns_the_same_again(bundle, script, tmp_path, capsys, monkeypatch):
    folder, report = bundle
    script("evaluate", folder, "--run", tmp_path / "again", *FEW)
    again = load_json(tmp_path / "again" / "evaluation.json")
    assert again["returns"] == report["returns"]
    assert again["baselines"]["random"]["returns"] == report["baselines"]["random"]["returns"]
    assert set(again["baselines"]) == {"random", "constant"}
    assert again["bundle_sha256"] == report["bundle_sha256"]
    assert f"{folder} the agent" in capsys.readouterr().out
    script("evaluate", folder, "--run", tmp_path / "again", *FEW)
    assert "already exists" in capsys.readouterr().out
    monkeypatch.setattr("worldmodels.stages.find_baselines.race", None)  # found once
    script("evaluate", folder, "--run", tmp_path / "again", *FEW, "--evaluate.split=final")
    fresh = load_json(tmp_path / "again" / "evaluation.json")
    assert fresh["seeds"] == [300_000_000, 3]


def test_a_run_that_is_named_as_a_bundle_keeps_what_is_known_of_it(script, smoke_copy):
    run = smoke_copy("episodes", "vae", "latents", "mdnrnn", "controller")
    script("evaluate", "--run", run.folder, *FEW)
    known = load_json(run.evaluation_file)
    more = ["--evaluate.episodes=4", *FEW[1:]]
    script("evaluate", run.folder, "--run", run.folder, *more)
    again = load_json(run.evaluation_file)
    assert again["episodes"] == 4
    assert again["real_frames"] == known["real_frames"]
    made, last = Metrics.making([run]), Metrics.ends(run)[-1]["seconds"]
    assert made < again["seconds"] <= made + last  # the first evaluation does not count


def test_no_such_bundle(script, capsys):
    with pytest.raises(SystemExit, match="2"):
        script("evaluate", "nobody", *FEW)
    assert "nobody is not a bundle" in capsys.readouterr().err
