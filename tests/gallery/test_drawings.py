"""Drawings: the public formats, scaling, padding."""

import json

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_packed_sequence

from worldmodels.errors import InputError
from worldmodels.gallery.drawings import (
    DRAW,
    END,
    LIFT,
    Drawings,
    batch_of,
    dequantised,
    from_strokes,
    jittered,
    read_drawings,
    similar_rows,
    simplified,
    strokes_of,
)


def test_sketch_rnns_npz(sketches):
    data = read_drawings(sketches, 100)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [40, 8, 8]
    offsets = np.concatenate([d[:, :2] for d in data.train])
    assert offsets.std() == pytest.approx(1, rel=1e-5)
    assert data.scale == pytest.approx(10, rel=0.2)


@pytest.mark.parametrize("prefixed", [True, False])
def test_points_and_offsets(tmp_path, scribbles, prefixed):
    drawings = scribbles(60)
    points, offsets = np.concatenate(drawings), np.cumsum([0, *map(len, drawings)])
    names = ["train_", "valid_", "test_"] if prefixed else [""]
    members = {
        f"{name}{key}": value
        for name in names
        for key, value in (("points", points), ("offsets", offsets))
    }
    np.savez(tmp_path / "a.npz", **members)
    data = read_drawings(tmp_path / "a.npz", 100)
    assert [len(p) for p in (data.train, data.valid, data.test)] == (
        [60] * 3 if prefixed else [54, 3, 3]
    )
    first = data.train[0][:, :2] * data.scale
    np.testing.assert_allclose(first, drawings[0 if prefixed else 2][:, :2], rtol=1e-5)


def test_quick_draws_ndjson(quick_draw):
    data = read_drawings(quick_draw, 100)
    assert len(data.train) + len(data.valid) + len(data.test) == 40  # recognised ones
    assert (data.train[0][:, 2] == [0, 0, 1, 0, 1]).all()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"strokes": np.zeros(3)}, "these lists of drawings: none"),
        ({"points": np.zeros((4, 3)), "offsets": np.array([0, 5])}, "offsets end at 5"),
        ({"points": np.zeros((4, 3)), "offsets": np.array([0, 3, 2, 4])}, "do not rise"),
        (
            {"points": np.zeros((80, 2)), "offsets": np.arange(0, 81, 2)},
            r"\(2, 2\) is not \(points, 3\)",
        ),
        ({"points": np.full((80, 3), np.nan), "offsets": np.arange(0, 81, 2)}, "finite"),
        ({"points": np.zeros((1, 3)), "offsets": np.array([0, 1])}, "0 train drawings of 2 to 100"),
        (
            {
                f"{n}_{k}": v
                for n in ("a", "b")
                for k, v in (("points", np.zeros((9, 3))), ("offsets", [0, 9]))
            },
            "these lists of drawings: a, b. One is needed",
        ),
    ],
)
def test_foreign_files_are_named(tmp_path, members, message):
    np.savez(tmp_path / "a.npz", **members)
    with pytest.raises(InputError, match=message):
        read_drawings(tmp_path / "a.npz", 100)


@pytest.mark.parametrize(
    "text", ["no json", json.dumps({"word": "cat"}), json.dumps({"drawing": 3})]
)
def test_foreign_lines_are_named(tmp_path, text):
    (tmp_path / "a.ndjson").write_text(text)
    with pytest.raises(InputError, match=r"a\.ndjson: line 1: .*use another file"):
        read_drawings(tmp_path / "a.ndjson", 100)


GOOD = '{"drawing": [[[0, 5, 9], [1, 2, 3]], [[4, 8], [0, 6]]]}'
BAD_LINES = {
    '{"drawing": []}': "it has no points",
    '{"drawing": [[[], []]]}': "it has no points",
    "   ": "it is blank",
    '{"word": "cat"}': "'drawing'",
    '{"drawing": [[[0, 1], [0, 1, 2]]]}': "",
    '{"drawing": [[["0", "1"], ["1", "2"]]]}': "a stroke is not",
    '{"drawing": [[[true, false], [true, true]]]}': "a stroke is not",
    '{"drawing": [[[0, NaN], [1, 2]]]}': "not finite",
    '{"drawing": [[[0, 1e300], [1, 2]]]}': "not finite",
    '{"drawing": "cat"}': "",
    "[1, 2]": "",
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.items())
def test_a_bad_line_is_skipped_and_named(tmp_path, capsys, line, reason):
    path = tmp_path / "a.ndjson"
    path.write_text("\n".join([*[GOOD] * 30, line, *[GOOD] * 29]) + "\n", encoding="utf-8")
    data = read_drawings(path, 100)
    assert len(data.train) + len(data.valid) + len(data.test) == 59
    shown = capsys.readouterr().out
    assert f"{path}: skipped 1 of 60 records (line 31: " in shown
    assert reason in shown


