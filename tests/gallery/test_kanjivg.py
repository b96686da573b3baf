"""KanjiVG's characters as drawings."""

import pytest

from worldmodels.errors import InputError
from worldmodels.gallery.drawings import strokes_of
from worldmodels.gallery.kanji import kanjivg_files, read_kanjivg


def test_the_package_has_all_kanji():
    files = kanjivg_files()
    assert len(files) > 6000
    assert [files[0].stem, files[1].stem] == ["04e00", "04e01"]  # one, and a nail


def test_one_is_a_line_and_love_has_thirteen_strokes():
    files = {file.stem: file for file in kanjivg_files()}
    one, love = read_kanjivg([files["04e00"], files["0611b"]], 1.0)
    assert one[:, 2].sum() == 1
    assert love[:, 2].sum() == 13
    (line,) = strokes_of(one)
    width, height = abs(line[-1] - line[0])
    assert width > 80
    assert height < 20


def test_a_larger_epsilon_keeps_fewer_points():
    files = kanjivg_files()[:20]
    fine, coarse = (sum(map(len, read_kanjivg(files, epsilon))) for epsilon in (0.1, 4.0))
    assert fine > 1.5 * coarse


def test_foreign_folders_and_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no KanjiVG file"):
        kanjivg_files(tmp_path)
    for content in (
        "<no svg",
        "<svg/>",
        '<svg xmlns="http://www.w3.org/2000/svg"><path d="?"/></svg>',
    ):
        (tmp_path / "04e00.svg").write_text(content)
        with pytest.raises(InputError, match=r"04e00\.svg is not an SVG of KanjiVG"):
            read_kanjivg(kanjivg_files(tmp_path), 1.0)


def test_a_huge_offset_is_skipped(tmp_path, capsys):
    line = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M 5,{0} L 90,40"/></svg>'
    for number in range(20):
        last = 10**9 if number == 7 else number
        (tmp_path / f"04e{number:02x}.svg").write_text(line.format(last))
    drawings = read_kanjivg(kanjivg_files(tmp_path), 1.0)
    assert len(drawings) == 19
    assert "04e07.svg: an offset of 1e+09 is 100 times larger" in capsys.readouterr().out
