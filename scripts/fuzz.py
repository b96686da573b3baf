"""Reads damaged files of every kind: fuzz.py [--cases 100000] [--seed 0] [--only NAME].

A case is a good file with random changes: of its bytes, or of what its format states, such as
sizes, types, names and values. The reader returns, or raises an InputError of one line, within
SECONDS and MEGABYTES. Anything else is printed with its changes, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import pickle
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from worldmodels import artifacts
from worldmodels.artifacts import Bundle, SavedController
from worldmodels.command_line import mapping_of, read
from worldmodels.config import Config
from worldmodels.data.episode import Episode, LatentEpisode
from worldmodels.data.manifest import entry_of, load_manifest, save_manifest
from worldmodels.data.recording import Recording
from worldmodels.data.starts import Starts
from worldmodels.envs.dream import make_dream
from worldmodels.errors import InputError
from worldmodels.files import file_hash, load_json, load_tensors, save_json, save_tensors
from worldmodels.gallery.drawings import read_drawings
from worldmodels.gallery.kanji import kanjivg_files, read_kanjivg
from worldmodels.gallery.touch import read_performances
from worldmodels.gallery.written import read_words
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig, controller_for
from worldmodels.models.heads.build import WorldMDNRNNConfig, mdnrnn_for
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.run import Metrics, Run
from worldmodels.schema import load_like
from worldmodels.stages.evaluate import Partial, Report
from worldmodels.stages.history import History, Validated
from worldmodels.stages.select_round import Selection
from worldmodels.world import EnvConfig, RawPicture, World

SECONDS, MEGABYTES = 20, 500
"""Limits of a case: of processor time, which other programs do not change, and of memory beyond
what the process had before."""
EACH = 3
"""Changes one after the other; the files are read after each, which is a case."""
SHOWN = 20
"""Failures that are printed."""

ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 64, 1000, 10**6, 10**9, 2**31, 2**63, 10**30, -(10**18)),
    *(0.5, -0.0, 1e9, 1e-300, 1e308, float("nan"), float("inf")),
    *("", "x", "0", "1.5", "none", "real", "world", "zchr", "\u2028", "\x00", "a\nb", "é" * 50),
    *("../x", "/etc/passwd", "hostile:Game-v0", "&a [*a]", "F16", "F64", "<f8", "|O", "<U4"),
    *([], {}, [[]], [None], {"class_path": "hostile.Game"}, [1, 2, 3], [0.5] * 9, [10**6, 10**6]),
]
"""Values that formats rarely expect."""


@dataclass(frozen=True)
class Change:
    """One change of a file; a file knows what its kind means."""

    kind: int
    place: int
    value: Any
    content: bytes


CHANGES = st.lists(
    st.builds(
        Change,
        st.integers(0, 99),
        st.integers(0, 2**20),
        st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=9),
        st.binary(max_size=9),
    ),
    min_size=EACH,
    max_size=EACH,
)


def changed_bytes(content: bytes, change: Change) -> bytes:
    """Bytes that are flipped, replaced, inserted, removed, repeated, or cut off."""
    place, new = change.place % (len(content) + 1), change.content
    match change.kind % 7:
        case 0:
            return content[:place]
        case 1:
            return content[:place] + new + content[place:]
        case 2:
            return content[:place] + content[place + len(new) + 1 :]
        case 3:
            return content[:place] + content[place : place + 40] * 3 + content[place + 40 :]
        case 4 if place < len(content):
            flipped = content[place] ^ (1 << change.kind % 8)
            return content[:place] + bytes([flipped]) + content[place + 1 :]
    return content[:place] + new + content[place + len(new) :]


def changed_data(data: Any, change: Change) -> Any:
    """JSON data in which one value is replaced, removed, renamed, repeated or nested."""
    places, value = [*_places(data)], copy.deepcopy(change.value)
    path = places[change.place % len(places)]
    if not path:
        return value if change.kind % 10 == 0 else data
    holder = data
    for part in path[:-1]:
        holder = holder[part]
    last = path[-1]
    match change.kind % 6:
        case 0:
            del holder[last]
        case 1 if isinstance(holder, dict):
            holder[str(value)[:20]] = holder[last]
        case 1:
            holder.append(value)
        case 2:
            holder[last] = [holder[last]] * (change.kind % 4)
        case _:
            holder[last] = value
    return data


def _places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(data, dict | list):
        for name, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _places(value, (*path, name))


def changed_json(content: bytes, change: Change) -> bytes:
    """A JSON file that says something else; one in five is damaged."""
    if change.kind % 5 == 0:
        return changed_bytes(content, change)
    with contextlib.suppress(ValueError, RecursionError):
        return json.dumps(changed_data(json.loads(content), change)).encode()
    return content


def changed_lines(content: bytes, change: Change) -> bytes:
    """Lines of JSON of which one says something else."""
    lines = content.split(b"\n")
    number = change.place % len(lines)
    lines[number] = changed_json(lines[number] or b"{}", change)
    return b"\n".join(lines)


def changed_tensors(content: bytes, change: Change) -> bytes:
    """A safetensors file with another header, other metadata, or other numbers."""
    size = int.from_bytes(content[:8], "little")
    if change.kind % 4 == 0 or size > len(content):
        return changed_bytes(content, change)
    try:
        header = json.loads(content[8 : 8 + size])
        about = header.get("__metadata__", {})
        if change.kind % 4 == 1 and "worldmodels" in about:
            about["worldmodels"] = json.dumps(
                changed_data(json.loads(about["worldmodels"]), change)
            )
        else:
            header = changed_data(header, change)
    except (ValueError, AttributeError, RecursionError):
        return changed_bytes(content, change)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def changed_npz(content: bytes, change: Change) -> bytes:
    """An npz one of whose arrays is damaged, missing, renamed or says another size or type."""
    if change.kind % 8 == 0:
        return changed_bytes(content, change)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # damaged before
        return changed_bytes(content, change)
    name = [*members, "none.npy"][change.place % (len(members) + 1)]
    array = members.get(name, b"")
    match change.kind % 8:
        case 1:
            members.pop(name, None)
        case 2:
            members[f"{str(change.value)[:9]}.npy"] = array
        case 3 | 4 | 5:
            members[name] = _changed_header(array, change)
        case 6:
            members[name] = _pickled(change)
        case _:
            members[name] = changed_bytes(array, change)
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "w", 8) as archive:
        for key, value in members.items():
            archive.writestr(key.replace("\x00", "0") or "x", value)
    return file.getvalue()


def _changed_header(array: bytes, change: Change) -> bytes:
    """An npy with another dtype, order or shape."""
    size = int.from_bytes(array[8:10], "little")
    try:
        header = yaml.safe_load(
            array[10 : 10 + size].decode().replace("(", "[").replace(")", "]").replace("'", '"')
        )
        header = changed_data(header, change)
        shape = header.get("shape")
        header["shape"] = tuple(shape) if isinstance(shape, list) else shape
        text = f"{header!r}\n".encode()
    except Exception:  # damaged before
        return changed_bytes(array, change)
    return array[:8] + len(text).to_bytes(4, "little")[:2] + text + array[10 + size :]


def _pickled(change: Change) -> bytes:
    """An object array of any protocol, with something odd beside the drawings."""
    items = np.empty(40, object)
    for number in range(40):
        items[number] = np.full((5, 3), number % 2, ">i2" if change.kind % 2 else np.float32)
    items[change.place % 40] = change.value
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (40,)}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]
    content = pickle.dumps(items, protocol=change.place % 6)
    return file.getvalue() + (changed_bytes(content, change) if change.kind % 3 else content)


KINDS: dict[str, Callable[[bytes, Change], bytes]] = {
    ".json": changed_json,
    ".jsonl": changed_lines,
    ".ndjson": changed_lines,
    ".yaml": changed_json,  # YAML reads JSON
    ".safetensors": changed_tensors,
    ".npz": changed_npz,
}
"""How files are changed, by the ends of their names; others by their bytes."""


def changed(name: str, content: bytes, change: Change) -> bytes:
    """A file's bytes after a change that suits its kind, or any file's if it is damaged already."""
    try:
        return KINDS.get(Path(name).suffix, changed_bytes)(content, change)
    except Exception:
        return changed_bytes(content, change)


@dataclass(frozen=True)
class Target:
    """A reader, and a folder of good files for it."""

    share: int
    """Of a hundred cases, how many are its own; fewer where one takes long."""
    folder: Path
    read: Callable[[Path], Any]
    seal: Callable[[Path], None] = field(default=lambda _: None)
    """Makes checksums right again, so that what they guard is read too."""

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The good files, by their names in the folder."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}

    def run(self, changes: list[Change]) -> str | None:
        """Reads changed files, which are then restored; returns what is wrong, None: nothing."""
        names, contents = list(self.files), dict(self.files)
        for change in changes:
            name = names[change.place % len(names)]
            change = replace(change, place=change.place // len(names))
            contents[name] = changed(name, contents[name], change)
        touched = [name for name in names if contents[name] is not self.files[name]]
        try:
            for name in touched:
                (self.folder / name).write_bytes(contents[name])
            if changes[0].kind % 3:
                with contextlib.suppress(Exception):
                    self.seal(self.folder)
            return watched(lambda: self.read(self.folder))
        finally:
            for name in {*touched, *(n for n in names if n.endswith("bundle.json"))}:
                (self.folder / name).write_bytes(self.files[name])


class Hang(BaseException):
    """A case took too long."""


refused = 0
"""Cases so far whose file was refused in one line."""


def watched(call: Callable[[], Any]) -> str | None:
    """Calls a reader; returns what it does that it must not, None: nothing."""
    global refused

    def stop(_: int, __: FrameType | None) -> None:
        raise Hang

    before, fault = _peak(reset=True), None
    kept = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            call()
    except InputError as error:
        if "\n" in str(error) or not str(error):
            fault = f"an error of several lines: {str(error)!r}"
        refused += 1
    except Hang:
        fault = f"more than {SECONDS} seconds"
    except BaseException as error:
        fault = f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, kept)
    if fault is None and (used := _peak() - before) > MEGABYTES:
        fault = f"{used:.0f} MB"
    return fault


def _peak(*, reset: bool = False) -> float:
    """The most memory that the process has had since the last reset, in MB; Linux only."""
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1000
    return 0.0


def targets(folder: Path) -> dict[str, Target]:
    """All readers, with good files written below a folder."""
    bundle = _bundle()
    bundle.save(folder / "bundle")
    _save_run(Run(folder / "run"), bundle)
    _save_metrics(Run(folder / "metrics"))
    _save_records(folder / "records")
    _save_gallery(folder)
    return {
        "bundle": Target(15, folder / "bundle", _read_bundle, _seal),
        "run": Target(5, folder / "run", _read_run),
        "episode": _saved(12, folder / "episode", _episode()),
        "latents": _saved(8, folder / "latents", _latents()),
        "config": _config(folder / "config"),
        "metrics": Target(12, folder / "metrics", _read_metrics),
        "records": Target(10, folder / "records", _read_records),
        "ndjson": Target(6, folder / "ndjson", lambda path: read_drawings(path / "a.ndjson", 50)),
        "drawings": Target(
            8, folder / "drawings", lambda path: read_drawings(path / "a.npz", 50, 0.5)
        ),
        "impsy": Target(6, folder / "impsy", lambda path: read_performances(path / "a.npz")),
        "log": Target(4, folder / "log", lambda path: read_performances(path / "a.log")),
        "cursive": Target(4, folder / "cursive", lambda path: read_words(path / "a.npz", 0.01, 99)),
        "iam": Target(4, folder / "iam", lambda path: read_words(path, 0.01, 99)),
        "kanji": Target(3, folder / "kanji", lambda path: read_kanjivg(kanjivg_files(path), 1.0)),
    }


def _world() -> World:
    config = EnvConfig(
        id="CarRacing-v3", action_clip=(2,), reward="real", terminates=True, action_repeat=4
    )
    actions = Actions("box", (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (2,))
    return World(config, actions.to_dict(), 50.0, {"torch": "2.9"}, RawPicture((96, 96, 3)))


def _bundle() -> Bundle:
    """A tiny untrained agent with two recordings."""
    torch.manual_seed(0)
    world = _world()
    vae = VAE(VAEConfig(latent_size=3, width=1)).requires_grad_(False)
    config = WorldMDNRNNConfig(
        hidden_size=4, num_mixtures=2, reward_head="world", termination_head="world"
    )
    mdnrnn = mdnrnn_for(config, world, 3).requires_grad_(False)
    controller = controller_for(ControllerConfig(), mdnrnn)
    starts = Starts(torch.randn(5, 4, 3), torch.zeros(5, 4, 3), torch.zeros(5))
    frames = torch.zeros(6, 64, 64, 3, dtype=torch.uint8)
    state = torch.zeros(3), torch.zeros(4), torch.zeros(4)
    steps = torch.zeros(6, 3), torch.zeros(6)
    recordings = tuple(Recording.of(state, *steps, frames, ended=end) for end in (False, True))
    return Bundle(
        world,
        vae,
        mdnrnn,
        controller,
        torch.randn(controller.num_parameters),
        starts,
        {"temperature": 1.0, "horizon": 20, "warmup": 4},
        {"seed": 0},
        recordings,
    )


def _seal(folder: Path) -> None:
    """Writes the checksums of what the files of a bundle are now."""
    file = folder / "bundle.json"
    data = load_json(file)
    for path in folder.glob("*.safetensors"):
        data["sha256"][path.name] = file_hash(path)
    data["sha256"][file.name] = artifacts._digest(data)
    file.write_text(json.dumps(data))


def _read_bundle(folder: Path) -> None:
    """Loads a bundle and dreams a few steps."""
    bundle = Bundle.load(folder)
    env = make_dream(1, bundle=bundle)
    env.reset(seed=0)
    for _ in range(2):
        env.step(env.action_space.sample())
    env.render()
    for recording in bundle.recordings:
        assert len(recording.frames)


def _save_run(run: Run, bundle: Bundle) -> None:
    artifacts.save_vae(run, bundle.vae)
    artifacts.save_mdnrnn(run, bundle.mdnrnn, bundle.world, "abc")
    parameters = bundle.parameters, bundle.parameters.clone(), 1.5
    saved = SavedController(bundle.controller.config, *parameters, {"validate": 1, "evolve": 0})
    mdnrnn = file_hash(run.mdnrnn / "mdnrnn.safetensors")
    artifacts.save_controller(run.controller / "controller.safetensors", saved, mdnrnn)
    save_json(run.world_file, bundle.world.to_dict())
    vae = file_hash(run.vae / "vae.safetensors")
    save_json(run.latents / "index.json", {"vae": vae, "hash": "abc", "episodes": 2})
    mean = np.zeros(8)
    validated = [Validated(2, mean, np.ones(3))]
    History("abc", mean, mean + 1, [np.ones(4)] * 3, validated).save(
        run.controller / "history.safetensors"
    )


def _save_metrics(run: Run) -> None:
    run.folder.mkdir()
    lines = [
        {"stage": "train_vae", "step": 10, "loss": 1.5, "precision": "float32"},
        {"stage": "train_vae", "check": "KL", "value": 3.0, "good": True},
        {"stage": "train_vae", "event": "end", "seconds": 3.5, "cores": 2, "command": "x"},
    ]
    run.metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines * 3))


def _read_run(folder: Path) -> None:
    """Reads each part of a run; one that is refused does not hide the others."""
    run = Run(folder)
    parts: list[Callable[[], Any]] = [
        partial(artifacts.load_world, run),
        partial(artifacts.load_vae, run),
        partial(artifacts.load_mdnrnn, run),
        partial(artifacts.load_controller, run),
        partial(artifacts.check_latents, run),
        lambda: History.load(run.controller / "history.safetensors").check(folder, 8, 4),
    ]
    for part in parts:
        try:
            part()
        except InputError as error:
            if "\n" in str(error):
                raise


def _read_metrics(folder: Path) -> None:
    run = Run(folder)
    Metrics.spent([run])
    assert all(line["cores"] + line["seconds"] >= 0 or True for line in Metrics.ends(run))


def _episode() -> Episode:
    frames = np.zeros((6, 64, 64, 3), np.uint8)
    numbers = np.zeros((5, 2), np.float32), *np.zeros((2, 5), np.float32)
    return Episode(frames, *numbers, *np.zeros((2, 5), bool))


def _latents() -> LatentEpisode:
    seen = _episode()
    mu = np.zeros((6, 3), np.float16)
    numbers = seen.actions, seen.rewards, seen.counts
    return LatentEpisode(mu, mu, *numbers, seen.terminated, seen.truncated, np.zeros(5, bool))


def _saved(share: int, folder: Path, episode: Episode | LatentEpisode) -> Target:
    name = "00_000000.npz"
    episode.save(folder / name)
    return Target(share, folder, lambda path: type(episode).load(path / name))


def _config(folder: Path) -> Target:
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(mapping_of(Config())))
    return Target(3, folder, lambda path: read(Config, path / "config.yaml"))


def _save_records(folder: Path) -> None:
    one = {"mean": 1.0, "std": 0.5, "ci95": [0.5, 1.5], "returns": [1.0, 2.0]}
    report = {
        **one,
        **{"environment": "x", "split": "test", "episodes": 2, "seeds": [0, 2]},
        "baselines": {"random": {**one, "episodes": 2, "paired_ci95": [0.0, 1.0]}},
        **{"command": "x", "cores": 2, "versions": {"torch": "2"}, "bundle_sha256": "0"},
        **{"seconds": 3.0, "real_frames": {"collect": 3}},
    }
    save_json(folder / "evaluation.json", report)
    save_json(folder / "partial.json", {"bundle": "0", "chunks": {"0+2": [1.0, 2.0]}})
    save_json(folder / "selection.json", {"best": 0, "steps": 3})
    save_tensors(folder / "tensors.safetensors", {"x": torch.zeros(2)}, {"a": [1]})
    save_manifest(
        folder, {"00_000000.npz": entry_of(b"", 5, 7), "00_000001.npz": entry_of(b"x", 3)}
    )


def _read_records(folder: Path) -> None:
    report = load_like(folder / "evaluation.json", Report)
    assert all(row["ci95"][1] is not None for row in (report, *report["baselines"].values()))
    known = load_like(folder / "partial.json", Partial)
    assert sum(map(len, known["chunks"].values())) >= 0
    assert load_like(folder / "selection.json", Selection)["best"] is not None
    load_tensors(folder / "tensors.safetensors")[1].get("a")
    assert all(entry["steps"] >= 1 for entry in load_manifest(folder).values())


INK = "<Session><StrokeSet>{}</StrokeSet></Session>"
STROKE = '<Stroke><Point x="{0}" y="5"/><Point x="{1}" y="90"/></Stroke>'


def _save_gallery(folder: Path) -> None:
    for name in ("ndjson", "drawings", "impsy", "log", "cursive", "iam", "kanji"):
        (folder / name).mkdir()
    generator = np.random.default_rng(0)
    line = {"word": "cat", "recognized": True, "drawing": [[[0, 5, 9], [1, 2, 3]], [[4], [0]]]}
    (folder / "ndjson/a.ndjson").write_text("".join(f"{json.dumps(line)}\n" for _ in range(45)))
    parts = dict[str, np.ndarray]()
    for name in ("train", "valid", "test"):
        parts[name] = np.empty(6, object)
        parts[name][:] = [_scribble(generator) for _ in range(6)]
    np.savez(folder / "drawings/a.npz", **parts)  # type: ignore[arg-type]
    performances = np.empty(12, object)
    performances[:] = [generator.uniform(size=(5 + n, 4)).astype(np.float32) for n in range(12)]
    np.savez(folder / "impsy/a.npz", perfs=performances)
    lines = (f"2026-11-25T10:{n // 60:02d}:{n % 60:02d},interface,0.25,0.5\n" for n in range(600))
    (folder / "log/a.log").write_text("".join(lines))
    word = [[0, 0, 1], [0.1, 0.5, 1], [0.2, 0, 0], [0.3, 0, 1], [0.4, 0.2, 1]]
    texts = np.array(["ab", "ba", "aab", "abb", "bab"] * 6)
    points, offsets = np.tile(np.array(word, np.float32), (30, 1)), np.arange(0, 151, 5)
    np.savez(folder / "cursive/a.npz", points=points, offsets=offsets, text=texts)
    (folder / "iam/a01.txt").write_text("CSR:\n\n" + "line ab\nab line\n" * 3)
    for n in range(6):
        ink = INK.format(STROKE.format(n, n + 40) + STROKE.format(n + 50, n + 9))
        (folder / f"iam/a01-{n + 1:02d}.xml").write_text(ink)
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M1,2c3,4,5,6,7,8"/></svg>'
    for code in range(0x4E00, 0x4E03):
        (folder / f"kanji/{code:05x}.svg").write_text(svg)


def _scribble(generator: np.random.Generator) -> np.ndarray:
    points = np.round(generator.normal(0, 30, (8, 3)))
    points[:, 2] = np.arange(8) % 4 == 3
    return points.astype(np.int16)


def fuzz(target: Target, cases: int, number: int) -> list[tuple[str, list[Change]]]:
    """Runs random cases; returns what went wrong, with the changes that led to it."""
    found: list[tuple[str, list[Change]]] = []

    @seed(number)
    @settings(
        max_examples=-(-cases // EACH),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(CHANGES)
    def case(changes: list[Change]) -> None:
        for size in range(1, EACH + 1):
            if (fault := target.run(changes[:size])) is not None:
                found.append((fault, changes[:size]))

    case()
    return found


def main() -> None:
    """Runs the cases of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="Of all readers.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="*", default=[], help="Some readers; each has its share of the cases."
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    faults = total = 0
    with tempfile.TemporaryDirectory() as name:
        every = targets(Path(name))
        for kind in options.only or every:
            target = every[kind]
            target.read(target.folder)  # undamaged; what is compiled at first use takes long
            started, before = time.perf_counter(), refused
            cases = EACH * -(-options.cases * target.share // (100 * EACH))
            found = fuzz(target, cases, options.seed)
            seconds = time.perf_counter() - started
            print(
                f"{kind}: {cases} cases, {refused - before} refused, {len(found)} faults, "
                f"{seconds:.0f} s",
                flush=True,
            )
            for fault, changes in found[:SHOWN]:
                print(f"  {fault}\n    {changes}", flush=True)
            faults, total = faults + len(found), total + cases
    print(f"{total} cases with seed {options.seed}: {faults} faults")
    sys.exit(int(faults > 0))


if __name__ == "__main__":
    main()
