"""Figures in pages: text in the page's colour, ids of their own, the same bytes again."""

import re

import matplotlib as mpl

from worldmodels.figure import svg_of


def draw(figure):
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0], "o-", label="a line")
    axes.axhline(0.5, color="black")
    axes.set_xlabel("steps")
    axes.legend()


def test_a_figure_fits_in_a_page():
    before = dict(mpl.rcParams)
    svg = svg_of("curve", draw, 5, 3)
    assert dict(mpl.rcParams) == before
    assert svg.startswith("<svg ")
    assert ">steps</text>" in svg
    assert "currentColor" in svg
    assert "#000000" not in svg
    assert "min-width: 288px" in svg
    assert not re.search(r"<svg[^>]* (width|height)=", svg)
    assert svg_of("curve", draw, 5, 3) == svg


def test_two_figures_share_no_id():
    ids = [set(re.findall(r'id="([^"]*)"', svg_of(name, draw))) for name in ("one", "two")]
    assert not ids[0] & ids[1]
    svg = svg_of("one", draw)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]*)', svg))
    assert used
    assert used <= ids[0]
