"""Readers of episodes that others recorded: one function for each format.

Each yields one episode at a time, as it is in its file; `checked` raises a one-line error for an
invalid one. Reading executes nothing that a file names.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Bool, Float32

from worldmodels.errors import InputError, install
from worldmodels.world import RENDER

VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm")
HDF5 = (".hdf5", ".h5", ".hdf")
KEYS = ("frames", "actions", "rewards", "terminated", "truncated", "fps")
"""The arrays of an npz episode; frames and actions are needed."""
FPS = 30.0
"""Frames a second, where the data does not say."""
SMALLEST = 16
"""Arrays with shorter sides are no pictures."""


@dataclass(frozen=True)
class Replay:
    """What plays an episode again whose observations are no pictures, and checks it."""

    seed: int | None
    """Of the reset; None: the data does not say."""
    actions: Any
    observations: Any
    """Arrays (T + 1, ...), or dictionaries and tuples of such."""


@dataclass(frozen=True)
class Record:
    """An episode as its file holds it; nothing is checked yet."""

    where: str
    """The file, and the episode's place in it."""
    frames: Callable[[], Iterable[Any]]
    """Reads the pictures, one after the other: one for each action, and perhaps a last one."""
    actions: Any
    rewards: Any = None
    terminated: Any = None
    """One boolean for each step, or one for the last."""
    truncated: Any = None
    replay: Replay | None = None
    """Set where there are no pictures."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the format calls these parts, where it has other names."""

    def named(self, part: str) -> str:
        """File, place and key of a part."""
        return f"{self.where}: {self.names.get(part, part)}"


@dataclass(frozen=True)
class Source:
    """Recordings of one format."""

    kind: str
    records: Callable[[], Iterator[Record]]
    """Reads them from the first on; the frames only when they are asked for."""
    space: gymnasium.Space[Any] | None = None
    """The action space, where the format states it."""
    fps: float = FPS
    played: Mapping[str, Any] | None = None
    """The environment that was recorded, as fields of the `env` section."""


@dataclass(frozen=True)
class Steps:
    """The checked steps of a record."""

    actions: np.ndarray
    """(T,) or (T, A), finite numbers."""
    rewards: Float32[np.ndarray, " T"]
    terminated: Bool[np.ndarray, " T"]
    truncated: Bool[np.ndarray, " T"]


def open_source(name: str | Path, screen: str | None = None) -> Source:
    """The recordings of a file, of a folder, or of a local Minari data set.

    Args:
        name: a folder of npz files, of videos with CSV files, or of a Minari data set; an HDF5
            file in robomimic's layout; or a Minari data set's name.
        screen: key of the pictures, where the format has several.

    Raises:
        InputError: it is none of these, or the format's library is missing.
    """
    path = Path(name)
    if path.is_file() and path.suffix.lower() in HDF5:
        return hdf5_source(path, screen)
    if path.is_dir():
        for folder in (path, path / "data"):
            if (folder / "metadata.json").is_file():
                return minari_source(folder, screen)
        if files := sorted(path.glob("*.npz")):
            return Source("npz", lambda: npz_records(files), fps=_npz_fps(files[0]))
        if files := sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEOS):
            return Source("videos", lambda: video_records(files), fps=_video_fps(files[0]))
        raise InputError(
            f"{path} holds neither npz files, nor videos ({', '.join(VIDEOS)}), nor a Minari data "
            "set: name the folder that does"
        )
    if path.exists():
        raise InputError(f"{path} is no HDF5 file ({', '.join(HDF5)}) and no folder: name one")
    return minari_source(_local_minari(str(name)), screen)


def checked(record: Record) -> Steps:
    """Checks all of a record but its frames.

    Raises:
        InputError: names the file and the key that is wrong.
    """
    actions = _numbers(record, "actions")
    if actions.ndim not in (1, 2) or not actions.size:
        raise InputError(
            f"{record.named('actions')} has shape {actions.shape}: (steps,) or (steps, parts) is "
            "needed, at least one step"
        )
    steps = len(actions)
    rewards = np.zeros(steps) if record.rewards is None else _numbers(record, "rewards")
    if rewards.shape != (steps,):
        raise InputError(
            f"{record.named('rewards')} has shape {rewards.shape}, but there are {steps} actions: "
            f"({steps},) is needed"
        )
    flags = (_flags(record, part, steps) for part in ("terminated", "truncated"))
    terminated, truncated = flags
    if not terminated[-1]:
        truncated[-1] = True  # the recording ends here, whatever follows
    return Steps(actions, rewards.astype(np.float32), terminated & ~truncated, truncated)


