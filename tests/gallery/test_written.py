"""Written words: invented ones in Hershey's fonts, the cursive set, IAM-OnDB."""

import numpy as np
import pytest

from worldmodels.errors import InputError
from worldmodels.gallery.drawings import strokes_of
from worldmodels.gallery.written import (
    FONTS,
    HELD_OUT_FONTS,
    Words,
    hershey_words,
    invented_words,
    printed,
    read_words,
)

INK = (
    '<?xml version="1.0"?><WhiteboardCaptureSession><StrokeSet>{}</StrokeSet>'
    "</WhiteboardCaptureSession>"
)
STROKE = '<Stroke><Point x="{0}" y="5" time="1"/><Point x="{1}" y="90" time="2"/></Stroke>'


def test_invented_words_are_many_and_short():
    words = invented_words(500, np.random.default_rng(0))
    assert len(set(words)) == 500
    assert all(3 <= len(word) <= 7 and word.isalpha() for word in words)
    assert words[:5] == invented_words(5, np.random.default_rng(0))


def test_held_out_fonts_have_other_glyphs():
    for letter in "aegk":
        designs = [
            tuple(map(len, printed(letter, font, 0.0))) for font in (*FONTS, *HELD_OUT_FONTS)
        ]
        assert len(set(designs)) == len(designs)


def test_each_text_in_each_font_in_a_hand_of_its_own():
    generator = np.random.default_rng(0)
    words = hershey_words(["bad", "cab"], FONTS, 0.0, 0.01, generator)
    assert [word.text for word in words] == ["bad"] * len(FONTS) + ["cab"] * len(FONTS)
    again = hershey_words(["bad"], FONTS[:1], 0.0, 0.01, generator)[0]
    assert again.drawing.shape == words[0].drawing.shape
    assert not np.allclose(again.drawing, words[0].drawing)
    wide = np.ptp(np.concatenate(strokes_of(words[0].drawing)), axis=0)
    assert wide[0] > wide[1]


def test_words_are_scaled_by_training():
    words = hershey_words(["bad", "cab", "deaf"], FONTS, 0.0, 0.0, np.random.default_rng(0))
    known = 2 * len(FONTS)  # not the word that has other letters
    data = Words.of(words[:known], words[known:], [])
    assert np.concatenate([w.drawing[:, :2] for w in data.train]).std() == pytest.approx(1)
    assert data.letters == "abcd"


def test_a_writer_is_told_the_font_or_not():
    words = hershey_words(["bad", "cab"], FONTS[:2], 0.02, 0.0, np.random.default_rng(0))
    assert [word.font for word in words] == [0, 1, 0, 1]
    data = Words.of(words, words, [])
    codes, known = data.codes(["ab", "cab"], [1, -1])
    assert codes.shape == (2, 4, data.symbol_size) == (2, 4, 4 + 1 + 2)
    assert codes[0, :3, -2:].tolist() == [[0, 1]] * 3
    assert codes[0, 3].sum() == codes[1, :, -2:].sum() == 0
    assert known.sum(1).tolist() == [3, 4]


def test_the_cursive_set(tmp_path):
    texts = np.array([f"w{i}" for i in range(30)])
    word = np.array([[0, 0, 1], [0.1, 0.5, 1], [0.2, 0, 0], [0.3, 0, 1], [0.4, 0.2, 1]], np.float32)
    points, offsets = np.tile(word, (30, 1)), np.arange(0, 151, 5)
    np.savez(tmp_path / "c.npz", points=points, offsets=offsets, text=texts)
    words = read_words(tmp_path / "c.npz", 0.001, 100)
    assert len(words.train) == 27
    assert not {w.text for w in words.train} & {w.text for w in words.valid}
    strokes = strokes_of(words.train[0].drawing)
    assert [len(stroke) for stroke in strokes] == [3, 2]
    width = np.ptp(np.concatenate(strokes)[:, 0]) * words.scale
    assert width == pytest.approx(0.4 * 6, rel=1e-4)


