"""Lets each file operation of a two-round run fail in turn, or kills the process there.

After each fault the same command must end with the same files. Needs Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

SOURCE = Path(__file__).with_suffix(".c")
MODES = ("kill", "once", "full", "readonly")
"""The process dies there; this operation alone fails; the disk is full from there on (of a write,
half is done); nothing can be written from there on."""
SECONDS = 600.0
"""A command that takes longer hangs."""
FLAGS = (
    *("--rounds=2",),
    *("--collect.episodes=2", "--collect.max_steps=12"),
    *("--train_vae.steps=3", "--train_mdnrnn.steps=3"),
    *("--evolve.generations=2", "--cma.population_size=4", "--evolve.rollouts_per_candidate=1"),
    *("--evolve.start=previous", "--watch.seconds=0.5", "--watch.films=[dream]"),
)
"""Small, with everything that a run has."""
LOGS = ("metrics.jsonl", "tensorboard", ".lock", "report.html")
"""What holds times of day; they need only be there and be whole."""


@dataclass(frozen=True)
class Point:
    """One file operation of an undisturbed run."""

    number: int
    operation: str
    kind: str
    """read: opens a file to read; grow: needs space; change: any other."""
    path: str

    def meets(self, mode: str) -> bool:
        """Whether the mode does something else here than at a later operation."""
        return mode == "once" or self.kind == "grow" or (mode != "full" and self.kind == "change")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """Its exit code; negative: the signal that killed it."""
    said: str

    def complaint(self, expected: Sequence[int]) -> str | None:
        """What is wrong with it: a traceback, several lines of error, an exit code."""
        errors = [line for line in self.said.splitlines() if line.startswith("error: ")]
        if "Traceback" in self.said or self.code not in expected:
            return f"exit code {self.code}: {self.said[-600:]}"
        if (self.code == 2) != (len(errors) == 1):
            return f"exit code {self.code} and {len(errors)} lines of error: {self.said[-500:]}"
        return None


def without(flags: Sequence[str], fields: Sequence[str]) -> list[str]:
    """The flags of fields that the user does not set."""
    given = {field.partition("=")[0] for field in fields}
    return [flag for flag in flags if flag.partition("=")[0] not in given]


class Faulty:
    """Runs commands in forks of this process, which has imported everything, with faults."""

    def __init__(
        self,
        folder: Path,
        library: Path | None = None,
        config: str = "smoke",
        fields: Sequence[str] = (),
    ) -> None:
        self.folder, self.library, self.config, self.fields = folder, library, config, fields
        self.run, self.output = folder / "run", folder / "output"
        self.processes = 1 if library else 2  # a fault is counted in one process

    def words(self, run: Path) -> list[str]:
        """The command line of a run."""
        workers = f"--workers.processes={self.processes}"
        words = ["pipeline", "--config", self.config, "--run", str(run), workers]
        return [*words, *without(FLAGS, self.fields), *self.fields]

    def command(self, at: int = 0, mode: int = 0, log: Path | None = None) -> Outcome:
        """`worldmodels pipeline` on the run, with a fault at an operation."""
        return self.end_of(self.start(at, mode, log))

    def start(self, at: int = 0, mode: int = 0, log: Path | None = None) -> int:
        """Starts the command as the leader of a group; its process id."""
        child = os.fork()
        if not child:
            self._child(at, mode, log)
        return child

    def end_of(self, child: int) -> Outcome:
        """Waits for a command."""
        end = time.monotonic() + SECONDS
        while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.01)
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return Outcome(os.waitstatus_to_exitcode(status), self.output.read_text())

    def _child(self, at: int, mode: int, log: Path | None) -> NoReturn:
        from worldmodels.calls import end_notes
        from worldmodels.cli import main
        from worldmodels.stages import fit

        os.setsid()  # a fault may kill the whole group
        output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        fit.CHECKPOINT_SECONDS = 0.0
        code = 1
        try:
            if self.library:
                path, number = os.fsencode(log) if log else None, ctypes.c_long(at)
                ctypes.CDLL(str(self.library)).faults_arm(os.fsencode(self.run), number, mode, path)
            main(self.words(self.run))
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            end_notes()  # os._exit calls nothing that is registered
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def points(self) -> list[Point]:
        """The file operations of an undisturbed run, which stays for comparison."""
        log = self.folder / "operations"
        outcome = self.command(log=log)
        if complaint := outcome.complaint([0]):
            sys.exit(f"the undisturbed run fails: {complaint}")
        rows = (line.split("\t") for line in log.read_text().splitlines())
        return [Point(int(n), name, kind, path) for n, name, kind, path in rows]

    def warm_up(self) -> None:
        """Measures, films and reports a copy of the run here, so that forks find all of it loaded.

        Trap: torch cannot train in a fork of a process that has trained.
        """
        from worldmodels.cli import main

        copy = self.folder / "copy"
        shutil.copytree(self.run, copy)
        for name in ("evaluation.json", "report.html", "videos/dream.webm"):
            (copy / name).unlink()
        with contextlib.redirect_stdout(io.StringIO()):
            main(self.words(copy))

    def problem(self, point: Point, mode: str, expected: dict[str, str]) -> str | None:
        """Meets one fault, then runs the same command again; says what went wrong."""
        shutil.rmtree(self.run, ignore_errors=True)
        first = self.command(point.number, 1 + MODES.index(mode))
        codes = [-signal.SIGKILL] if mode == "kill" else [0, 2]
        if complaint := first.complaint(codes):
            return f"after the fault: {complaint}"
        found = files(self.run)
        if mode == "readonly":
            found.pop(".lock.owner", None)  # it could not be removed
        if first.code == 0 and (complaint := difference(found, expected)):
            return f"ends well in spite of the fault, but {complaint}: {first.said[-500:]}"
        if complaint := self.command().complaint([0]):
            return f"the same command again: {complaint}"
        if complaint := difference(files(self.run), expected):
            return f"the same command again: {complaint}"
        return None


def files(run: Path) -> dict[str, str]:
    """Names and hashes of a run's files; of those that hold times of day, the names."""
    from worldmodels.errors import InputError
    from worldmodels.files import load_json
    from worldmodels.film import middle_of
    from worldmodels.run import Metrics, Run

    found = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name, data = str(path.relative_to(run)), path.read_bytes()
        if path.name == "metrics.jsonl":
            Metrics.lines(Run(path.parent))  # all whole
        if path.name == "evaluation.json":
            report = load_json(path)
            data = repr({key: report[key] for key in report if key != "seconds"}).encode()
        if path.suffix == ".webm":
            with contextlib.suppress(InputError):  # a broken film is compared by its bytes
                data = middle_of(path).tobytes()  # the bytes of a whole one hold a random number
        if set(path.relative_to(run).parts) & set(LOGS):
            name, data = ("tensorboard" if "tensorboard" in name else name), b""
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def difference(found: dict[str, str], expected: dict[str, str]) -> str | None:
    """Which files are missing, too many or others."""
    names = {
        "missing": sorted(expected.keys() - found.keys()),
        "left over": sorted(found.keys() - expected.keys()),
        "others": sorted(name for name in found if expected.get(name, found[name]) != found[name]),
    }
    parts = [f"{what}: {', '.join(some)}" for what, some in names.items() if some]
    return "; ".join(parts) or None


