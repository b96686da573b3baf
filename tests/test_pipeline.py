"""Everything from nothing to a tested agent, through the real command lines, in seconds."""

import errno
import json
import os
import shutil
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import worldmodels
from worldmodels.artifacts import Bundle, link, load_controller, load_mdnrnn
from worldmodels.files import file_hash, load_json
from worldmodels.models.controller import controller_for
from worldmodels.pipeline import KEPT
from worldmodels.report.report import told_by
from worldmodels.run import Run
from worldmodels.stages.carry import carried_over
from worldmodels.stages.history import History, history_file

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ONE_ROUND = [
    "world.json",
    "metrics.jsonl",
    "episodes/00_000000.npz",
    "latents/index.json",
    "latents/00_000000.npz",
    "vae/vae.safetensors",
    "mdnrnn/mdnrnn.safetensors",
    "controller/controller.safetensors",
]
TOP = [
    "config.yaml",
    "bundle/bundle.json",
    "bundle/weights.safetensors",
    "bundle/starts.safetensors",
    "bundle/recordings.safetensors",
    "bundle/README.md",
    "evaluation.json",
    "videos/dream.webm",
    "videos/dream.webp",
    "report.html",
]
STAGES = ["collect", "train_vae", "encode", "train_mdnrnn", "evolve", "evaluate", "watch"]
CAR_RACING = """
env:
  id: CarRacing-v3
  training_id: worldmodels/CarRacing-v3
  crop: [0, 84, 0, 96]
  action_repeat: 4
  action_clip: [2]
  reward: count
  count_attribute: tile_visited_count
  count_limit: 0.6
  reward_per_count: 3.3333
  reward_per_frame: -0.1
  terminates: false
collect:
  episodes: 3
  max_steps: 18
  explore: {policy: smooth, mean: [0.0, 0.5, -2.0], memory: 8.0}
"""


def missing(folder, names):
    return [name for name in names if not (folder / name).is_file()]


def check_report(report, environment):
    """evaluation.json's schema."""
    assert set(report) == {
        *("environment", "split", "episodes", "mean", "std", "ci95", "returns", "seeds"),
        *("baselines", "real_frames", "seconds", "cores", "command", "versions", "bundle_sha256"),
    }
    assert (report["environment"], report["split"]) == (environment, "test")
    assert report["episodes"] == len(report["returns"]) == 2
    assert report["seeds"] == [200_000_000, 2]
    assert report["mean"] == pytest.approx(np.mean(report["returns"]))
    assert report["ci95"][0] <= report["mean"] <= report["ci95"][1]
    assert set(report["real_frames"]) == {"collect", "validate", "evolve"}
    assert report["real_frames"]["collect"] > 0 < report["real_frames"]["validate"]
    assert report["seconds"] > 0 < report["cores"]
    assert {"torch", "gymnasium", "numpy", "cma"} <= set(report["versions"])
    for blind in report["baselines"].values():
        assert set(blind) == {
            *("argument", "mean", "std", "ci95", "episodes", "returns", "paired_ci95")
        }
        assert blind["episodes"] == len(blind["returns"]) == 2
        difference = report["mean"] - blind["mean"]
        low, high = blind["paired_ci95"]
        assert low - 1e-9 <= difference <= high + 1e-9


def test_one_round(script, tmp_run, tiny, hashes, capsys):
    flags = ["--config", CONFIGS / "smoke.yaml", "--run", tmp_run.folder, *tiny]
    script("pipeline", *flags)
    assert missing(tmp_run.folder, ONE_ROUND + TOP) == []
    check_report(load_json(tmp_run.evaluation_file), "CartPole-v1")
    assert set(load_json(tmp_run.evaluation_file)["baselines"]) == {"random", "constant"}
    weights = tmp_run.bundle / "weights.safetensors"
    assert load_json(tmp_run.evaluation_file)["bundle_sha256"] == file_hash(weights)
    lines = [json.loads(line) for line in tmp_run.metrics.read_text().splitlines()]
    ends = [line for line in lines if line.get("event") == "end"]
    assert [line["stage"] for line in ends] == STAGES
    assert all({"seconds", "cores", "threads"} <= set(line) for line in ends)
    check_that_it_acts(tmp_run.folder)
    check_names_and_minutes(capsys.readouterr().out, tmp_run)
    before = hashes(tmp_run.folder)
    script("pipeline", *flags)
    assert hashes(tmp_run.folder) == before
    script("pipeline", "--run", tmp_run.folder)
    assert hashes(tmp_run.folder) == before


def check_that_it_acts(folder):
    """The five lines of the README, on the official environment."""
    agent = worldmodels.load(folder)
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    agent.reset(num_envs=1, seed=0)
    for _ in range(5):
        action = agent.act(env.render())
        assert env.action_space.contains(action)
        if env.step(action)[2]:
            break
    env.close()


