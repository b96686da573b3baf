"""A bundle of somebody else imports no module unless the user says so."""

import sys
from dataclasses import replace

import pytest

from worldmodels.artifacts import Bundle
from worldmodels.envs.real import describe, make_env
from worldmodels.envs.trust import VARIABLE, check_trusted
from worldmodels.errors import InputError
from worldmodels.world import EnvConfig

HOSTILE = """
from pathlib import Path
Path("imported").touch()
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported; returns the mark."""
    monkeypatch.setenv(VARIABLE, "")  # undone afterwards
    (tmp_path / "hostile.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hostile", raising=False)
    return tmp_path / "imported"


@pytest.fixture
def hostile_bundle(hostile, tiny_bundle):
    bundle = Bundle.load(tiny_bundle)
    config = replace(bundle.world.config, id="hostile:Game-v0")
    replace(bundle, world=replace(bundle.world, config=config)).save(tiny_bundle)
    return tiny_bundle


@pytest.mark.parametrize("field", ["id", "training_id"])
def test_no_module_is_imported_untold(hostile, field):
    config = EnvConfig(**{field: "hostile:Game-v0"})
    with pytest.raises(InputError, match=r"would import hostile \(.*hostile.py\).*--trust-env"):
        make_env(config, official=field == "id")
    assert not hostile.exists()


@pytest.mark.parametrize(
    "command",
    [["evaluate", "--evaluate.episodes=2"], ["watch"], ["play", "--play.mode=reality"]],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_commands_ask(script, capsys, hostile, hostile_bundle, command, trusted):
    if command[0] == "play":
        pytest.importorskip("pygame")
    flags = ["--trust-env"] if trusted else []
    with pytest.raises(SystemExit, match="2"):
        script(command[0], *flags, hostile_bundle, *command[1:])
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "env.id" in error
    assert ("add --trust-env if you trust it" in error) != trusted
    assert hostile.exists() == trusted


def test_what_the_user_names_is_trusted(script, capsys, hostile, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("env: {id: 'hostile:Game-v0'}")
    for number, named in enumerate(["--env.id=hostile:Game-v0", f"--config={config}"]):
        hostile.unlink(missing_ok=True)
        sys.modules.pop("hostile", None)
        with pytest.raises(SystemExit, match="2"):
            script("collect", named, f"--run={tmp_path / str(number)}")
        assert "hostile:Game-v0 cannot be made" in capsys.readouterr().err
        assert hostile.exists()


def test_installed_environment_packages_are_trusted_and_their_namesakes_are_not(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(VARIABLE, "")
    check_trusted("vizdoom.gymnasium_wrapper:VizdoomBasic-v1")
    assert describe(EnvConfig(id="gymnasium.envs:CartPole-v1")).config.id.endswith("CartPole-v1")
    with pytest.raises(InputError, match="would import this"):
        check_trusted("this:Game-v0")  # of the standard library
    with pytest.raises(InputError, match="not found"):
        check_trusted("nowhere:Game-v0")