def _numbers(record: Record, part: str) -> np.ndarray:
    values = np.asarray(getattr(record, part))
    if values.dtype.kind not in "biuf":
        raise InputError(f"{record.named(part)} has dtype {values.dtype}: numbers are needed")
    if not (finite := np.isfinite(values)).all():
        step = int(np.argwhere(~finite)[0][0])
        raise InputError(f"{record.named(part)} is {values[step]} at step {step}: fix or remove it")
    with np.errstate(over="ignore"):
        if values.dtype.kind == "f" and not np.isfinite(values.astype(np.float32)).all():
            raise InputError(f"{record.named(part)} does not fit float32: scale it")
    return values


def _flags(record: Record, part: str, steps: int) -> Bool[np.ndarray, " T"]:
    """The flags of an episode, of which only the last one may be set."""
    flags = np.zeros(steps, bool)
    if getattr(record, part) is None:
        return flags
    values = _numbers(record, part)
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"{record.named(part)} holds other numbers than 0 and 1: it is a flag")
    if values.ndim == 0:
        flags[-1] = bool(values)
        return flags
    if values.shape != (steps,):
        raise InputError(
            f"{record.named(part)} has shape {values.shape}, but there are {steps} actions: "
            f"({steps},) or a single flag is needed"
        )
    if values[:-1].any():
        raise InputError(
            f"{record.named(part)} is set at step {int(values.argmax())} of {steps}, before the "
            "last: cut the recording into one episode each"
        )
    return values.astype(bool)


def npz_records(files: Iterable[Path]) -> Iterator[Record]:
    """One npz file for each episode, with the arrays of KEYS."""
    for path in files:
        with _npz(path) as arrays:
            names = set(arrays.files)
            for key in ("frames", "actions"):
                if key not in names:
                    raise InputError(f"{path}: {key} is missing: it has {_listed(names)}")
            for name in sorted(names - {*KEYS}):
                if near := difflib.get_close_matches(name, {*KEYS} - names, n=1):
                    raise InputError(f"{path}: {name} is unknown: did you mean {near[0]}?")
            rest: dict[str, Any] = {
                key: _array(path, arrays, key) for key in KEYS[1:-1] if key in names
            }
        yield Record(str(path), _npz_frames(path), **rest)


def _npz_frames(path: Path) -> Callable[[], Iterator[Any]]:
    def frames() -> Iterator[Any]:
        with _npz(path) as arrays:
            pictures = _array(path, arrays, "frames")
        if pictures.ndim < 3:
            raise InputError(
                f"{path}: frames has shape {pictures.shape}: (frames, height, width, 3) or (frames,"
                " height, width) is needed"
            )
        yield from pictures

    return frames


def _npz_fps(path: Path) -> float:
    with _npz(path) as arrays:
        if "fps" not in arrays.files:
            return FPS
        return _rate(_array(path, arrays, "fps"), f"{path}: fps")


@contextmanager
def _npz(path: Path) -> Iterator[Any]:
    # np.load leaves a broken file open and recommends pickle for other kinds of file
    with _reading(path), open(path, "rb") as file:
        with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            yield archive


def _array(path: Path, archive: Any, key: str) -> np.ndarray:
    with _reading(path, f": {key}"):
        return archive[key]


def _rate(value: Any, name: str) -> float:
    rate = float(np.asarray(value).reshape(-1)[0])
    if not 0 < rate < 1e4:
        raise InputError(f"{name} is {rate}: frames a second are a number above 0")
    return rate


def video_records(files: Iterable[Path]) -> Iterator[Record]:
    """One video for each episode, with a row for each action in a CSV file.

    Either NAME.csv beside NAME.mp4, or actions.csv with a column `video`. The columns `action`, or
    `action_0`, `action_1`..., are needed; `reward`, `terminated` and `truncated` are read too.
    """
    shared = dict[str, list[tuple[int, dict[str, str]]]]()
    for path in files:
        table = path.with_suffix(".csv")
        if table.is_file():
            rows = list(_rows(table))
        else:
            table = path.with_name("actions.csv")
            if not table.is_file():
                raise InputError(f"{path} has no actions: write {path.stem}.csv or actions.csv")
            shared = shared or _by_video(table)
            rows = shared.get(path.name, [])
        if not rows:
            raise InputError(f"{table} has no rows for {path.name}: one for each action is needed")
        yield _video_record(path, table, rows)


