"""A wheel, installed elsewhere, has the command, the configs and the shipped bundle."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("worldmodels", "configs", "pyproject.toml", "README.md", "LICENSE")


def copied(source):
    """What a build reads, in a folder of its own, for a build leaves files behind."""
    for name in PARTS:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, source / name)
    return source


def built(source, what):
    """A wheel or an sdist."""
    build = f"from hatchling import build; print(build.build_{what}('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, check=True, capture_output=True, text=True
    )
    return source / "dist" / done.stdout.strip()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return copied(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheel(source):
    return built(source, "wheel")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with what a wheel holds."""
    target = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    return target


def test_builds_at_other_times_have_the_same_bytes(source, wheel, tmp_path):
    later = copied(tmp_path / "later")
    os.utime(later / "README.md", (2e9, 2e9))
    assert built(later, "wheel").read_bytes() == wheel.read_bytes()
    assert built(later, "sdist").read_bytes() == built(source, "sdist").read_bytes()


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
