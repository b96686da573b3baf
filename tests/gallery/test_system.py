"""Every system through its command line: files, figures, resuming, mistakes."""

import numpy as np
import pytest
import torch

from worldmodels.errors import InputError
from worldmodels.files import load_json, load_tensors
from worldmodels.gallery.system import SYSTEMS, system_of

STEPS = ["--train.steps=20", "--train.batch_size=8"]
SMALL = {
    "densities": ["--samples=200"],
    "arcsine": ["--points=50", "--repetitions=1", "--test_points=100"],
    "spiral": ["--points=50", "--test_points=100", "--hidden_size=8"],
    "walk": ["--walks=20", "--test_walks=10", "--steps=12", "--hidden_size=8"],
    "handwriting": [
        *("--words=12", "--held_out=6", "--reading_size=8", "--hidden_size=8"),
        *("--num_mixtures=2", "--recogniser.steps=20", "--recogniser.batch_size=4"),
        *("--recogniser_size=4", "--written=4", "--max_points=150"),
    ],
    "kanji": ["--hidden_size=8", "--num_mixtures=2", "--compared=6"],
    "sketch_vae": [
        *("--hidden_size=8", "--encoder_size=8", "--latent_size=4"),
        *("--num_mixtures=2", "--weights=[1.0, 0.5]"),
    ],
    "touch": [
        "--hidden_size=8",
        "--num_mixtures=2",
        "--length=10",
        "--compared=3",
    ],
}
DATA = {"kanji": "kanji_folder", "sketch_vae": "sketches", "touch": "performances"}


@pytest.fixture
def system(script, tmp_path, request, monkeypatch):
    """Runs gallery.py NAME at a tiny size; returns its folder."""

    monkeypatch.setattr("worldmodels.stages.fit.CHECKPOINT_SECONDS", 0.0)

    def run(name, *flags, run="run"):
        data = [f"--data={request.getfixturevalue(DATA[name])}"] if name in DATA else []
        folder = tmp_path / run / name
        given = {flag.split("=")[0] for flag in flags}
        sizes = [flag for flag in (*data, *STEPS, *SMALL[name]) if flag.split("=")[0] not in given]
        script("gallery", name, "--run", folder, *sizes, *flags)
        return folder

    return run


@pytest.mark.parametrize("name", SYSTEMS)
def test_twenty_steps(system, name, capsys, hashes, monkeypatch):
    folder = system(name)
    report = load_json(folder / "results.json")
    assert report["system"] == name
    assert report["numbers"]
    assert report["seconds"] > 0
    assert (folder / f"{name}.png").stat().st_size > 1000
    assert list(folder.glob("*.safetensors"))
    assert not list(folder.glob("*_checkpoint*"))
    assert str(folder) in capsys.readouterr().out.splitlines()[-1]
    before = hashes(folder, without=("metrics.jsonl", "tensorboard", "results.json"))
    monkeypatch.setattr("worldmodels.gallery.system.fit", None)  # nothing is trained again
    system(name)
    assert hashes(folder, without=("metrics.jsonl", "tensorboard", "results.json")) == before
    assert load_json(folder / "results.json")["numbers"] == report["numbers"]


def test_the_gallery_stays_on_the_cpu(system, monkeypatch):
    monkeypatch.setenv("WORLDMODELS_DEVICE", "cuda")  # there is none in tests
    assert load_json(system("densities") / "results.json")["numbers"]


@pytest.mark.parametrize("name", ["walk", "sketch_vae"])
def test_after_a_kill_it_goes_on_to_the_same_bits(system, name, monkeypatch):
    whole = system(name)

    def killed(*arguments, real=torch.nn.utils.clip_grad_norm_, calls=[0]):  # noqa: B006
        calls[0] += 1
        if calls[0] == 13:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", killed)
        with pytest.raises(SystemExit, match="130"):
            system(name, run="halves")
    halves = system(name, run="halves")
    for path in whole.glob("*.safetensors"):
        ours, theirs = load_tensors(path)[0], load_tensors(halves / path.name)[0]
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_pictures_are_drawn_again_without_training(system, monkeypatch):
    folder = system("handwriting", "--text=bad cab", "--words=60")
    first = (folder / "handwriting.png").read_bytes()
    monkeypatch.setattr("worldmodels.gallery.system.fit", None)
    system("handwriting", "--words=60", "--text=cab")
    assert (folder / "handwriting.png").read_bytes() != first


