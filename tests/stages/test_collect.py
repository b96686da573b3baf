"""Collecting in worlds as users write them: what is said first, and what a broken episode costs."""

import contextlib
import sys
from pathlib import Path

import cv2
import pytest
import user_world
from loky import get_reusable_executor
from user_world import scene

from worldmodels.calls import VARIABLE
from worldmodels.data.episode import Episode
from worldmodels.data.manifest import MANIFEST, load_manifest
from worldmodels.envs.picture import frame_of
from worldmodels.files import file_hash
from worldmodels.world import EnvConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def collect(script, tmp_run, capfd, monkeypatch):
    """Collects up to 6 episodes of 50 steps; what was said.

    Workers are new in each test, so that they print where it reads; so are the notes of calls.
    """
    monkeypatch.delenv(VARIABLE, raising=False)

    def run(picture="plain", *, processes=1, timeout=60.0, world="UserWorld", more=(), **kwargs):
        shown = ", ".join(f"{k}: {v}" for k, v in {"picture": picture, **kwargs}.items())
        flags = ["--env.id", f"{user_world.__file__}:{world}", "--env.kwargs", f"{{{shown}}}"]
        flags += [f"--workers.processes={processes}", f"--env.step_timeout={timeout}"]
        sizes = ["--collect.episodes=6", "--collect.max_steps=60"]
        where = ["--config", ROOT / "configs/smoke.yaml", "--run", tmp_run.folder]
        with contextlib.suppress(SystemExit):
            script("collect", *where, *flags, *sizes, *more)
        return capfd.readouterr()

    yield run
    get_reusable_executor(1).shutdown(wait=True, kill_workers=True)


def test_the_table_and_the_first_frame(collect, tmp_run):
    out = collect("stack of floats").out
    assert "picture  the observation, float32 (84, 96, 4), 0 to 1\n" in out
    assert "V sees   the newest of 4 grey pictures; 0 to 1 becomes 0 to 255; 64x64" in out
    assert f"{tmp_run.folder}/first_frame.png shows what V sees" in out
    assert cv2.imread(str(tmp_run.folder / "first_frame.png")).std() > 20


def test_lost_episodes_are_replaced(collect, tmp_run):
    """Episodes of even seeds break in step 40; all that are saved are whole."""
    out = collect(mistake="raises", at=40, every=2, length=50).out
    lost = [line for line in out.splitlines() if line.startswith("an episode is lost")]
    seeds = {int(line.split("seed=")[1].split(")")[0]) for line in lost}
    assert seeds
    assert all(seed % 2 == 0 for seed in seeds)
    assert all("in step 40 after" in line for line in lost)
    episodes = [Episode.load(path) for path in sorted(tmp_run.episodes.glob("*.npz"))]
    assert [len(one) for one in episodes] == [50] * 6


def test_a_world_that_always_breaks_is_told_of(collect, tmp_run):
    said = collect(mistake="reward nan", at=40, length=50)
    assert said.err.startswith("error: 6 of 6 episodes were lost: env.id ")
    assert "in step 40 after reset(seed=" in said.err
    assert "the reward is nan: it must be a finite number" in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_run.episodes.glob("*"))


def test_nothing_is_written_where_the_first_steps_fail(collect, tmp_run):
    said = collect(mistake="four values")
    assert "step() returns 4 values" in said.err
    assert said.err.count("\n") == 1
    assert not tmp_run.folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="signals")
@pytest.mark.parametrize(
    ("mistake", "every", "processes", "reason"),
    [
        ("dies", 3, 2, "its process ended without a word (exit code 3)"),
        ("hangs", 2, 2, "it did not return within 4 s (env.step_timeout)"),
        ("hangs", 2, 1, "it did not return within 4 s (env.step_timeout)"),
        ("stuck", 2, 2, "it did not return within env.step_timeout"),
    ],
)
def test_only_the_episode_is_lost(collect, tmp_run, monkeypatch, mistake, every, processes, reason):
    """Also where the process ends, or where nothing but its end stops it.

    Of the seeds here one is even, and two are multiples of 3.
    """
    monkeypatch.setattr("worldmodels.calls.GRACE", 0.5)
    flags = {"mistake": mistake, "at": 40, "every": every, "length": 50}
    out = collect(**flags, processes=processes, timeout=4.0).out
    lost = {line for line in out.splitlines() if line.startswith("an episode is lost")}
    seeds = {int(line.split("seed=")[1].split(")")[0]) for line in lost}
    assert len(seeds) == (1 if every == 2 else 2)
    assert all(seed % every == 0 for seed in seeds)
    assert all(line.endswith(reason) and "in step 40 after" in line for line in lost)
    episodes = [Episode.load(path) for path in sorted(tmp_run.episodes.glob("*.npz"))]
    assert [len(one) for one in episodes] == [50] * 6


@pytest.mark.parametrize(
    ("mistake", "reason"),
    [
        ("dies", "in step 5 after reset(seed=0): its process ended without a word (exit code 3)"),
        ("hangs", "in step 5 after reset(seed=0): it did not return within 4 s"),
    ],
)
def test_the_first_steps_may_not_end_the_command(collect, tmp_run, mistake, reason):
    said = collect(mistake=mistake, processes=2, timeout=4.0)
    assert reason in said.err
    assert said.err.startswith("error: env.id ")
    assert said.err.count("\n") == 1
    assert not tmp_run.folder.exists()


def test_the_manifest_names_what_was_collected(collect, tmp_run):
    """Also of files that a killed command left without one."""
    collect()
    entries = load_manifest(tmp_run.episodes)
    files = sorted(tmp_run.episodes.glob("*.npz"))
    assert list(entries) == [path.name for path in files]
    for path, entry in zip(files, entries.values(), strict=True):
        assert (entry["sha256"], entry["bytes"]) == (file_hash(path), path.stat().st_size)
        assert entry["steps"] == len(Episode.load(path))
    assert len({entry["seed"] for entry in entries.values()}) == 6
    manifest = tmp_run.episodes / MANIFEST
    before = manifest.read_bytes()
    manifest.unlink()
    files[0].unlink()
    collect()
    assert manifest.read_bytes() == before


def test_some_jobs_begin_with_options(collect, tmp_run):
    """Each job of eight episodes begins with all options or with none."""
    flags = "--collect.episodes=64", "--collect.reset_options={place: 30}"
    collect(more=(*flags, "--collect.reset_options_share=0.5"), length=2)
    frames = [Episode.load(path).frames[0] for path in sorted(tmp_run.episodes.glob("*.npz"))]
    plain, placed = (frame_of(scene(place), EnvConfig()) for place in (0, 30))
    begun = [(frame == placed).all() for frame in frames]
    seeds = [entry["seed"] for entry in load_manifest(tmp_run.episodes).values()]
    assert [seed is None for seed in seeds] == begun  # a seed alone does not begin them again
    assert all(one or (frame == plain).all() for one, frame in zip(begun, frames, strict=True))
    assert [all(begun[i : i + 8]) for i in range(0, 64, 8)] == begun[::8]
    assert 0 < sum(begun[::8]) < 8


def test_options_that_the_environment_does_not_take_are_told_of(collect, tmp_run):
    said = collect(world="NoOptions", more=["--collect.reset_options={place: 30}"])
    assert "reset() takes no options: write `def reset(self, *, seed=None, options" in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_run.episodes.glob("*"))
