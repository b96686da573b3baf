"""Mistakes are named in one line, and leave nothing half-written."""

import json
import os
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import worldmodels.web.runtime
from worldmodels.artifacts import Bundle
from worldmodels.cli import main
from worldmodels.web.graphs import graphs
from worldmodels.web.runtime import runtime_files


@pytest.fixture
def refused(capsys):
    """Runs a command that fails; returns its one line."""

    def run(*words):
        with pytest.raises(SystemExit, match="2"):
            main([str(word) for word in words])
        line = capsys.readouterr().err
        assert line.startswith("error: ")
        assert line.count("\n") == 1
        return line

    return run


def test_mistakes_of_export(refused, tiny_bundle, tmp_path):
    other, file = tmp_path / "other", tmp_path / "file"
    other.mkdir()
    (other / "mine.txt").write_text("keep")
    file.write_text("keep")
    out = tmp_path / "page"
    assert "not a bundle" in refused("export-web", "nothing", "--out", out)
    assert "no bundle is named" in refused("export-web", "--out", out)
    assert "--out FOLDER" in refused("export-web", tiny_bundle)
    assert "is a file" in refused("export-web", tiny_bundle, "--out", file)
    assert "not made by worldmodels" in refused("export-web", tiny_bundle, "--out", other)
    assert "cannot be written" in refused("export-web", tiny_bundle, "--out", "/proc/page")
    assert "unknown" in refused("export-web", tiny_bundle, "--outt", out)
    assert not out.exists()
    assert [path.name for path in other.iterdir()] == ["mine.txt"]


def test_an_agent_that_sees_another_network_is_refused(refused, tiny_bundle, tmp_path):
    bundle = Bundle.load(tiny_bundle)
    config = replace(bundle.controller.config, senses="blind")
    bundle.controller.config = config
    bundle.save(tiny_bundle)
    assert "senses" in refused("export-web", tiny_bundle, "--out", tmp_path / "page")


def test_mistakes_of_web(refused, tiny_bundle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port {port} cannot be used" in refused("web", tiny_bundle, "--port", port)
    assert "65535" in refused("web", tiny_bundle, "--port", 70000)
    assert "not a bundle" in refused("web", "nothing")


def test_the_runtime_needs_npm_once(refused, runtime, tiny_bundle, tmp_path, monkeypatch):
    """A broken file of the cache is fetched again; without npm the way to get it is named."""
    out, cache = tmp_path / "page", tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert "install Node.js" in refused("export-web", tiny_bundle, "--out", out)
    assert not out.exists()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    fails = subprocess.CompletedProcess([], 1, "", "npm error offline\nnpm error log")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda *_, **__: "npm")
        patch.setattr(subprocess, "run", lambda *_, **__: fails)
        assert "npm error offline" in refused("export-web", tiny_bundle, "--out", out)
    folder = cache / "worldmodels" / f"onnxruntime-web-{worldmodels.web.runtime.VERSION}"
    folder.mkdir(parents=True)
    for file in runtime:
        shutil.copyfile(file, folder / file.name)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda *_, **__: None)
        assert len(runtime_files()) == 2
        (folder / runtime[1].name).write_bytes(runtime[1].read_bytes()[:-9])
        assert "install Node.js" in refused("export-web", tiny_bundle, "--out", out)


def test_a_page_is_replaced_by_the_next(export, tiny_bundle, tmp_path, monkeypatch):
    """Also one whose export was stopped. Films of an older page go, a user's files stay; a world
    without an end works too.
    """
    made = graphs(Bundle.load(tiny_bundle))  # once: it takes seconds
    monkeypatch.setattr("worldmodels.web.export.graphs", lambda _: made)
    out, moved = tmp_path / "page", []
    left = out / ".worldmodels-export-killed"
    left.mkdir(parents=True)
    (left / "play.js").touch()

    def replace(self, target):
        moved.append(target)
        if len(moved) == 3:
            raise KeyboardInterrupt
        os.replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(SystemExit, match="130"):
            export(tiny_bundle, out)
    assert (out / moved[0].name).exists()
    export(tiny_bundle, out)
    before = {path.name for path in out.iterdir()}
    assert not [name for name in before if name.startswith(".")]
    (out / "reality7.webp").write_bytes(b"old")
    (out / "CNAME").write_text("a user's")
    export(tiny_bundle, out)
    assert {path.name for path in out.iterdir()} == before | {"CNAME"}
    manifest = json.loads((out / "dream.json").read_text())
    assert manifest["ends"] == "none"
    assert len((out / "starts.bin").read_bytes()) == 4 * 6 * (4 + 8 + 8 + 1)
    assert "$" not in (out / "index.html").read_text(encoding="utf-8")