def test_marks_of_text_files_change_nothing(tmp_path, capsys):
    """A byte order mark, Windows' line ends, and U+2028, which ends a line for some readers."""
    word = GOOD.replace("{", '{"word": "c\u2028at", ', 1)
    text = "\ufeff" + "\r\n".join([word] * 60) + "\r\n"
    (tmp_path / "a.ndjson").write_bytes(text.encode("utf-8"))
    data = read_drawings(tmp_path / "a.ndjson", 100)
    assert len(data.train) + len(data.valid) + len(data.test) == 60
    assert capsys.readouterr().out == ""


def test_a_truncated_tail_is_skipped(tmp_path, capsys):
    whole = "\n".join([GOOD.replace("}", ', "word": "é"}')] * 60).encode("utf-8")
    path = tmp_path / "a.ndjson"
    path.write_bytes(whole[: whole.rfind("é".encode()) + 1])  # within a letter
    data = read_drawings(path, 100)
    assert len(data.train) + len(data.valid) + len(data.test) == 59
    assert "skipped 1 of 60 records (line 60: " in capsys.readouterr().out


def saved(path, drawings, **more):
    points, offsets = np.concatenate(drawings), np.cumsum([0, *map(len, drawings)])
    np.savez(path, points=points, offsets=offsets, **more)
    return path


def test_bad_drawings_of_an_npz_are_skipped(tmp_path, capsys, scribbles):
    drawings = scribbles(60)
    drawings[3][1, 0] = 1e9
    drawings[5] = drawings[5][:0]
    drawings[8][0, 1] = np.inf
    drawings[9][0, 2] = 0.5
    path = saved(tmp_path / "a.npz", drawings, word=np.array(["cat"] * 60))
    data = read_drawings(path, 100)
    assert len(data.train) + len(data.valid) + len(data.test) == 56
    assert data.scale == pytest.approx(1, rel=0.1)  # not that of the outlier
    shown = capsys.readouterr().out
    assert "skipped 4 of 60 records (points 4: an offset of 1e+09 is 100 times larger" in shown
    assert "points 6: it is empty; points 9: it is not finite; ..." in shown


def test_absolute_points_and_an_inverted_pen_are_refused(tmp_path):
    generator, drawings = np.random.default_rng(0), []
    for _ in range(60):  # four strokes of small steps, from anywhere on a screen
        strokes = [
            generator.uniform(0, 255, 2) + generator.normal(0, 9, (8, 2)).cumsum(0)
            for _ in range(4)
        ]
        drawings.append(from_strokes(strokes))
    assert read_drawings(saved(tmp_path / "good.npz", drawings), 100).train
    absolute = [np.column_stack([d[:, :2].cumsum(0), d[:, 2]]) for d in drawings]
    centred = [np.column_stack([d[:, :2] - d[:, :2].mean(0), d[:, 2]]) for d in absolute]
    for kind in (absolute, centred):
        with pytest.raises(InputError, match=r"a\.npz: the points look absolute"):
            read_drawings(saved(tmp_path / "a.npz", kind), 100)
    inverted = [np.column_stack([d[:, :2], 1 - d[:, 2]]) for d in drawings]
    with pytest.raises(InputError, match=r"a\.npz: the third column is mostly 1"):
        read_drawings(saved(tmp_path / "a.npz", inverted), 100)


def test_drawings_without_extent_are_refused(tmp_path):
    drawings = [np.array([[0, 0, 0], [0, 0, 1]])] * 60
    with pytest.raises(InputError, match=r"have the deviation 0\.0"):
        read_drawings(saved(tmp_path / "a.npz", drawings), 100)


def test_strokes_there_and_back():
    strokes = [np.array([[1.0, 2.0], [3.0, 2.0]]), np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])]
    drawing = from_strokes(strokes)
    assert drawing.tolist() == [[0, 0, 0], [2, 0, 1], [-3, -2, 0], [1, 1, 0], [1, -1, 1]]
    for found, stroke in zip(strokes_of(drawing), strokes, strict=True):
        np.testing.assert_allclose(found + strokes[0][0], stroke)