def _video_record(path: Path, table: Path, rows: list[tuple[int, dict[str, str]]]) -> Record:
    columns = list(rows[0][1])
    parts = [name for name in columns if name == "action" or name.startswith("action_")]
    if not parts:
        raise InputError(f"{table}: action is missing: it has {_listed(columns)}")
    several = parts != ["action"]
    found = {
        "actions": [[_cell(table, row, name) for name in parts] for row in rows],
        **{
            part: [_cell(table, row, name) for row in rows]
            for part, name in _COLUMNS.items()
            if name in columns
        },
    }
    arrays: dict[str, Any] = {part: np.array(values) for part, values in found.items()}
    arrays["actions"] = arrays["actions"] if several else arrays["actions"][:, 0]
    names = {"actions": f"actions in {table.name}", **_COLUMNS}
    return Record(str(path), lambda: _pictures(path), names=names, **arrays)


_COLUMNS = {"rewards": "reward", "terminated": "terminated", "truncated": "truncated"}


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and cells of a CSV file, whose first row names the columns."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read as CSV ({error}): save it as UTF-8") from error


def _by_video(table: Path) -> dict[str, list[tuple[int, dict[str, str]]]]:
    found: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for line, row in _rows(table):
        if not row.get("video"):
            raise InputError(f"{table}: line {line}: video is missing: name the row's file there")
        found.setdefault(row["video"], []).append((line, row))
    return found