def check_names_and_minutes(out, run):
    """Each stage ends by naming its result; the whole by the minutes and what comes next."""
    for name in ("episodes", "vae/vae.safetensors", "latents", "mdnrnn/mdnrnn.safetensors"):
        assert str(run.folder / name) in out
    assert str(run.controller / "controller.safetensors") in out
    assert "minutes: collect" in out
    assert f"next: worldmodels play {run.folder}" in out


def test_two_rounds(script, tmp_run, tiny, hashes):
    flags = ["--config", CONFIGS / "smoke.yaml", "--run", tmp_run.folder, *tiny, "--rounds=2"]
    changes = "{collect: {episodes: 4}, train_vae: {steps: 1}, dream: {temperature: 0.9}}"
    more = [f"--later.1={changes}", "--evolve.start=previous", "--dream.temperature=1.1"]
    script("pipeline", *flags, *more)
    rounds = [tmp_run.round(0), tmp_run.round(1)]
    for this in rounds:
        expected = [name.replace("/00_", f"/{this.number:02d}_") for name in ONE_ROUND]
        assert missing(this.folder, expected) == []
        assert not this.evaluation_file.exists()
        assert not this.bundle.exists()
    assert len(list(rounds[1].episodes.glob("*.npz"))) == 4
    assert len(list(rounds[1].latents.glob("*.npz"))) == 12  # old and new
    selection = load_json(tmp_run.folder / "selection.json")
    assert set(selection["validation"]) == {"0", "1"}
    assert selection["validation"][str(selection["best"])] == max(selection["validation"].values())
    best = rounds[selection["best"]]
    for name in ("vae", "mdnrnn", "controller", "latents"):
        assert hashes(tmp_run.folder / name) == hashes(best.folder / name)
    assert missing(tmp_run.folder, TOP) == []
    assert Bundle.load(tmp_run.bundle).dream["temperature"] == (0.9 if best.number else 1.1)
    report = load_json(tmp_run.evaluation_file)
    check_report(report, "CartPole-v1")
    frames = sum(steps_in(this) for this in rounds)
    assert report["real_frames"]["collect"] == frames
    first, last = (History.load(history_file(this)) for this in rounds)
    assert [one.generation for one in first.validated] == [1]
    assert [one.generation for one in last.validated] == [0, 1]  # what was carried over too
    np.testing.assert_array_equal(last.validated[0].mean, last.start)
    validated = sum(load_controller(this).real_steps["validate"] for this in rounds)
    assert report["real_frames"]["validate"] == validated + selection["steps"]
    assert selection["episodes"] == 3
    assert selection["steps"] > 2 * 3  # episodes end by themselves
    before = hashes(tmp_run.folder)
    script("pipeline", *flags, *more)
    assert hashes(tmp_run.folder) == before

    check_kills_after_selection(script, tmp_run, [*flags, *more], hashes)


