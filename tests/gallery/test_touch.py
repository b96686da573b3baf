"""Touch performances: the public formats, the split, the baselines, responses."""

import numpy as np
import pytest
import torch

from worldmodels.errors import InputError
from worldmodels.gallery.system import initialised
from worldmodels.gallery.touch import (
    Split,
    Touch,
    baselines,
    read_performances,
    respond,
    taps,
    windows,
)
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig


def test_tiny_performance_arrays(performances):
    found = read_performances(performances)
    assert len(found) == 30
    assert found[0].shape == (20, 3)


def test_points_are_clipped_to_their_ranges(tmp_path):
    points = np.random.default_rng(0).uniform(size=(12 * 30, 3)) ** [1, 1, 4]
    points[::30, 2] = 0.0
    points[:2] = [[-0.5, 0.5, 0.0], [0.5, 2.0, 2000.0]]
    np.savez(tmp_path / "a.npz", points=points, offsets=np.arange(0, 361, 30))
    found = read_performances(tmp_path / "a.npz")
    np.testing.assert_allclose(found[0][:2], [[0, 0.5, 0], [0.5, 1, 5]])


def impsy(path, count=12, length=30, controls=3, seed=0):
    """An npz as IMPSY's: dt and any number of controls, in an object array `perfs`."""
    generator = np.random.default_rng(seed)
    array = np.empty(count, object)
    array[:] = [
        np.column_stack(
            [generator.exponential(0.05, n), generator.uniform(size=(n, controls))]
        ).astype(np.float32)
        for n in length + np.arange(count)
    ]
    np.savez_compressed(path, perfs=array)
    return array


@pytest.mark.parametrize("controls", [1, 2, 3, 8])
def test_impsys_npz_has_its_time_first(tmp_path, controls):
    raw = impsy(tmp_path / "a.npz", controls=controls)
    found = read_performances(tmp_path / "a.npz")
    assert len(found) == 12
    np.testing.assert_allclose(found[0], np.roll(raw[0], -1, axis=1))


def test_impsys_npz_of_one_log(tmp_path):
    """Of equally long arrays NumPy makes one array of single numbers, as objects."""
    raw = np.random.default_rng(0).uniform(size=(1, 400, 4)).astype(np.float32)
    np.savez_compressed(tmp_path / "a.npz", perfs=np.array(list(raw), dtype=object))
    found = read_performances(tmp_path / "a.npz")
    assert len(found) == 10
    np.testing.assert_allclose(np.concatenate(found).sum(), raw.sum(), rtol=1e-5)


def test_an_npz_that_does_not_say_what_its_columns_are_needs_a_word(tmp_path):
    for controls in (1, 2, 3):  # of three columns, the last one begins with no 0 seconds
        raw = impsy(tmp_path / "a.npz", controls=controls)
        points, offsets = np.concatenate(list(raw)), np.cumsum([0, *map(len, raw)])
        np.savez(tmp_path / "b.npz", points=points, offsets=offsets)
        with pytest.raises(InputError, match=r"does not say.*add --time first or --time last"):
            read_performances(tmp_path / "b.npz")
        found = read_performances(tmp_path / "b.npz", "first")
        np.testing.assert_allclose(found[0], np.roll(raw[0], -1, axis=1))


def test_a_few_long_performances_are_cut(tmp_path, capsys):
    raw = impsy(tmp_path / "a.npz", count=2, length=300)
    found = read_performances(tmp_path / "a.npz")
    assert len(found) == 10
    assert sum(map(len, found)) == sum(map(len, raw))
    assert "has 2 performances: they are cut into 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([300.0, 200.0, 0.01], "100% of control 1 lie outside of 0 to 1"),
        ([0.3, 0.2, 16.0], "times are not seconds"),
    ],
)
def test_other_units_are_refused(tmp_path, columns, message):
    points = np.tile(columns, (12 * 30, 1))
    np.savez(tmp_path / "a.npz", points=points, offsets=np.arange(0, 361, 30))
    with pytest.raises(InputError, match=message):
        read_performances(tmp_path / "a.npz", "last")


def test_what_is_clipped_is_counted(tmp_path, capsys):
    raw = np.random.default_rng(0).uniform(size=(1, 400, 4)).astype(np.float32)
    raw[0, 7], raw[0, 8, 0] = 1e9, -5.0
    np.savez_compressed(tmp_path / "a.npz", perfs=np.array(list(raw), dtype=object))
    found = np.concatenate(read_performances(tmp_path / "a.npz"))
    assert (found.min(), found.max()) == (0.0, 5.0)
    assert "2 of 400 touches are clipped: controls to 0 to 1" in capsys.readouterr().out


