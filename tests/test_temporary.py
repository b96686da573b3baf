"""Temporary folders of killed processes are removed by the next process, and no others."""

import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldmodels.temporary import owner_of, temporary_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
NOTES = "from worldmodels.calls import begin_notes; begin_notes()"
LOCK = "from worldmodels.run import Run\nwith Run({!r}).lock(): pass"

POOL = """
import os
from worldmodels.workers import WorkersConfig, run_jobs
run_jobs(abs, [(1,), (2,)], WorkersConfig(processes=2))
os.killpg(os.getpid(), 9)
"""


def python(code, folder, **how):
    environment = {name: text for name, text in os.environ.items() if name != "WORLDMODELS_CALLS"}
    environment["TMPDIR"], pipe = str(folder), subprocess.PIPE
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, **how)


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


def test_a_command_on_a_run_removes_what_a_killed_game_left(tmp_path):
    temporary, shared = tmp_path / "temporary", Path(f"/dev/shm/ViZDoomSM{os.getpid()}")
    temporary.mkdir()
    code = "from worldmodels.temporary import temporary_folder; print(temporary_folder('doom'))"
    with python(code, temporary) as ended:
        folder = Path(ended.stdout.read().decode().strip())
    (folder / "arguments").write_text(f"-warp 1 +viz_instance_id {os.getpid()} +more 2")
    shared.write_text("left")
    with python(LOCK.format(str(tmp_path / "run")), temporary) as locking:
        assert locking.wait() == 0
    assert not folder.exists()
    assert not shared.exists()


def test_the_memory_of_a_game_that_was_killed_before_its_launcher_wrote(tmp_path):
    """Newer than its folder, older than the mark of the first command, and used by no process."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = "from worldmodels.temporary import temporary_folder; print(temporary_folder('doom'))"
    with python(code, temporary) as ended:
        ended.stdout.read()
    (folder,) = temporary.iterdir()
    seconds = {"left": 100, "used": 100, "fresh": 0, "older": 300}
    paths = {kind: Path(f"/dev/shm/ViZDoomMQCtr{os.getpid()}{kind}") for kind in seconds}
    for kind, path in paths.items():
        path.write_bytes(bytes(100))
        os.utime(path, (time.time() - seconds[kind],) * 2)
    os.utime(folder, (time.time() - 200,) * 2)
    with paths["used"].open("r+b") as file, mmap.mmap(file.fileno(), 0):
        with python(LOCK.format(str(tmp_path / "run")), temporary) as locking:
            assert locking.wait() == 0
        first = [kind for kind, path in paths.items() if path.exists()]
        os.utime(folder / "left", (time.time() - 50,) * 2)  # it was marked a while ago
        with python(LOCK.format(str(tmp_path / "run")), temporary) as locking:
            assert locking.wait() == 0
    there = [kind for kind, path in paths.items() if path.exists()]
    for path in paths.values():
        path.unlink(missing_ok=True)
    assert (first, there) == ([*seconds], ["used", "fresh", "older"])
    assert not folder.exists()


def test_a_command_on_a_run_removes_the_semaphores_of_a_killed_pool(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with python(POOL, temporary, start_new_session=True) as killed:
        assert killed.wait() == -signal.SIGKILL
    of_pool = f"sem.loky-{killed.pid}-*"
    assert list(Path("/dev/shm").glob(of_pool))
    with python(LOCK.format(str(tmp_path / "run")), temporary) as locking:
        assert locking.wait() == 0
    assert not list(Path("/dev/shm").glob(of_pool))


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
