"""The code blocks of README and docs: Python runs, YAML is read, commands and their flags exist."""

import contextlib
import functools
import io
import re
import shlex
import shutil
from pathlib import Path

import gymnasium
import pytest
import yaml

from worldmodels.cli import COMMANDS, main
from worldmodels.command_line import read
from worldmodels.config import Config
from worldmodels.files import load_json

ROOT = Path(__file__).resolve().parents[1]
SIZES = re.compile(r"^(UPDATES|STEPS|EPISODES) = .*$", re.M)
"""What a block of Python states of its length; here it is 1."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def name_of(page):
    return page.name


def blocks(language, *pages):
    """The texts of the fenced blocks in a language, of some pages or all; their ids say where."""
    found = []
    for page in pages or PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.M | re.S):
            line = text[: match.start()].count("\n") + 1
            found.append(pytest.param(match[1], id=f"{page.name}:{line}"))
    return found


def command_lines():
    """All lines of the bash blocks, without comments, once each."""
    lines = [line for block in blocks("bash") for line in block.values[0].splitlines()]
    commands = [shlex.join(shlex.split(line, comments=True)) for line in lines]
    return sorted({command for command in commands if command})


@functools.cache
def help_of(name):
    """What a command's --help prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([name, "--help"])
    return out.getvalue()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks("python", page)], ids=name_of)
def test_python(page, tiny_bundle, tmp_path, monkeypatch):
    """Each block of a page; it may use the names of the first."""
    (tmp_path / "runs").mkdir()
    tiny_bundle.rename(tmp_path / "runs" / "quick")
    short = functools.partial(gymnasium.make, max_episode_steps=10)
    monkeypatch.setattr(gymnasium, "make", short)
    first = {}
    for index, block in enumerate(blocks("python", page)):
        (code,) = block.values
        if "stable_baselines3" in code:
            pytest.importorskip("stable_baselines3")
        exec(compile(SIZES.sub(r"\1 = 1", code), block.id, "exec"), dict(first) if index else first)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml(text, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert read(Config, file) != Config()
    assert set(yaml.safe_load(text)) <= set(Config.__dataclass_fields__)


@pytest.mark.parametrize("command", command_lines())
def test_commands_and_their_flags_exist(command):
    program, *words = shlex.split(command)
    if program in ("scripts/quickstart.sh", "scripts/test.sh"):
        assert (ROOT / program).is_file()
        return
    others = "git", "pip", "python", "python3", "tensorboard"
    if program.startswith("PYTHONPATH=") or program in others:
        scripts = [word for word in words if word.startswith("scripts/")]
        assert all((ROOT / script).is_file() for script in scripts)
        return
    assert program == "worldmodels"
    name, *arguments = words
    assert name in COMMANDS
    if name == "gallery":
        return  # its options are those of a system
    text = help_of(name) + help_of("pipeline")  # whose fields every command accepts
    for flag in (word.split("=")[0] for word in arguments if word.startswith("--")):
        assert re.search(rf"{re.escape(flag)}\b", text), f"{flag} is not explained by {name} --help"


def test_the_steps_of_the_quickstart(tiny, tmp_path, smoke_run):
    """One stage at a time, as the page says; the training is `smoke_run`'s."""
    shutil.copytree(smoke_run.folder, tmp_path / "runs/steps")
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if "--run runs/steps" in line]
    assert [shlex.split(line)[1] for line in lines][::6] == ["collect", "watch"]
    for line in lines:
        words = shlex.split(line)[1:]
        main([*words, *tiny] if words[0] == "collect" else words)
    assert load_json(tmp_path / "runs/steps/evaluation.json")["episodes"] == 2
    assert (tmp_path / "runs/steps/videos/dream.webm").is_file()


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