def test_impsy_logs(tmp_path):
    for number in range(12):
        lines = [
            "2026-11-25T10:00:00.000000,interface,0.25,0.5",
            "2026-11-25T10:00:00.100000,rnn,0.9,0.9",
            "2026-11-25T10:00:00.500000,interface,0.5,0.75",
        ]
        (tmp_path / f"{number:02d}-3d.log").write_text("\n".join(lines))
    found = read_performances(tmp_path)
    np.testing.assert_allclose(found[0], [[0.25, 0.5, 0], [0.5, 0.75, 0.5]], atol=1e-6)


def logs(tmp_path, *lines, controls=4):
    values = ",".join(["0.5"] * controls)
    good = [f"2026-11-25T10:00:{second:02d},interface,{values}" for second in range(12)]
    for number in range(12):
        (tmp_path / f"{number:02d}.log").write_text("\n".join([*good, *lines]) + "\n")


@pytest.mark.parametrize("controls", [1, 4])
def test_logs_may_have_any_number_of_controls(tmp_path, controls):
    logs(tmp_path, controls=controls)
    assert read_performances(tmp_path)[0].shape == (12, controls + 1)


@pytest.mark.parametrize("line", ["", "2026-11-25T10:", "2026-11-25T10:00:12,interface,x,y,z,w"])
def test_a_bad_line_of_a_log_is_skipped_and_named(tmp_path, capsys, line):
    logs(tmp_path, line)
    assert len(read_performances(tmp_path)[0]) == 12
    assert "00.log: skipped 1 of 13 records (line 13: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2026-11-25T10:00:12,interface,0.5", "different numbers of controls"),
        ("2026-11-25T09:00:00,interface,0.5,0.5,0.5,0.5", "touch 13 is before the one before it"),
    ],
)
def test_logs_that_contradict_themselves_are_refused(tmp_path, line, message):
    logs(tmp_path, line)
    with pytest.raises(InputError, match=message):
        read_performances(tmp_path)


@pytest.mark.parametrize(
    "line", ["yesterday,interface,0.2,0.3", "2026-11-25T10:00:00,interface,a,b"]
)
def test_foreign_logs_are_named(tmp_path, line):
    (tmp_path / "a.log").write_text(line)
    with pytest.raises(InputError, match=r"a\.log: line 1: .*use another file"):
        read_performances(tmp_path)


def test_too_few_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", points=np.zeros((4, 3)), offsets=np.array([0, 2, 4]))
    with pytest.raises(InputError, match="has 2 performances"):
        read_performances(tmp_path / "a.npz", "last")


def split_of(count=40, seed=0):
    generator = np.random.default_rng(seed)
    made = [generator.uniform(0, 1, (int(generator.integers(5, 30)), 3)) for _ in range(count)]
    return Split.of([part.astype(np.float32) for part in made], 0)


def test_whole_performances_are_held_out():
    split = split_of()
    assert (len(split.train), len(split.test)) == (36, 4)
    together = np.concatenate(split.train)
    np.testing.assert_allclose(together.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(together.std(0), 1, atol=1e-5)
    seen = {part.tobytes() for part in split.train}
    assert not any(part.tobytes() in seen for part in split.test)


def test_windows_lie_within_performances():
    split = split_of()
    values, known = windows(split.train[:3], 12, np.random.default_rng(0))
    for row in range(3):
        count = int(known[row].sum()) + 1
        assert count == min(12, len(split.train[row]))
        whole = torch.from_numpy(split.train[row]).float()
        stretches = whole.unfold(0, count, 1).mT
        assert (stretches == values[row, :count]).all(-1).all(-1).any()
        assert (values[row, count:] == 0).all()


def test_a_normal_beats_persistence_where_touches_forget():
    found = baselines(split_of(400))
    uniform = 3 * 0.5 * np.log(2 * np.pi * np.e)  # a normal's, in units of the deviation
    assert found["normal"] == pytest.approx(uniform, abs=0.1)
    assert found["persistence"] == pytest.approx(uniform + 1.5 * np.log(2), abs=0.1)


def test_responses_fill_their_time():
    split = split_of()
    config = MDNRNNConfig(hidden_size=8, num_mixtures=3, mixture="joint")
    model = initialised(0, "touch", make=lambda: MDNRNN(config, 3, 0))
    generator = torch.Generator().manual_seed(0)
    played = respond(model, split, split.test[0], Touch(seconds=3.0), generator)
    assert played[:, 2].sum() >= 3.0 > played[:-1, 2].sum()
    assert (played >= 0).all()
    assert (played[:, :2] <= 1).all()


def test_taps_are_touches_alone():
    times = np.array([0.0, 0.01, 0.5, 0.5, 0.01, 0.01, 0.9])
    performance = np.column_stack([np.zeros((7, 2)), times]).astype(np.float32)
    assert taps(performance) == pytest.approx(2 / 4)
