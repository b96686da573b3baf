"""Temporary folders of killed processes are removed by the next process, and no others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worldmodels.temporary import owner_of, temporary_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
NOTES = "from worldmodels.calls import begin_notes; begin_notes()"


def python(code, folder):
    environment = {name: text for name, text in os.environ.items() if name != "WORLDMODELS_CALLS"}
    environment["TMPDIR"], pipe = str(folder), subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=pipe, stdout=pipe)


def test_the_notes_of_a_killed_process_are_removed(tmp_path):
    with python(f"{NOTES}; import os; os.kill(os.getpid(), 9)", tmp_path) as killed:
        assert killed.wait() == -signal.SIGKILL
    assert [owner_of(folder) for folder in tmp_path.iterdir()] == [killed.pid]
    with python(f"{NOTES}; print(flush=True); input()", tmp_path) as alive:
        alive.stdout.readline()
        (left,) = tmp_path.iterdir()  # the second process has removed that of the first
        assert owner_of(left) == alive.pid
        with python(NOTES, tmp_path) as third:
            assert third.wait() == 0
        assert list(tmp_path.iterdir()) == [left]  # of a process that is alive


def test_other_names_have_no_owner(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name = temporary_folder("doom").name
    assert owner_of(Path(name)) == os.getpid()
    prefix, kind, _, process, rest = name.split("-", 4)
    for other in (
        f"{prefix}-{kind}-{process}-{rest}",
        f"{prefix}-{kind}-00000000-{process}-{rest}",  # of another machine
        f"my-{name}",
    ):
        assert owner_of(Path(other)) is None