def test_simplified_keeps_corners():
    line = np.column_stack([np.linspace(0, 1, 50), np.zeros(50)])
    corner = np.concatenate([line, line[-1] + line[1:, ::-1]])
    np.testing.assert_allclose(simplified(corner, 0.01), [[0, 0], [1, 0], [1, 1]], atol=1e-6)


def test_a_batch_knows_what_is_there():
    drawings = [
        np.array([[1, 2, 0], [3, 4, 1], [5, 6, 1]], np.float32),
        np.array([[0, 0, 0], [7, 8, 1]], np.float32),
    ]
    batch = batch_of(drawings)
    assert batch.offsets[:, 0].abs().sum() == 0
    assert batch.offsets[1].tolist() == [[0, 0], [0, 0], [7, 8], [0, 0]]
    assert batch.pens.tolist() == [[DRAW, DRAW, LIFT, END], [DRAW, DRAW, END, DRAW]]
    assert batch.known.tolist() == [[True, True, True], [True, True, False]]
    assert batch.moved.tolist() == [[True, True, True], [False, True, False]]
    points = pad_packed_sequence(batch.packed(batch.pens[..., None].float()), True)[0]
    assert points[0].tolist() == [[1, 2, DRAW], [3, 4, LIFT], [5, 6, END]]
    assert points[1].tolist() == [[0, 0, DRAW], [7, 8, END], [0, 0, 0]]


def test_jitter_stretches_and_keeps_the_pen():
    drawing = np.array([[1, 2, 0], [3, 4, 1]], np.float32)
    found = jittered(drawing, np.random.default_rng(0))
    factors = found[:, :2] / drawing[:, :2]
    assert np.ptp(factors, axis=0) == pytest.approx([0, 0], abs=1e-6)
    assert (np.abs(factors - 1) <= 0.1).all()
    assert (found[:, 2] == drawing[:, 2]).all()


def test_long_drawings_are_left_out(scribbles):
    parts = {name: scribbles(30) for name in ("train", "valid", "test")}
    data = Drawings.of(parts, 8)
    assert max(len(d) for d in data.train) <= 8
    assert data.longest <= 8


def test_batches_are_of_like_lengths_and_see_everything():
    lengths = np.random.default_rng(0).integers(5, 100, 200)
    sequences = [range(length) for length in lengths]
    batches = [similar_rows(sequences, 20, 3, step) for step in range(160)]
    assert set(np.concatenate(batches)) == set(range(200))
    kept = [lengths[rows].sum() / (len(rows) * lengths[rows].max()) for rows in batches]
    assert np.mean(kept) > 0.9  # of the points; about .5 if any sat beside any
    longest = [lengths[rows].max() for rows in batches]
    assert np.corrcoef(longest[:-1], longest[1:])[0, 1] < 0.3  # short and long in no order
    again = similar_rows(sequences, 20, 3, 17)
    assert (again == batches[17]).all()


def test_noise_fills_the_cells_of_the_grid(scribbles):
    drawings = [np.round(4 * d) / 4 for d in scribbles(300)]
    for drawing in drawings[:100]:
        drawing[0, :2] = 0  # the start itself, which is no number to be predicted
    batch = batch_of(drawings)
    noisy = dequantised(batch, 0.25, torch.Generator().manual_seed(0))
    noise = (noisy.offsets - batch.offsets)[:, 1:]
    assert not noise[~batch.moved].any()
    assert not noise[:100, 0].any()
    assert noise.abs().max() <= 0.125 + 1e-6
    assert noise[batch.moved].var() == pytest.approx(0.25**2 / 12, rel=0.05)


def test_simplified_drawings_keep_their_strokes_and_lose_points(scribbles):
    line = np.linspace([0, 0], [9, 0], 10).astype(np.float32)
    drawing = from_strokes([line, line + np.array([0, 3])])
    parts = {name: [drawing + np.array([0.5, 0, 0])] * 4 for name in ("train", "valid", "test")}
    found = Drawings.of(parts, 100, 0.1)
    assert found.still
    assert [len(stroke) for stroke in strokes_of(found.train[0])] == [2, 2]
    ends = found.scale * np.concatenate(strokes_of(found.train[0]))
    np.testing.assert_allclose(ends[1] - ends[0], [13.5, 0], rtol=1e-5)
