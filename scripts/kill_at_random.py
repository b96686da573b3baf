"""Kills a run at random moments: all of its processes, a worker, or the main process alone.

After each kill no process may stay behind, and the same command must end with the same files. A
run whose worker is killed continues. Needs Linux.
"""

from __future__ import annotations

import argparse
import difflib
import getpass
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from inject_faults import Faulty, difference, files, import_everything

KINDS = ("group", "worker", "main")
SHARED_MEMORY = Path("/dev/shm")
SECONDS = 10.0
"""Time in which all processes of a killed command must have ended."""


def alive() -> dict[int, int]:
    """Parent of every process that is alive."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if state != "Z":
            found[int(folder.name)] = int(parent)
    return found


def family(process: int) -> set[int]:
    """A process and all processes that it started, at any remove."""
    found, parents = {process}, alive()
    while new := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= new
    return found


def workers(process: int) -> list[int]:
    """The worker processes of a command."""
    return sorted(pid for pid in family(process) if "LokyProcess" in command_of(pid))


def command_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def seconds_until_gone(processes: set[int]) -> float:
    """How long they still live; those that do not end are killed."""
    begun = time.monotonic()
    while left := processes & alive().keys():
        if time.monotonic() - begun > SECONDS:
            for process in left:
                os.kill(process, signal.SIGKILL)
            break
        time.sleep(0.01)
    return time.monotonic() - begun


def kill(command: int, kind: str, moment: float, choose: random.Random) -> float | None:
    """Kills what `kind` says, at a moment; how long others lived on. None: it had ended before."""
    time.sleep(moment)
    while kind == "worker" and command in alive() and not workers(command):
        time.sleep(0.01)
    found = workers(command)
    if command not in alive() or (kind == "worker" and not found):
        return None
    victim = choose.choice(found) if kind == "worker" else command
    processes = family(victim)
    if kind == "group":
        os.killpg(command, signal.SIGKILL)
    else:
        os.kill(victim, signal.SIGKILL)
    return seconds_until_gone(processes - {command})


def changes(one: Path, other: Path) -> str:
    """The lines in which the JSON files of two runs differ."""
    lines = list[str]()
    for path in sorted(one.rglob("*.json")):
        again = other / path.relative_to(one)
        if again.exists():
            before, after = (file.read_text().splitlines() for file in (path, again))
            lines += difflib.unified_diff(before, after, path.name, n=0)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", default="smoke", help="A small one: smoke, smoke_take_cover.")
    parser.add_argument("--times", type=int, default=5, help="Kills of each kind.")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="Only these.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    parser.epilog = "Further arguments of the form --section.field=VALUE go to the pipeline."
    options, fields = parser.parse_known_args()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    temporary = folder / "temporary"
    temporary.mkdir()
    os.environ |= {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy"}
    tempfile.tempdir = None
    known = set(SHARED_MEMORY.iterdir())
    import_everything()
    command = Faulty(folder, config=options.config, fields=fields)
    begun = time.monotonic()
    if complaint := command.command().complaint([0]):
        sys.exit(f"the undisturbed run fails: {complaint}")
    took, expected = time.monotonic() - begun, files(command.run)
    undisturbed = command.run.rename(folder / "undisturbed")
    known.add(temporary / f"torchinductor_{getpass.getuser()}")  # PyTorch's cache
    choose, bad = random.Random(options.seed), 0
    for kind in options.kinds:
        good, longest = 0, 0.0
        for _ in range(options.times):
            lived, complaint = None, None
            while lived is None and complaint is None:  # it ended before the moment of its kill
                shutil.rmtree(command.run, ignore_errors=True)
                child = command.start()
                lived = kill(child, kind, choose.uniform(0, took), choose)
                ends = [0] if lived is None or kind == "worker" else [-signal.SIGKILL]
                complaint = command.end_of(child).complaint(ends)
                if lived is not None and lived > SECONDS:
                    complaint = f"other processes were alive after {SECONDS:g} seconds"
            again = command.command()
            complaint = complaint or again.complaint([0])
            complaint = complaint or difference(files(command.run), expected)
            if complaint:
                complaint += f"\n{again.said}\n{changes(undisturbed, command.run)}"
            good, longest = good + (complaint is None), max(longest, lived or 0.0)
            if complaint:
                print(f"{kind}: {complaint}", flush=True)
        bad += options.times - good
        time.sleep(1.0)  # the workers of a fork end soon after it, and leave their folders
        command.command()  # removes them
        left = {*temporary.iterdir(), *SHARED_MEMORY.iterdir()} - known
        known |= left
        bad += len(left)
        print(
            f"{kind}: {good} of {options.times} kills end with the same files; other processes "
            f"lived {longest:.1f} s longer at most; {len(left)} temporary files left",
            *sorted(left)[:3],
            flush=True,
        )
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes; an undisturbed run takes {took:.0f} s")
    shutil.rmtree(folder)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