def iam(tmp_path, lines=20):
    folder = tmp_path / "iam"
    ink, ascii_ = folder / "lineStrokes/a01/a01-000", folder / "ascii/a01/a01-000"
    ink.mkdir(parents=True)
    ascii_.mkdir(parents=True)
    text = "OCR:\n\nwrong\n\nCSR:\n\n" + "\n".join(f"line {i}" for i in range(lines))
    (ascii_ / "a01-000u.txt").write_text(text)
    for i in range(lines):
        strokes = STROKE.format(i, i + 40) + STROKE.format(i + 100, i + 300)
        (ink / f"a01-000u-{i + 1:02d}.xml").write_text(INK.format(strokes))
    return folder


def test_iam_on_db(tmp_path):
    words = read_words(iam(tmp_path), 0.01, 100)
    assert len(words.train) + len(words.valid) == 20
    by_text = {word.text: word for word in words.train}
    stroke = strokes_of(by_text["line 3"].drawing)[0] * words.scale
    np.testing.assert_allclose(stroke[1] - stroke[0], [40, 85], rtol=1e-4)


@pytest.mark.parametrize("content", ["<no", INK.format(""), INK.format("<Stroke/>")])
def test_a_line_without_strokes_is_skipped_and_named(tmp_path, capsys, content):
    folder = iam(tmp_path)
    (folder / "lineStrokes/a01/a01-000/a01-000u-02.xml").write_text(content)
    words = read_words(folder, 0.01, 100)
    assert len(words.train) + len(words.valid) == 19
    assert "skipped 1 of 20 records" in (shown := capsys.readouterr().out)
    assert "a01-000u-02.xml is not an IAM-OnDB line" in shown


def test_a_huge_offset_is_skipped(tmp_path, capsys):
    folder = iam(tmp_path)
    ink = INK.format(STROKE.format(0, 40) + STROKE.format(0, 10**9))
    (folder / "lineStrokes/a01/a01-000/a01-000u-02.xml").write_text(ink)
    words = read_words(folder, 0.01, 100)
    assert len(words.train) + len(words.valid) == 19
    assert words.scale < 1000
    assert "a01-000u-02.xml: an offset of 1e+09 is 100 times larger" in capsys.readouterr().out


def test_an_inverted_pen_is_refused(tmp_path):
    texts = np.array([f"w{i}" for i in range(30)])
    word = np.array([[0, 0, 0], [0.1, 0.5, 0], [0.2, 0, 1], [0.3, 0, 0], [0.4, 0.2, 0]], np.float32)
    points, offsets = np.tile(word, (30, 1)), np.arange(0, 151, 5)
    np.savez(tmp_path / "c.npz", points=points, offsets=offsets, text=texts)
    with pytest.raises(InputError, match="It must be 1 where the pen is down"):
        read_words(tmp_path / "c.npz", 0.001, 100)


def test_foreign_files_are_named(tmp_path):
    folder = iam(tmp_path)
    for path in folder.rglob("*.xml"):
        path.write_text("<no")
    with pytest.raises(InputError, match=r"20 of 20 records.*a01-000u-01\.xml is not an IAM-OnDB"):
        read_words(folder, 0.01, 100)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not IAM-OnDB"):
        read_words(tmp_path / "empty", 0.01, 100)
    np.savez(tmp_path / "a.npz", points=np.zeros((4, 3)), offsets=np.array([0, 4]))
    with pytest.raises(InputError, match="text"):
        read_words(tmp_path / "a.npz", 0.01, 100)
    np.savez(tmp_path / "b.npz", points=np.zeros((4, 3)), offsets=np.array([0, 4]), text=["a", "b"])
    with pytest.raises(InputError, match="1 words of x, y, pen and 2 texts"):
        read_words(tmp_path / "b.npz", 0.01, 100)
