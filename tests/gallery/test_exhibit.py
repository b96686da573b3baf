"""Every exhibit through its command line: files, figures, going on, drawing again, mistakes."""

import pytest
import torch
import yaml

from worldmodels.command_line import CONFIGS, read
from worldmodels.errors import InputError
from worldmodels.files import load_json, load_tensors
from worldmodels.gallery.exhibit import NAMES, exhibit_of

STEPS = ["--train.steps=20", "--train.batch_size=8", "--train.checkpoint_every=5"]
SMALL = {
    "densities": ["--samples=200"],
    "arcsine": ["--points=50", "--repetitions=1", "--test_points=100"],
    "spiral": ["--points=50", "--test_points=100", "--hidden_size=8"],
    "walk": ["--walks=20", "--test_walks=10", "--steps=12", "--hidden_size=8"],
    "handwriting": [
        *("--words=12", "--held_out=6", "--model.reading_size=8", "--model.hidden_size=8"),
        *("--model.num_mixtures=2", "--recogniser.steps=20", "--recogniser.batch_size=4"),
        *("--recogniser_size=4", "--show.written=4", "--max_points=150"),
    ],
    "kanji": ["--model.hidden_size=8", "--model.num_mixtures=2", "--show.compared=6"],
    "sketch_vae": [
        *("--model.hidden_size=8", "--model.encoder_size=8", "--model.latent_size=4"),
        *("--model.num_mixtures=2", "--loss.weights=[1.0, 0.5]"),
    ],
    "touch": [
        "--model.hidden_size=8",
        "--model.num_mixtures=2",
        "--length=10",
        "--show.compared=3",
    ],
}
DATA = {"kanji": "kanji_folder", "sketch_vae": "sketches", "touch": "performances"}


@pytest.fixture
def exhibit(script, tmp_path, request):
    """Runs gallery.py NAME at a tiny size; returns its folder."""

    def run(name, *flags, run="run"):
        data = [f"--data={request.getfixturevalue(DATA[name])}"] if name in DATA else []
        folder = tmp_path / run / name
        script("gallery", name, "--run", folder, *data, *STEPS, *SMALL[name], *flags)
        return folder

    return run


@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps(exhibit, name, capsys, hashes, monkeypatch):
    folder = exhibit(name)
    report = load_json(folder / "results.json")
    assert report["exhibit"] == name
    assert report["numbers"]
    assert report["seconds"] > 0
    assert (folder / f"{name}.png").stat().st_size > 1000
    assert list(folder.glob("*.safetensors"))
    assert not list(folder.glob("*_checkpoint*"))
    assert str(folder) in capsys.readouterr().out.splitlines()[-1]
    before = hashes(folder, without=("metrics.jsonl", "tensorboard", "results.json"))
    monkeypatch.setattr("worldmodels.gallery.exhibit._descend", None)  # nothing is trained again
    exhibit(name)
    assert hashes(folder, without=("metrics.jsonl", "tensorboard", "results.json")) == before
    assert load_json(folder / "results.json")["numbers"] == report["numbers"]


@pytest.mark.parametrize("name", ["walk", "sketch_vae"])
def test_after_a_kill_it_goes_on_to_the_same_bits(exhibit, name, monkeypatch):
    whole = exhibit(name)

    def killed(*arguments, real=torch.nn.utils.clip_grad_norm_, calls=[0]):  # noqa: B006
        calls[0] += 1
        if calls[0] == 13:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", killed)
        with pytest.raises(SystemExit, match="130"):
            exhibit(name, "--train.gradient_clip=1.0", run="halves")
    halves = exhibit(name, "--train.gradient_clip=1.0", run="halves")
    if name == "sketch_vae":  # its default has no clip
        whole = exhibit(name, "--train.gradient_clip=1.0", run="whole")
    for path in whole.glob("*.safetensors"):
        ours, theirs = load_tensors(path)[0], load_tensors(halves / path.name)[0]
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_pictures_are_drawn_again_without_training(exhibit, monkeypatch):
    folder = exhibit("handwriting", "--show.text=bad cab", "--words=60")
    first = (folder / "handwriting.png").read_bytes()
    monkeypatch.setattr("worldmodels.gallery.exhibit._descend", None)
    exhibit("handwriting", "--words=60", "--show.text=cab")
    assert (folder / "handwriting.png").read_bytes() != first


def test_another_config_is_refused(exhibit, capsys):
    exhibit("walk")
    with pytest.raises(SystemExit, match="2"):
        exhibit("walk", "--noise=0.3")
    assert "noise" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no exhibit is named"),
        (["opera"], "'opera' is not in the gallery"),
        (["touch"], "TinyPerformanceArrays.npz of https"),
        (["sketch_vae"], "https://github.com/hardmaru/sketch-rnn-datasets"),
        (["kanji", "--data=missing.npz"], "missing.npz is missing"),
        (["handwriting", "--data=missing.npz"], "missing.npz is missing"),
        (["handwriting", "--fonts=[arial]"], "'arial' is none of Hershey's fonts: use astrology"),
        (["handwriting", "--fonts=[]"], "fonts is empty: name one of Hershey's"),
        (["walk", "--noise=0"], "walk.noise is 0"),
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
    flags = "--train.steps=2", "--model.hidden_size=8", "--show.compared=1", "--show.seconds=0.1"
    script("gallery", "touch", f"--run={run}", f"--data={performances}", *flags)
    assert str(run) in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("name", NAMES)
def test_every_exhibit_has_a_config_that_loads(name):
    file = CONFIGS / "gallery" / f"{name}.yaml"
    config = read(exhibit_of(name).config, file)
    for section, values in (yaml.safe_load(file.read_text()) or {}).items():
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == value


@pytest.mark.parametrize("name", NAMES)
def test_help_explains_every_field(script, capsys, name):
    with pytest.raises(SystemExit, match="0"):
        script("gallery", name, "--help")
    shown = capsys.readouterr().out
    assert exhibit_of(name).about in shown
    assert "--seed" in shown


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="densities, arcsine"):
        exhibit_of("dream")
