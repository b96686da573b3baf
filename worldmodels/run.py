"""The run folder: its paths, metrics and progress."""

import json
import os
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from worldmodels.errors import InputError
from worldmodels.files import Name, append_line, plain

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

Item = TypeVar("Item")


class Run:
    """Names of everything inside one run folder; making one touches no disk."""

    def __init__(self, folder: Name) -> None:
        self.folder = Path(folder)
        self.config_file = self.folder / "config.yaml"
        self.world_file = self.folder / "world.json"
        self.metrics = self.folder / "metrics.jsonl"
        self.tensorboard = self.folder / "tensorboard"
        self.episodes = self.folder / "episodes"
        self.latents = self.folder / "latents"
        self.starts = self.folder / "starts.safetensors"  # where a bundle was unpacked
        self.vae = self.folder / "vae"
        self.mdnrnn = self.folder / "mdnrnn"
        self.controller = self.folder / "controller"
        self.bundle = self.folder / "bundle"
        self.videos = self.folder / "videos"
        self.evaluation_file = self.folder / "evaluation.json"

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    def round(self, index: int) -> "Run":
        """The run of one round of collecting, training and dreaming."""
        return Run(self.folder / "rounds" / f"{index:02d}")

    @property
    def number(self) -> int:
        """Which round this is; 0 where the run has only one."""
        return int(self.folder.name) if self.folder.parent.name == "rounds" else 0

    @property
    def earlier(self) -> "list[Run]":
        """The rounds before this one, oldest first."""
        return [Run(self.folder.parent / f"{index:02d}") for index in range(self.number)]

    def need(self, path: Name, command: str) -> Path:
        """The path; if it is missing, an InputError names the command that makes it."""
        path = Path(path)
        if not path.exists():
            raise InputError(f"{path} is missing: run `{command}` first")
        return path


class Metrics:
    """Numbers of one stage, to the run's metrics.jsonl and TensorBoard.

    Leaving the block adds a line with the stage's active seconds, cores and threads;
    published times are the sum of these.
    """

    def __init__(self, run: Run, stage: str) -> None:
        self.run, self.stage = run, stage
        self.started = time.perf_counter()
        self.writer: SummaryWriter | None = None

    def __enter__(self) -> "Metrics":
        self.started = time.perf_counter()
        return self

    @staticmethod
    def lines(run: Run) -> list[dict[str, Any]]:
        """All that was recorded of a run; half a last line, left by a crash, is skipped.

        Raises:
            InputError: a line is broken.
        """
        if not run.metrics.exists():
            return []
        *whole, rest = run.metrics.read_text(encoding="utf-8", errors="replace").split("\n")
        if rest:
            say(f"{run.metrics}: the last line is not whole and is skipped")
        return [_parsed(run.metrics, number, line) for number, line in enumerate(whole, 1)]

    @staticmethod
    def ends(run: Run) -> list[dict[str, Any]]:
        """The lines with which the run's stages ended: active seconds, cores, threads."""
        return [line for line in Metrics.lines(run) if line.get("event") == "end"]

    @staticmethod
    def spent(runs: "Iterable[Run]") -> dict[str, float]:
        """Active seconds by stage, over all runs and restarts; looking at a run makes none."""
        found: dict[str, float] = {}
        for line in (line for run in runs for line in Metrics.ends(run)):
            if line["stage"] != "inspect_dream":
                found[line["stage"]] = found.get(line["stage"], 0.0) + line["seconds"]
        return found

    @property
    def seconds(self) -> float:
        """Active seconds since the block was entered."""
        return time.perf_counter() - self.started

    def log(self, step: int, **numbers: Any) -> None:
        """Record numbers of one step (batch, generation, episode)."""
        found = plain(numbers)
        self._append({"stage": self.stage, "step": step, **found})
        self.writer = self.writer or _summary_writer(self.run.tensorboard)
        for name, number in found.items():
            if isinstance(number, (int, float)):
                self.writer.add_scalar(f"{self.stage}/{name}", number, step)

    def check(self, name: str, value: float, low: float, high: float, advice: str) -> bool:
        """A sanity band: one line on what looks wrong and what to try, if `value` leaves it."""
        good = low <= value <= high
        self._append({"stage": self.stage, "check": name, "value": plain(value), "good": good})
        if not good:
            bound = f"below {low:g}" if value < low else f"above {high:g}"
            say(f"looks wrong: {name} is {value:.4g}, {bound}: {advice}")
        return good

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        import torch

        end = {"stage": self.stage, "event": "end", "seconds": round(self.seconds, 3)}
        stopped = {} if kind is None else {"stopped_by": kind.__name__}
        self._append({**end, "cores": cores(), "threads": torch.get_num_threads(), **stopped})
        if self.writer is not None:
            self.writer.close()

    def _append(self, line: dict[str, object]) -> None:
        append_line(self.run.metrics, json.dumps(line, ensure_ascii=False, allow_nan=False))


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: line {number} is not a JSON object: delete that line") from error


def say(line: str) -> None:
    """One line for the person at the terminal, clear of any bar."""
    from tqdm import tqdm

    tqdm.write(line)
    sys.stdout.flush()


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def progress(items: Iterable[Item] | int, label: str = "", **options: Any) -> "tqdm[Item]":
    """Progress bar with rate and time left on a terminal's stderr, silent elsewhere.

    A number of items makes a bar to be moved by `.update(n)`; `options` are tqdm's.
    """
    from tqdm import tqdm

    target = {"total": items} if isinstance(items, int) else {"iterable": items}
    settings = {"desc": label or None, "disable": None, "dynamic_ncols": True, **target, **options}
    return tqdm(**settings)


def _summary_writer(folder: Path) -> "SummaryWriter":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter(str(folder))