def compiled(folder: Path) -> Path:
    """The library of faults."""
    library = folder / "faults.so"
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        sys.exit(f"error: no C compiler {compiler}: install one, or name it with CC=")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


def chosen(
    points: Sequence[Point], modes: Sequence[str], kinds: bool, every: int
) -> list[tuple[Point, str]]:
    """Each `every`-th fault of each mode, in the order of the operations."""
    found = list[tuple[Point, str]]()
    for mode in modes:
        faults = [point for point in points if point.meets(mode)]
        if kinds:
            first: dict[tuple[str, ...], Point] = {}
            for point in faults:
                name = re.sub(r"[0-9]+", "#", point.path)
                first.setdefault((point.operation, point.kind, name), point)
            faults = list(first.values())
        found += [(point, mode) for point in faults[every // 2 :: every]]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    text = "One of each kind: of the faults that differ by the numbers in a file's name alone."
    parser.add_argument("--kinds", action="store_true", help=text)
    parser.add_argument("--every", type=int, default=1, help="Only each N-th of a mode.")
    parser.add_argument("--first", type=int, default=0, help="Only from this operation on.")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="Only these.")
    parser.add_argument("--library", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.library.parent if options.library else Path(tempfile.mkdtemp(prefix="faults-"))
    if not options.library:  # once more, with the library before all others
        library = compiled(folder)
        environment = os.environ | {
            "LD_PRELOAD": str(library),
            "OMP_NUM_THREADS": "1",
            "SDL_VIDEODRIVER": "dummy",
        }
        words = [sys.executable, __file__, *sys.argv[1:], "--library", str(library)]
        os.execve(sys.executable, words, environment)
    try:
        return inject(Faulty(folder, options.library), options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def inject(faulty: Faulty, options: argparse.Namespace) -> int:
    """Meets the faults one after the other; 1: there were problems."""
    import_everything()
    begun, points = time.monotonic(), faulty.points()
    expected = files(faulty.run)
    faulty.warm_up()
    faults = chosen(points, options.modes, options.kinds, options.every)
    faults = [(point, mode) for point, mode in faults if point.number >= options.first]
    print(f"{len(points)} file operations, {len(expected)} files, {len(faults)} faults", flush=True)
    done, bad = collections.Counter[str](), collections.Counter[str]()
    for count, (point, mode) in enumerate(faults):
        if count % 50 == 49:
            print(f"{count + 1} faults", flush=True)
        problem = faulty.problem(point, mode, expected)
        done[mode] += 1
        if problem:
            bad[mode] += 1
            where = os.path.relpath(point.path, faulty.run)
            print(f"{mode} at {point.number}, {point.operation} {where}: {problem}", flush=True)
    for mode in options.modes:
        print(f"{mode}: {done[mode] - bad[mode]} of {done[mode]} faults end with the same files")
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes")
    return int(bool(bad))


def import_everything() -> None:
    """Imports what the pipeline imports, so that forks begin at once; reports get no figures."""
    import cma  # noqa: F401
    import cv2
    import matplotlib.figure  # noqa: F401
    import torch._dynamo
    import torch.utils.tensorboard  # noqa: F401
    import tqdm

    import worldmodels.config
    import worldmodels.pipeline
    import worldmodels.report.parts

    vars(worldmodels.report.parts)["svg_of"] = lambda *_: "<svg/>"  # drawing uses no run file
    tqdm.tqdm.monitor_interval = 0  # no thread: forks hang with one
    cv2.setNumThreads(1)  # forks hang where they set it themselves


if __name__ == "__main__":
    sys.exit(main())
