"""The run folder: its paths, atomic and byte-stable files, metrics and progress."""

import contextlib
import hashlib
import json
import os
import sys
import time
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from worldmodels.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

Item = TypeVar("Item")
Name = str | os.PathLike[str]
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
FAST = 1
"""zlib's level: frames shrink nearly as much as at 6, four times faster."""


@contextlib.contextmanager
def replacing(path: Name) -> Iterator[Path]:
    """Temporary file beside `path` that takes its place when the block succeeds.

    A reader sees the old file or the whole new one, never half of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_text(path: Name, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_json(path: Name, data: object) -> None:
    """Write JSON atomically; NaN becomes null, as JSON has none."""
    text = json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    save_text(path, text + "\n")


def load_json(path: Name) -> Any:
    """Read JSON; an InputError names a file that is missing or broken."""
    with _reading(path, "JSON"):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def save_tensors(
    path: Name, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically; equal tensors and metadata give equal bytes."""
    from safetensors.torch import save

    # one entry: safetensors writes several in random order
    packed = {"worldmodels": json.dumps(dict(metadata or {}), sort_keys=True)}
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:  # safetensors' own save_file hides files from other users
        temporary.write_bytes(save(contiguous, metadata=packed))


def load_tensors(path: Name) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Read a safetensors file and its metadata; an InputError names one missing or broken."""
    from safetensors import safe_open

    with _reading(path, "safetensors"), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads((file.metadata() or {}).get("worldmodels", "{}"))


def save_arrays(path: Name, **arrays: Any) -> None:
    """Write a compressed npz atomically; equal arrays give equal bytes.

    Differs: `np.savez_compressed` stamps the members with the time of day; these have none.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            # the only name that all Pythons know
            member._compresslevel = FAST  # type: ignore[attr-defined]
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def load_arrays(path: Name, command: str = "scripts/collect.py") -> dict[str, np.ndarray]:
    """Read an npz file, without pickle; an InputError names one missing or broken."""
    fix = f"delete it and run `{command}` again"
    # opened here: np.load leaves a broken file open, and advises pickle for a foreign one
    with _reading(path, "npz", fix), open(path, "rb") as file:
        with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def file_hash(path: Name) -> str:
    """sha256 of a file's bytes, in hex."""
    return files_hash([path])


def files_hash(paths: Iterable[Name]) -> str:
    """sha256 of the files' bytes one after the other, in the given order, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with _reading(path, "file"):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()


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
    def ends(run: Run) -> list[dict[str, Any]]:
        """The lines with which the run's stages ended: active seconds, cores, threads."""
        if not run.metrics.exists():
            return []
        lines = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line.get("event") == "end"]

    @property
    def seconds(self) -> float:
        """Active seconds since the block was entered."""
        return time.perf_counter() - self.started

    def log(self, step: int, **numbers: Any) -> None:
        """Record numbers of one step (batch, generation, episode)."""
        plain = _plain(numbers)
        self._append({"stage": self.stage, "step": step, **plain})
        self.writer = self.writer or _summary_writer(self.run.tensorboard)
        for name, number in plain.items():
            if isinstance(number, (int, float)):
                self.writer.add_scalar(f"{self.stage}/{name}", number, step)

    def check(self, name: str, value: float, low: float, high: float, advice: str) -> bool:
        """A sanity band: one line on what looks wrong and what to try, if `value` leaves it."""
        good = low <= value <= high
        self._append({"stage": self.stage, "check": name, "value": _plain(value), "good": good})
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
        self.run.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
        # one unbuffered write: lines of several processes don't mix
        with open(self.run.metrics, "ab", buffering=0) as file:
            file.write(text.encode())


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


def _plain(data: Any) -> Any:
    """Data with JSON's types only: arrays and paths unwrapped, NaN and infinities as None."""
    if isinstance(data, Mapping):
        return {str(name): _plain(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if hasattr(data, "tolist"):
        return _plain(data.tolist())
    if isinstance(data, Path):
        return data.as_posix()
    if isinstance(data, float) and not np.isfinite(data):
        return None
    return data


@contextlib.contextmanager
def _reading(
    path: Name, kind: str, fix: str = "delete it and run its stage again"
) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing: check the name, or run the stage that makes it first"
        ) from None
    # foreign bytes make the readers raise nearly anything: zlib, struct, syntax, attribute errors
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is truncated or no {kind} ({reason}): {fix}") from error
