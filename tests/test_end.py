"""Every child process ends with the command that started it, with Doom running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldmodels.temporary import PREFIX, SETTLED

ROOT = Path(__file__).resolve().parents[1]
LONG = ["--collect.episodes=10000", "--collect.max_steps=500", "--workers.processes=2"]


def parents():
    """Parent of every process that is alive."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            found[int(folder.name)] = int(parent)
    return found


def descendants(process):
    found, parent_of = {process}, parents()
    while new := {pid for pid, parent in parent_of.items() if parent in found} - found:
        found |= new
    return found - {process}


def is_engine(pid):
    try:
        return "viz_instance_id" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


@pytest.fixture
def collecting(tmp_path):
    """A command with two workers, each of which runs engines."""
    (tmp_path / "temporary").mkdir()
    flags = ["--config", ROOT / "configs/smoke_take_cover.yaml", "--run", tmp_path / "run", *LONG]
    command = subprocess.Popen(
        [sys.executable, ROOT / "scripts/collect.py", *flags],
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's & ignores it
    )
    wait_for(lambda: sum(map(is_engine, descendants(command.pid))) >= 4, 60)
    yield command
    if command.poll() is None:
        command.kill()
    command.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_engines_end_with_their_worker(collecting):
    """Another worker takes its place."""

    def workers():
        found = parents()
        engines = filter(is_engine, descendants(collecting.pid))
        return {found[pid] for pid in engines if pid in found}  # some have begun since

    first = workers()
    worker = min(first)
    engines = {pid for pid in descendants(worker) if is_engine(pid)}
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not engines & parents().keys(), 10)
    wait_for(lambda: workers() - first, 60)
    assert collecting.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("sent", [[signal.SIGKILL], [signal.SIGINT], [signal.SIGINT] * 2])
def test_children_end_with_the_command(collecting, tmp_path, sent):
    children = descendants(collecting.pid)
    for one in sent:
        collecting.send_signal(one)
        time.sleep(0.2)  # a second Ctrl-C finds the first one at work
    wait_for(lambda: not children & parents().keys(), 10)  # a second or two on a free machine
    collecting.wait(timeout=1)
    if signal.SIGINT in sent:
        expected = {130} if len(sent) == 1 else {130, -signal.SIGINT}  # a second ends it at once
        assert collecting.returncode in expected
        said, line = collecting.stderr.read(), b"stopped: the same command continues\n"
        # after a second one, the libraries' own processes may add a warning
        assert said.startswith(line) if len(sent) > 1 else said == line
    left = list((tmp_path / "temporary").glob(f"{PREFIX}doom-*"))
    files = [path / "arguments" for path in left if (path / "arguments").exists()]
    words = [word for file in files for word in file.read_text().split()]
    engines = [words[i + 1] for i, word in enumerate(words) if word == "+viz_instance_id"]
    assert len(engines) >= 4
    code = (
        "from worldmodels.envs.take_cover import make_doom; "
        "make_doom('VizdoomTakeCover-v1').close()"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not any(file.parent.exists() for file in files)
    if any(path.exists() for path in left):  # killed while the game started
        time.sleep(SETTLED + 1)
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not any(path.exists() for path in left)
    shared = os.listdir("/dev/shm")
    assert not any(name.endswith(engine) for name in shared for engine in engines)