def _cell(table: Path, row: tuple[int, dict[str, str]], column: str) -> int | float:
    """The number in a cell: whole ones stay whole, so that choices are known from strengths."""
    line, cells = row
    text = (cells.get(column) or "").strip()
    text = {"true": "1", "false": "0"}.get(text.lower(), text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise InputError(f"{table}: line {line}: {column} is {text!r}: a number is needed")


def _pictures(path: Path) -> Iterator[np.ndarray]:
    import cv2

    video = cv2.VideoCapture(str(path))
    try:
        good, picture = video.read()
        if not good:
            raise InputError(f"{path} cannot be decoded: convert it to H.264 in an mp4 file")
        while good:
            yield np.ascontiguousarray(picture[:, :, ::-1])
            good, picture = video.read()
    finally:
        video.release()


def _video_fps(path: Path) -> float:
    import cv2

    video = cv2.VideoCapture(str(path))
    try:
        return float(video.get(cv2.CAP_PROP_FPS)) or FPS
    finally:
        video.release()


def hdf5_source(path: Path, screen: str | None) -> Source:
    """Robomimic's layout: data/demo_0/actions, rewards, dones and obs/NAME for each episode.

    The last of `dones` says whether the end is the task's. `next_obs` gives the last picture.

    Raises:
        InputError: h5py is missing, or the file has another layout.
    """
    h5py = library("h5py", path)
    with _reading(path), h5py.File(path) as file:
        if not isinstance(file.get("data"), h5py.Group) or not len(file["data"]):
            raise InputError(f"{path}: data is missing: robomimic's layout has data/demo_0/actions")
        names = sorted(file["data"], key=lambda name: (len(name), name))
        about = json.loads(file["data"].attrs.get("env_args", "{}"))
        rate = about.get("env_kwargs", {}).get("control_freq")

    def records() -> Iterator[Record]:
        for name in names:
            yield _demonstration(h5py, path, name, screen)

    return Source("HDF5", records, fps=_rate(rate, f"{path}: control_freq") if rate else FPS)


def _demonstration(h5py: Any, path: Path, name: str, screen: str | None) -> Record:
    where = f"{path}: data/{name}"
    with _reading(path), h5py.File(path) as file:
        demo = file["data"][name]
        for key in ("actions", "obs"):
            if key not in demo:
                raise InputError(f"{where}/{key} is missing: it has {_listed(demo)}")
        arrays: dict[str, Any] = {}
        demo["obs"].visititems(
            lambda key, part: arrays.update({key: part}) if isinstance(part, h5py.Dataset) else None
        )
        shapes = {key: part.shape for key, part in arrays.items()}
        key = picture_key(shapes, screen, f"{where}/obs")
        rest = {
            part: demo[theirs][()]
            for part, theirs in (("rewards", "rewards"), ("terminated", "dones"))
            if theirs in demo
        }
        if "terminated" in rest:
            rest["terminated"] = rest["terminated"][-1]  # it may be set from a success on
        actions = demo["actions"][()]

    def frames() -> Iterator[Any]:
        with _reading(path), h5py.File(path) as file:
            demo = file["data"][name]
            yield from demo["obs"][key]
            if key in demo.get("next_obs", {}):
                yield demo["next_obs"][key][-1]

    names = {"frames": f"obs/{key}", "terminated": "dones"}
    return Record(where, frames, actions, names=names, **rest)


def minari_source(folder: Path, screen: str | None) -> Source:
    """A Minari data set. Records whose observations hold no picture can be played again.

    Raises:
        InputError: Minari is missing, or the data set cannot be read.
    """
    minari = library("minari", folder)
    with _reading(folder):
        about = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        if missing := [key for key in ("observation_space", "action_space") if key not in about]:
            raise InputError(f"{folder}: {missing[0]} is missing: make the data set again")
        data = minari.MinariDataset(folder)
        space = data.action_space

    def records() -> Iterator[Record]:
        for episode in range(data.total_episodes):
            with _reading(folder):
                found = next(iter(data.storage.get_episodes([episode])))
                about = next(iter(data.storage.get_episode_metadata([episode])))
            where = f"{folder}: episode {episode}"
            yield _minari_record(where, found, about.get("seed"), screen)

    return Source("Minari", records, space, played=_played(data.env_spec))


def _played(spec: Any) -> dict[str, Any] | None:
    """What makes a data set's environment, by its id alone: a specification may name any code."""
    if spec is None:
        return None
    kwargs = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    return {"id": spec.id, "kwargs": kwargs, "max_episode_steps": spec.max_episode_steps}


def _minari_record(
    where: str, found: Mapping[str, Any], seed: int | None, screen: str | None
) -> Record:
    names = {"terminated": "terminations", "truncated": "truncations", "frames": "observations"}
    observations = found["observations"]
    flags = {"terminated": found["terminations"], "truncated": found["truncations"]}
    if screen in (None, RENDER) and not _hold_pictures(observations):
        replay = Replay(seed, found["actions"], observations)
        rest = found["actions"], found["rewards"]
        return Record(where, lambda: (), *rest, replay=replay, names=names, **flags)
    if isinstance(observations, dict):
        arrays = dict(_flat(observations))
        shapes = {key: part.shape for key, part in arrays.items()}
        key = picture_key(shapes, screen, f"{where}: observations")
        observations, names["frames"] = arrays[key], f"observations/{key}"
    pictures = np.asarray(observations)
    if not _may_be_pictures(pictures.shape):
        raise InputError(
            f"{where}: {names['frames']} has shape {pictures.shape}: pictures (frames, height, "
            "width, 3) are needed in the observations"
        )
    return Record(where, lambda: pictures, found["actions"], found["rewards"], names=names, **flags)


def _hold_pictures(observations: Any) -> bool:
    """Whether an array, or one in dictionaries, may hold pictures."""
    if isinstance(observations, dict):
        return any(_may_be_pictures(part.shape) for _, part in _flat(observations))
    return _may_be_pictures(np.shape(observations))


def _flat(observations: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, part in observations.items():
        if isinstance(part, dict):
            yield from _flat(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", np.asarray(part)


def _local_minari(name: str) -> Path:
    """The folder of a data set that Minari has on this machine."""
    minari = library("minari", Path(name), "is not a file or a folder, and Minari is missing")
    known = minari.list_local_datasets()
    if name not in known:
        raise InputError(
            f"{name} is not a file, a folder or one of Minari's local data sets "
            f"({_listed(known)}): check the name, or run `minari download {name}`"
        )
    return Path(minari.load_dataset(name).storage.data_path)


def picture_key(shapes: Mapping[str, tuple[int, ...]], screen: str | None, where: str) -> str:
    """The key of an episode's pictures: `screen`, or the only one that can hold them.

    Raises:
        InputError: there is none, or there are several.
    """
    if screen is not None:
        if screen not in shapes:
            raise InputError(f"{where} has no env.screen {screen!r}: it has {_listed(shapes)}")
        return screen
    found = [key for key, shape in shapes.items() if _may_be_pictures(shape)]
    if len(found) == 1:
        return found[0]
    raise InputError(
        f"{where} has {len(found) or 'no'} pictures ({_listed(found or shapes)}): "
        + ("name one in env.screen" if found else "pictures are needed")
    )


def _may_be_pictures(shape: tuple[int, ...]) -> bool:
    """Whether an array has the axes (T, height, width) or (T, height, width, channels)."""
    return len(shape) >= 3 and sorted(shape[1:])[-2:][0] >= SMALLEST


def library(name: str, path: Path, says: str | None = None) -> Any:
    """A library that only some formats need.

    Raises:
        InputError: it is not installed.
    """
    try:
        return __import__(name)
    except ImportError as error:
        raise InputError(f"{path} {says or f'needs {name}'}: {install('recordings')}") from error


@contextmanager
def _reading(path: Path, key: str = "") -> Iterator[None]:
    """Lets the errors of a library name the file, and the key in it.

    Raises:
        InputError: for any error; libraries raise nearly anything for broken files.
    """
    try:
        yield
    except (InputError, GeneratorExit, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}{key} cannot be read ({type(error).__name__}: {reason}): make or copy it again"
        ) from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
