"""The run folder: its paths, its lock, its metrics; progress bars and messages."""

import contextlib
import json
import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from worldmodels.errors import InputError
from worldmodels.files import (
    Name,
    append_line,
    plain,
    remove_leftovers,
    require_regular,
    save_text,
)
from worldmodels.schema import checked
from worldmodels.temporary import remove_left_behind

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

Item = TypeVar("Item")


AFTERWARDS = "evaluate", "watch"
"""Stages that measure and show an agent that is made; they may run again at any time."""
OWNER = ".lock.owner"
"""Says which process has the lock of a run; only the lock itself counts."""
_locks: dict[Path, FileLock] = {}  # one object per folder, so that locks can be nested


class Run:
    """The paths inside one run folder. Making a Run reads and writes nothing."""

    def __init__(self, folder: Name) -> None:
        self.folder = Path(folder)
        self.config_file = self.folder / "config.yaml"
        self.world_file = self.folder / "world.json"
        self.metrics = self.folder / "metrics.jsonl"
        self.tensorboard = self.folder / "tensorboard"
        self.episodes = self.folder / "episodes"
        self.latents = self.folder / "latents"
        self.starts = self.folder / "starts.safetensors"  # only of an unpacked bundle
        self.vae = self.folder / "vae"
        self.mdnrnn = self.folder / "mdnrnn"
        self.controller = self.folder / "controller"
        self.bundle = self.folder / "bundle"
        self.videos = self.folder / "videos"
        self.evaluation_file = self.folder / "evaluation.json"

    @property
    def top_files(self) -> "list[Path]":
        """The files at the top level that may be there, but for config.yaml."""
        names = "report.html", "first_frame.png", "selection.json", "data.json", "results.json"
        own = self.world_file, self.metrics, self.starts, self.evaluation_file, self.best_round_file
        return [*own, *(self.folder / name for name in names)]

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    def round(self, index: int) -> "Run":
        """The folder of one round, which has the same parts as a run."""
        return Run(self.folder / "rounds" / f"{index:02d}")

    @property
    def number(self) -> int:
        """The index of the round; 0 where the run has only one."""
        return int(self.folder.name) if self.folder.parent.name == "rounds" else 0

    @property
    def best_round_file(self) -> Path:
        """Names the round whose files a run of several rounds holds at its top level."""
        return self.folder / "best_round.txt"

    @property
    def holds(self) -> int:
        """The index of the round whose V, M and C are here: of several, the best.

        Raises:
            InputError: best_round.txt is damaged.
        """
        file = self.best_round_file
        if not file.exists():
            return self.number
        text = file.read_text(encoding="utf-8", errors="replace").strip()
        if not re.fullmatch("[0-9]{1,3}", text):
            raise InputError(
                f"{file} names no round: delete it and run `worldmodels pipeline` again"
            )
        return int(text)

    @property
    def earlier(self) -> "list[Run]":
        """The rounds before this one, oldest first."""
        return [Run(self.folder.parent / f"{index:02d}") for index in range(self.number)]

    @property
    def top(self) -> "Run":
        """The run that this is a round of, or this one."""
        return Run(self.folder.parent.parent) if self.folder.parent.name == "rounds" else self

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lets no other process write into the run, or any of its rounds, during the block.

        Blocks of one process may be nested. Reading needs no lock. The system gives up the lock
        when the process dies, however it dies. Temporary files and folders of dead processes are
        removed.

        Raises:
            InputError: another process has the lock.
        """
        folder = self.top.folder.resolve()
        lock = _locks.setdefault(folder, FileLock(folder / ".lock", thread_local=False))
        nested = lock.is_locked
        with contextlib.ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock.acquire(blocking=False))
            except Timeout:
                raise InputError(_in_use(folder)) from None
            except (OSError, NotImplementedError) as error:  # such as some network disks
                say(f"{folder} cannot be locked ({error}): let no other command write there")
            if not nested:
                owner = folder / OWNER
                save_text(owner, f"process {os.getpid()} on {platform.node()}")
                stack.callback(_forget, owner)
                remove_leftovers(folder)
                remove_left_behind()
            yield

    def need(self, path: Name, command: str) -> Path:
        """The path, if it exists.

        Raises:
            InputError: it does not; names the command that makes it.
        """
        path = Path(path)
        if not path.exists():
            raise InputError(f"{path} is missing: run `{command}` first")
        return path


class Metrics:
    """Records a stage's numbers in the run's metrics.jsonl and in TensorBoard.

    The block holds the lock of the run. Leaving it adds a line with the stage's active seconds,
    cores, threads and command; published times are the sum of these.
    """

    def __init__(self, run: Run, stage: str) -> None:
        self.run, self.stage, self.lock = run, stage, run.lock()
        self.started = time.perf_counter()
        self.writer: SummaryWriter | None = None

    def __enter__(self) -> "Metrics":
        self.lock.__enter__()
        self.started = time.perf_counter()
        return self

    @staticmethod
    def lines(run: Run) -> list[dict[str, Any]]:
        """All lines of a run; an incomplete last line, left by a crash, is skipped.

        Raises:
            InputError: a line is broken.
        """
        if not run.metrics.exists():
            return []
        require_regular(run.metrics)
        *whole, rest = run.metrics.read_text(encoding="utf-8", errors="replace").split("\n")
        if rest:
            say(f"{run.metrics}: the last line is incomplete and is skipped")
        return [_parsed(run.metrics, number, line) for number, line in enumerate(whole, 1)]

    @staticmethod
    def ends(run: Run) -> list[dict[str, Any]]:
        """The lines that end stages: active seconds, cores, threads."""
        return [line for line in Metrics.lines(run) if line.get("event") == "end"]

    @staticmethod
    def spent(runs: "Iterable[Run]") -> dict[str, float]:
        """Active seconds by stage, over all runs and restarts, without those of inspect_dream."""
        found: dict[str, float] = {}
        for line in (line for run in runs for line in Metrics.ends(run)):
            if line["stage"] != "inspect_dream":
                found[line["stage"]] = found.get(line["stage"], 0.0) + line["seconds"]
        return found

    @staticmethod
    def making(runs: "Iterable[Run]") -> float:
        """Active seconds of the stages that made the agent, without those that play it after."""
        spent = Metrics.spent(runs)
        return sum((spent[stage] for stage in spent if stage not in AFTERWARDS), 0.0)

    @property
    def seconds(self) -> float:
        """Active seconds since the block was entered."""
        return time.perf_counter() - self.started

    def log(self, step: int, curve: str = "", /, **numbers: Any) -> None:
        """Records numbers of one step (batch, generation or episode).

        TensorBoard joins points in the order of their lines: what is logged side by side needs
        curves of its own, whose names end with `curve`.
        """
        found = plain(numbers)
        self._append({"stage": self.stage, "step": step, **found})
        self.writer = self.writer or _summary_writer(self.run.tensorboard)
        for name, number in found.items():
            if isinstance(number, (int, float)):
                self.writer.add_scalar(f"{self.stage}/{name}{curve}", number, step)

    def picture(self, name: str, step: int, picture: np.ndarray | Path) -> None:
        """Shows an RGB picture (height, width, 3), or that of a file, in TensorBoard."""
        if isinstance(picture, Path):
            from PIL import Image

            with Image.open(picture) as file:
                picture = np.asarray(file.convert("RGB"))
        self.writer = self.writer or _summary_writer(self.run.tensorboard)
        self.writer.add_image(f"{self.stage}/{name}", picture, step, dataformats="HWC")

    def check(
        self,
        name: str,
        value: float,
        low: float,
        high: float,
        advice: str | tuple[str, str],
        *,
        above: bool = False,
    ) -> bool:
        """Compares a result with its expected band.

        A value outside prints one line that says what looks wrong and what to try.

        Args:
            name: of the result.
            value: the result.
            low: the least that is expected.
            high: the most.
            advice: what to try; two, if it depends on whether the value is too low or too high.
            above: `low` itself is not expected.

        Returns:
            Whether the value lies inside.
        """
        good = low <= value <= high and not (above and value == low)
        self._append({"stage": self.stage, "check": name, "value": plain(value), "good": good})
        if not good:
            under = f"not above {low:g}" if above else f"below {low:g}"
            too_low = value <= low if above else value < low
            bound = under if too_low else f"above {high:g}"
            fix = advice if isinstance(advice, str) else advice[not too_low]
            say(f"looks wrong: {name} is {value:.4g}, {bound}: {fix}")
        return good

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self._end(kind)
        finally:
            self.lock.__exit__(None, None, None)

    def _end(self, kind: type[BaseException] | None) -> None:
        import torch

        end = {"stage": self.stage, "event": "end", "seconds": round(self.seconds, 3)}
        stopped = {} if kind is None else {"stopped_by": kind.__name__}
        made = {"cores": cores(), "threads": torch.get_num_threads(), "command": command()}
        self._append({**end, **made, **stopped})
        if self.writer is not None:
            self.writer.close()

    def _append(self, line: dict[str, object]) -> None:
        append_line(self.run.metrics, json.dumps(line, ensure_ascii=False, allow_nan=False))


def _forget(owner: Path) -> None:
    with contextlib.suppress(OSError):  # the lock is given up all the same
        owner.unlink(missing_ok=True)


def _in_use(folder: Path) -> str:
    try:
        owner = (folder / OWNER).read_text()
    except OSError:  # it has just started, or just ended
        owner = "another process"
    return f"{folder} is in use by {owner}: wait until it ends, or stop it and try again"


class _Line(TypedDict):
    """What a line of metrics.jsonl has beside the numbers of a step."""

    stage: str
    step: NotRequired[int]


class _End(TypedDict):
    """The line that ends a stage."""

    stage: str
    seconds: float
    cores: int
    command: NotRequired[str]


class _Check(TypedDict):
    """The line of a sanity check."""

    stage: str
    check: str
    value: float | None
    good: bool


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
        known = data if isinstance(data, dict) else {}
        checked(_End if "event" in known else _Check if "check" in known else _Line, data)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: line {number} is not one of ours ({reason}): delete that line"
        ) from error
    return data


def say(line: str) -> None:
    """Prints one line without breaking a progress bar."""
    from tqdm import tqdm

    tqdm.write(line)
    sys.stdout.flush()


def cores() -> int:
    """Number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def command() -> str:
    """The command line of this process."""
    return " ".join(sys.argv)


def progress(items: Iterable[Item] | int, label: str = "", **options: Any) -> "tqdm[Item]":
    """A progress bar with rate and time left; prints nothing where stderr is not a terminal.

    Args:
        items: to iterate over, or their number for a bar that is moved by `.update(n)`.
        label: stands before the bar.
        options: those of tqdm.
    """
    from tqdm import tqdm

    target = {"total": items} if isinstance(items, int) else {"iterable": items}
    settings = {"desc": label or None, "disable": None, "dynamic_ncols": True, **target, **options}
    return tqdm(**settings)


def _summary_writer(folder: Path) -> "SummaryWriter":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard import SummaryWriter
    # its thread writes while a game starts in a folder of its own
    return SummaryWriter(str(folder.resolve()))
