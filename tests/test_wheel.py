"""A wheel, installed elsewhere, has the command, the configs and the shipped bundle."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("worldmodels", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what a wheel holds; built from a copy, for a build leaves files behind."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "target"))
    for name in PARTS:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *options, "-w", source / "dist", source], check=True)
    (wheel,) = (source / "dist").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    shutil.rmtree(source)
    return target


@pytest.fixture
def python(installed, tmp_path):
    """Runs Python outside of the repository, with the installed package."""

    def run(*arguments, code=0):
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True
        )
        assert done.returncode == code, done.stderr.decode()
        return (done.stdout + done.stderr).decode()

    return run


def test_the_command(installed, python):
    command = str(installed / "bin" / "worldmodels")
    out = python("-m", "worldmodels", "--help")
    assert "  train-vae " in out
    assert python(command, "--help") == out
    line = python(command, "collect", "--config", "nothing", code=2)
    assert line.startswith("error: nothing cannot be read")
    assert "quick" in line
    assert line.count("\n") == 1


EVERYTHING = """
import worldmodels
from worldmodels.cli import main
from worldmodels.web.export import PAGE

worldmodels.load("take_cover")
assert {path.name for path in PAGE.iterdir()} == {
    "index.html", "style.css", "page.js", "dream.js"
}
print(worldmodels.__file__)
for command in (["pipeline", "--config=smoke", "-h"], ["gallery", "densities", "--help"]):
    try:
        main(command)
    except SystemExit as end:
        assert end.code == 0
"""


def test_the_configs_the_gallery_and_the_bundle(installed, python):
    out = python("-c", EVERYTHING)
    assert out.startswith(str(installed / "worldmodels" / "__init__.py"))
    assert "--collect.episodes" in out
    assert "--samples" in out
