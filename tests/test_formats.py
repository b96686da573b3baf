"""A run and its bundle of each format are read, and go on; those of a later program name it."""

import re
import shutil
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import worldmodels
from worldmodels.cli import main
from worldmodels.command_line import FORMAT
from worldmodels.files import load_json, save_json

STORED = Path(__file__).parent / "formats"
"""`run_N` is of format N of runs; its bundle/ has the format that bundles had then."""


@pytest.fixture(params=sorted(path.name for path in STORED.glob("run_*")))
def stored(request, tmp_path):
    return Path(shutil.copytree(STORED / request.param, tmp_path / "stored"))


def results(run):
    """What took a run its time."""
    names = "episodes/*.npz", "vae/*", "latents/*.npz", "mdnrnn/*", "controller/*"
    return {path: path.read_bytes() for name in names for path in sorted(run.glob(name))}


def test_there_is_one_of_each():
    numbers = {int(path.name.removeprefix("run_")) for path in STORED.glob("run_*")}
    assert numbers == set(range(1, FORMAT + 1))


def test_a_stored_run_goes_on(stored, capsys):
    """Nothing is collected, trained, evolved or measured again; the film is made."""
    before, evaluation = results(stored), (stored / "evaluation.json").read_bytes()
    main(["pipeline", "--run", str(stored)])
    assert results(stored) == before
    assert (stored / "evaluation.json").read_bytes() == evaluation
    assert f"{stored / 'evaluation.json'} already exists" in capsys.readouterr().out
    shown = [stored / name for name in ("videos/dream.webm", "videos/dream.webp", "histogram.png")]
    assert all(path.exists() for path in shown)
    for path in shown[1:]:  # as after a kill in between
        path.unlink()
    main(["pipeline", "--run", str(stored)])
    assert all(path.exists() for path in shown)


def test_a_stored_bundle_acts(stored):
    agent = worldmodels.load(stored / "bundle")
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    agent.reset()
    assert env.action_space.contains(agent.act(env.render()))
    env.close()
    dream = gymnasium.make_vec("worldmodels/Dream-v0", num_envs=2, bundle=str(stored / "bundle"))
    observations, _ = dream.reset(seed=0)
    assert np.isfinite(observations).all()


def renamed(stored, number, version="99.1.0"):
    """The run, as if another version had written it."""
    file = stored / "config.yaml"
    about = f"# Format {number}, version {version}."
    file.write_text(re.sub(r"^# Format .*$", about, file.read_text(), count=1, flags=re.M))


def test_a_run_of_a_later_format_is_refused(stored, capsys):
    renamed(stored, FORMAT + 1)
    for command in (["pipeline", "--run"], ["report"], ["inspect-dream"], ["evolve", "--run"]):
        with pytest.raises(SystemExit, match="2"):
            main([*command, str(stored)])
        line = capsys.readouterr().err
        assert line.startswith(f"error: {stored} has format {FORMAT + 1}, written by version 99.1")
        assert line.endswith(f"reads 1 to {FORMAT}: update, or use another --run\n")


def test_a_field_that_is_gone_names_the_version_that_wrote_it(stored, capsys):
    renamed(stored, FORMAT, "0.0.9")
    with open(stored / "config.yaml", "a") as file:
        file.write("gone: 1\n")
    with pytest.raises(SystemExit, match="2"):
        main(["evolve", "--run", str(stored)])
    line = capsys.readouterr().err
    assert "config.yaml, written by version 0.0.9: gone is unknown" in line


def test_a_bundle_of_a_later_format_is_refused(stored):
    file = stored / "bundle" / "bundle.json"
    save_json(file, load_json(file) | {"format": 99})
    with pytest.raises(worldmodels.InputError, match=r"bundle.json has format 99.* update, or"):
        worldmodels.load(stored)