def test_another_config_is_refused(system, capsys):
    system("walk")
    with pytest.raises(SystemExit, match="2"):
        system("walk", "--noise=0.3")
    assert "noise" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no system is named"),
        (["opera"], "'opera' is not in the gallery"),
        (["touch"], "TinyPerformanceArrays.npz of https"),
        (["sketch_vae"], "https://github.com/hardmaru/sketch-rnn-datasets"),
        (["kanji", "--data=missing.npz"], "missing.npz is missing"),
        (["handwriting", "--data=missing.npz"], "missing.npz is missing"),
        (["sketch_vae", "--weights=[]"], "weights is empty"),
        (["sketch_vae", "--weights=[0]"], "weights is (0.0,): it must be above 0"),
        (["walk", "--noise=0"], "noise is 0.0: it must be above 0"),
        (["walk", "--steps=6"], "steps is 6: it must be at least 7"),
        (["walk", "--train.steps=0"], "train.steps is 0"),
    ],
)
def test_mistakes_are_one_line_and_code_2(script, capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        script("gallery", *flags)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_mistake_may_be_corrected(script, tmp_path, capsys, performances):
    run = tmp_path / "touch"
    for wrong in ([], ["--data=missing.npz"]):
        with pytest.raises(SystemExit, match="2"):
            script("gallery", "touch", f"--run={run}", *wrong)
    flags = "--train.steps=2", "--hidden_size=8", "--compared=1", "--seconds=0.1"
    script("gallery", "touch", f"--run={run}", f"--data={performances}", *flags)
    assert str(run) in capsys.readouterr().out.splitlines()[-1]


def test_data_that_changed_are_noticed(system, capsys, performances):
    system("touch")
    content = performances.read_bytes()
    with np.load(performances, allow_pickle=True) as archive:
        array = archive["arr_0"]
    array[0][3, 0] /= 2
    np.savez(performances, array)
    with pytest.raises(SystemExit, match="2"):
        system("touch")
    assert "performances.npz is not what" in capsys.readouterr().err
    performances.write_bytes(content)
    system("touch")


def test_a_text_that_is_too_long_says_so(system, capsys):
    long = "bad" * 20
    system("handwriting", f"--text={long} cab")
    shown = capsys.readouterr().out
    assert f"{long!r} is not written to its end within 150 points: give shorter words" in shown


def test_letters_that_nobody_wrote_are_refused_before_training(system, capsys, monkeypatch):
    monkeypatch.setattr("worldmodels.gallery.system.fit", None)
    with pytest.raises(SystemExit, match="2"):
        system("handwriting", "--text=日")
    assert "'日' was never written in training" in capsys.readouterr().err


def test_impsys_controls_are_learned_and_drawn(script, tmp_path):
    generator, array = np.random.default_rng(1), np.empty(12, object)
    for number in range(12):
        size = 20 + number
        columns = generator.exponential(0.05, size), *generator.uniform(size=(4, size))
        array[number] = np.column_stack(columns).astype(np.float32)
    np.savez(tmp_path / "training-dataset-5d.npz", perfs=array)
    data, folder = f"--data={tmp_path / 'training-dataset-5d.npz'}", tmp_path / "run"
    script("gallery", "touch", "--run", folder, data, *STEPS, *SMALL["touch"])
    report = load_json(folder / "results.json")
    assert len(report["numbers"]["sigma_floor"]) == 5
    assert (folder / "touch.png").stat().st_size > 1000


@pytest.mark.parametrize("name", SYSTEMS)
def test_help_explains_every_field(script, capsys, name):
    with pytest.raises(SystemExit, match="0"):
        script("gallery", name, "--help")
    shown = capsys.readouterr().out
    assert system_of(name).__doc__ in shown
    assert "--seed" in shown


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="densities, arcsine"):
        system_of("dream")
