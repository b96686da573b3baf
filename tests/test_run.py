"""The run folder: its names, metrics and progress."""

import contextlib
import errno
import fcntl
import io
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from worldmodels.errors import InputError
from worldmodels.run import Metrics, Run, cores, progress


def test_run_touches_no_disk_and_names_its_rounds(tmp_path):
    run = Run(tmp_path / "fast")
    assert run.name == "fast"
    assert run.round(3).vae == tmp_path / "fast" / "rounds" / "03" / "vae"
    assert os.listdir(tmp_path) == []


def test_need_names_the_command(tmp_run):
    with pytest.raises(InputError, match=r"latents is missing: run `worldmodels encode` first"):
        tmp_run.need(tmp_run.latents, "worldmodels encode")
    tmp_run.latents.mkdir(parents=True)
    assert tmp_run.need(tmp_run.latents, "worldmodels encode") == tmp_run.latents


def test_a_run_holds_its_best_round(tmp_run):
    tmp_run.folder.mkdir(parents=True)
    assert tmp_run.holds == 0
    tmp_run.best_round_file.write_text("12\n")
    assert tmp_run.holds == 12
    for damaged in (b"", b"one\n", b"-1\n", b"1234\n", b"\xff\xfe1"):
        tmp_run.best_round_file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"best_round\.txt names no round: delete it and run"):
            _ = tmp_run.holds


def test_metrics_append_lines_and_end_with_the_cost(tmp_run):
    for _ in range(2):
        with Metrics(tmp_run, "train_vae") as metrics:
            metrics.log(7, loss=torch.tensor(1.5), bad=float("inf"))
    lines = [json.loads(line) for line in tmp_run.metrics.read_text().splitlines()]
    assert lines[0] == {"stage": "train_vae", "step": 7, "loss": 1.5, "bad": None}
    assert lines[3]["event"] == "end"
    assert lines[3]["seconds"] >= 0
    assert lines[3]["cores"] == cores()
    assert lines[3]["threads"] == torch.get_num_threads()
    assert len(os.listdir(tmp_run.tensorboard)) == 2


def test_pictures_are_in_tensorboard(tmp_run):
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[1, 2] = (255, 0, 9)
    Image.fromarray(picture).save(tmp_run.folder.parent / "one.png")
    with Metrics(tmp_run, "watch") as metrics:
        metrics.picture("array", 3, picture)
        metrics.picture("file", 4, tmp_run.folder.parent / "one.png")
    found = EventAccumulator(str(tmp_run.tensorboard)).Reload()
    for name, step in (("watch/array", 3), ("watch/file", 4)):
        (event,) = found.Images(name)
        assert event.step == step
        assert np.array_equal(Image.open(io.BytesIO(event.encoded_image_string)), picture)


def test_tensorboard_is_written_from_another_folder(tmp_path, monkeypatch):
    """As while a game starts in a folder of its own; the run is named from the first folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with Metrics(Run("run"), "stage") as metrics:
        metrics.log(0, number=1.0)
        with contextlib.chdir("elsewhere"):
            metrics.writer.add_scalar("stage/number", 2.0, 1)
            metrics.writer.flush()
    events = EventAccumulator("run/tensorboard").Reload()
    assert [event.value for event in events.Scalars("stage/number")] == [1.0, 2.0]


def test_the_command_is_kept(tmp_run, monkeypatch):
    monkeypatch.setattr("sys.argv", ["worldmodels encode", "--run", "here"])
    with Metrics(tmp_run, "encode"):
        pass
    assert Metrics.ends(tmp_run)[0]["command"] == "worldmodels encode --run here"


def test_metrics_count_the_cost_of_a_failed_stage_too(tmp_run):
    with pytest.raises(RuntimeError), Metrics(tmp_run, "encode"):
        raise RuntimeError
    assert json.loads(tmp_run.metrics.read_text())["stopped_by"] == "RuntimeError"


def test_half_a_last_line_is_skipped_and_then_overwritten(tmp_run, capsys):
    """A kill or a full disk leaves one; later commands go on."""
    with Metrics(tmp_run, "encode"):
        pass
    with open(tmp_run.metrics, "a") as file:
        file.write('{"stage": "enc')
    assert len(Metrics.lines(tmp_run)) == 1
    assert "the last line is incomplete" in capsys.readouterr().out
    with Metrics(tmp_run, "encode"):
        pass
    assert [line["event"] for line in Metrics.lines(tmp_run)] == ["end", "end"]


@pytest.mark.parametrize("line", ["half", "3", "[1]"])
def test_a_broken_line_is_named(tmp_run, line):
    tmp_run.folder.mkdir()
    good = '{"stage": "x"}'
    tmp_run.metrics.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(InputError, match=r"metrics.jsonl: line 2 is not one of ours"):
        Metrics.lines(tmp_run)


def test_what_was_spent_is_summed_by_stage_and_looking_is_free(tmp_path):
    runs = [Run(tmp_path / name) for name in "ab"]
    stages = ["collect", "collect", "inspect_dream", "evaluate"]
    for run, stage in zip([*runs, *runs], stages, strict=True):
        with Metrics(run, stage):
            pass
    first, second = (Metrics.ends(run)[0]["seconds"] for run in runs)
    last = Metrics.ends(runs[1])[1]["seconds"]
    assert Metrics.spent(runs) == {"collect": first + second, "evaluate": last}
    assert Metrics.making(runs) == first + second


def test_progress_is_silent_without_a_terminal(capfd):
    assert list(progress([1, 2], "label")) == [1, 2]
    with progress(3) as bar:
        bar.update(3)
    assert capfd.readouterr() == ("", "")


def test_a_check_outside_its_band_says_what_to_try(tmp_run, capsys):
    with Metrics(tmp_run, "train_vae") as metrics:
        assert metrics.check("kl", 5.0, 1.0, 9.0, "train longer")
        assert not metrics.check("kl", 0.5, 1.0, 9.0, "train longer")
        assert metrics.check("lead", 1.0, 0.0, 9.0, "learn", above=True)
        assert not metrics.check("lead", 0.0, 0.0, 9.0, "learn", above=True)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "looks wrong: kl is 0.5, below 1: train longer"
    assert said[1] == "looks wrong: lead is 0, not above 0: learn"
    assert json.loads(tmp_run.metrics.read_text().splitlines()[1])["good"] is False


def test_rounds_know_the_earlier_ones(tmp_run):
    assert tmp_run.number == 0
    assert tmp_run.round(2).number == 2
    earlier = [run.folder for run in tmp_run.round(2).earlier]
    assert earlier == [tmp_run.round(0).folder, tmp_run.round(1).folder]


def test_a_lock_nests_and_leaves_only_its_file(tmp_run):
    with tmp_run.lock(), Metrics(tmp_run.round(0), "collect"):
        assert (tmp_run.folder / ".lock.owner").read_text().startswith(f"process {os.getpid()} on ")
        with tmp_run.round(1).lock():
            pass
        assert (tmp_run.folder / ".lock.owner").exists()
    assert {".lock", "rounds"} == set(os.listdir(tmp_run.folder))


def test_a_disk_without_locks_is_told(tmp_run, monkeypatch, capsys):
    def flock(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with tmp_run.lock():
        assert tmp_run.folder.exists()
    line = capsys.readouterr().out
    assert "cannot be locked" in line
    assert line.count("\n") == 1
