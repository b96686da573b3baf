"""The command `worldmodels`: dispatch, help and mistakes; scripts/ are the same commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worldmodels.cli import COMMANDS, about, main

ROOT = Path(__file__).resolve().parents[1]


def test_help_names_every_command_and_is_quick():
    code = (
        "import sys; from worldmodels.cli import main; main(['--help']); "
        "assert not {'torch', 'numba', 'scipy', 'cv2'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for name in COMMANDS:
        assert f"  {name} " in done.stdout
        assert about(name) in done.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_a_command(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: worldmodels {name} ")
    what, _, example = about(name).rstrip(".").partition(f": {name} ")
    text = " ".join(out.split())
    assert what in text
    assert example in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["pipelin"], "pipelin is not a command: did you mean pipeline?"),
        (["fly"], "fly is not a command: see worldmodels --help"),
        (["play"], "no bundle is named: worldmodels play BUNDLE"),
        (["unpack"], "no bundle is named: worldmodels unpack BUNDLE"),
        (["inspect-dream"], "no run is named: worldmodels inspect-dream RUN"),
        (["study"], "no run is named: worldmodels study RUN"),
        (["gallery"], "no system is named: worldmodels gallery NAME"),
        (["evaluate", "--evaluate.episodes", "2", "nobody"], "nobody is not a bundle"),
        (["evaluate", "nobody", "--evaluate.episodes", "2"], "nobody is not a bundle"),
        (["evaluate", "--evaluate.split=test", "nobody"], "nobody is not a bundle"),
        (["collect", "--seed", "-1"], "seed is -1: it must be between 0 and 9223372036854775807"),
        (["play", "take_cover", "--play.seed=9223372036854775808"], "play.seed is 922337203685477"),
        (["collect", "--env.kwargs", "&a {b: *a}"], "a value on the command line refers to itself"),
        (["collect", "--config"], "--config is empty"),
        (["collect", "--seed", "1", "--seed=2"], "--seed is given twice: give it once"),
        (["evaluate", "take_cover", "--run=a", "--run", "b"], "--run is given twice"),
        (["find-baselines", "--world=a", "--world=b"], "--world is given twice: give it once"),
        (["collect", "--seed", "18446744073709551616"], "seed is 18446744073709551616: it must be"),
        (["collect", "--collect.episodes", "1e18"], "collect.episodes: Expected a int. Got value"),
        (["collect", f"--collect.episodes={10**18}"], f"collect.episodes is {10**18}: it must be"),
        (["pipeline", "--rounds=101"], "rounds is 101: it must be between 1 and 100"),
        (["pipeline", "--evaluate.episodes=1000001"], "evaluate.episodes is 1000001: it must be "),
        (["collect", "--workers.processes=9999"], "workers.processes is 9999: it must be between"),
        (["train-vae", "--train_vae.learning_rate=1e400"], "train_vae.learning_rate is inf: it mu"),
        (["train-vae", "--run", "nothing"], "nothing/config.yaml is missing: run `worldmodels col"),
    ],
)
def test_mistakes(argv, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert os.listdir() == []


def test_a_script_for_every_command():
    for name in COMMANDS:
        script = ROOT / "scripts" / f"{name.replace('-', '_')}.py"
        assert f'main(["{name}", ' in script.read_text(encoding="utf-8")