def test_more_rounds(script, tmp_run, tiny, hashes, capsys):
    """A finished run takes further rounds, and ends as one that had them from the start."""
    flags = ["--config", CONFIGS / "smoke.yaml", *tiny, "--evolve.start=previous"]
    later = "--later={1: {train_vae: {steps: %d}}, 2: {evolve: {generations: 2}}}"
    script(
        "pipeline",
        *flags,
        "--run",
        tmp_run.folder,
        "--rounds=2",
        "--later={1: {train_vae: {steps: 1}}}",
    )
    with pytest.raises(SystemExit, match="2"):
        script("pipeline", *flags, "--run", tmp_run.folder, "--rounds=3", later % 3)
    assert "later is {1: " in capsys.readouterr().err
    script("pipeline", *flags, "--run", tmp_run.folder, "--rounds=3", later % 1)
    whole = Run(tmp_run.folder.parent / "whole")
    script("pipeline", *flags, "--run", whole.folder, "--rounds=3", later % 1)
    for name in ("rounds", *KEPT[1:]):
        assert hashes(tmp_run.folder / name) == hashes(whole.folder / name)
    for name in ("config.yaml", "selection.json", "best_round.txt", "videos/dream.webp"):
        assert (tmp_run.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert (
        load_json(tmp_run.evaluation_file)["returns"] == load_json(whole.evaluation_file)["returns"]
    )
    before, last = whole.round(1), whole.round(2)  # a round starts from the one before
    controller = controller_for(load_controller(last).config, load_mdnrnn(last))
    carried = carried_over(before, last, controller)
    np.testing.assert_array_equal(History.load(history_file(last)).start, carried)
    check_other_files_stay(script, whole, [*flags, "--run", whole.folder, "--rounds=3", later % 1])


def check_other_files_stay(script, run, flags):
    """When another round is the best, a user's files stay and those of the old one go."""
    best = run.holds
    others = run.videos / "play_1.webm", run.vae / "notes.txt"
    for path in others:
        path.write_text("mine")
    stale = run.vae / "stale.safetensors"
    for path in (stale, run.round(1 - best % 2).vae / stale.name):
        path.write_text("of the other round")
    film, page = run.videos / "dream.webm", run.folder / "report.html"
    for path in (film, page):
        path.write_text("of the other round")
    run.best_round_file.write_text(f"{1 - best % 2}\n")
    script("pipeline", *flags)
    assert run.holds == best
    assert film.stat().st_size > 1000
    assert told_by(run) in page.read_text()
    assert [path.read_text() for path in others] == ["mine", "mine"]
    assert not stale.exists()


def check_kills_after_selection(script, run, flags, hashes):
    """A kill between selection and the copy of the best round; a kill or a full disk within it."""
    before = hashes(run.folder)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for links, error in ((0, KeyboardInterrupt()), (7, KeyboardInterrupt()), (7, full)):
        code = "2" if error is full else "130"
        for name in (*KEPT, "best_round.txt"):
            path = run.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        made = []

        def killed(source, target, links=links, made=made, error=error):
            made.append(target)
            if len(made) > links:
                raise error
            link(source, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("worldmodels.artifacts.link", killed)
            with pytest.raises(SystemExit, match=code):
                script("pipeline", *flags)
        assert len(made) == links + 1
        assert not (run.folder / "best_round.txt").exists()
        script("pipeline", *flags)
        assert hashes(run.folder) == before


def steps_in(run):
    return sum(len(np.load(path)["rewards"]) for path in run.episodes.glob("*.npz"))


def test_car_racing(script, tmp_run, tiny, tmp_path):
    """quick's world: the redrawn twin, frames held for four, tiles counted."""
    (tmp_path / "car.yaml").write_text(CAR_RACING)
    flags = ["--config", CONFIGS / "smoke.yaml", "--config", tmp_path / "car.yaml", *tiny]
    script("collect", *flags, "--run", tmp_run.folder)
    for stage in ("train_vae", "encode", "train_mdnrnn", "evolve"):
        script(stage, "--run", tmp_run.folder)
    assert missing(tmp_run.folder, ONE_ROUND) == []
    with np.load(tmp_run.episodes / "00_000000.npz") as episode:
        assert episode["frames"].shape == (19, 64, 64, 3)
        assert episode["actions"].shape == (18, 3)
        assert episode["counts"].sum() > 0
        assert (episode["actions"] >= [-1, 0, 0]).all()
        # a tile is worth 1000 / tiles of the lap, a frame -0.1; the first step is also paid for
        # the tile on which the car stood before it
        counts, earned = episode["counts"][1:], episode["rewards"][1:] + 0.4
        worth = earned.sum() / counts.sum()
        assert 1000 / 400 < worth < 1000 / 200
        np.testing.assert_allclose(earned, counts * worth, atol=1e-4)
    world = load_json(tmp_run.world_file)
    assert world["config"]["action_repeat"] == 4
    assert world["action"]["kind"] == "box"


def test_take_cover(script, tmp_run, tiny, hashes):
    """Doom, from the first frame to the film."""
    small = ["--collect.episodes=4", "--collect.max_steps=40", "--watch.seconds=0.5"]
    flags = ["--config", CONFIGS / "smoke_take_cover.yaml", "--run", tmp_run.folder, *tiny, *small]
    script("pipeline", *flags)
    assert missing(tmp_run.folder, ONE_ROUND + TOP) == []
    report = load_json(tmp_run.evaluation_file)
    check_report(report, "VizdoomTakeCover-v1")
    assert set(report["baselines"]) == {"random", "sweep"}
    before = hashes(tmp_run.folder)
    script("pipeline", *flags)
    assert hashes(tmp_run.folder) == before


@pytest.mark.parametrize("lost", ["dream.webp", "README.md"])
def test_a_kill_after_the_film_leaves_a_whole_bundle(script, tmp_run, tiny, hashes, lost):
    """The bundle's copy of the film, and its card, follow the film."""
    flags = ["--config", CONFIGS / "smoke.yaml", "--run", tmp_run.folder, *tiny]
    script("pipeline", *flags)
    before = hashes(tmp_run.bundle)
    film = tmp_run.bundle / "dream.webp"
    film.unlink()
    if lost == "README.md":  # the film was there, but not on the card
        Bundle.load(tmp_run.bundle).save_card(tmp_run.bundle)
        shutil.copyfile(tmp_run.videos / "dream.webp", film)
    script("pipeline", *flags)
    assert hashes(tmp_run.bundle) == before
