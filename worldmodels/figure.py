"""Matplotlib figures without a display and without global state."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodels.errors import InputError, install
from worldmodels.files import replacing

INK = "#010203"
"""Stands for the page's own colour of text, which only the page knows."""


def new_figure(width: int | float = 6, height: int | float = 4) -> Any:
    """An empty matplotlib Figure; width and height in inches.

    Raises:
        InputError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError(f"figures need matplotlib: {install('figures')}") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path, dpi: int) -> None:
    """Writes a figure as PNG, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


def svg_of(
    name: str, draw: Callable[[Any], None], width: int | float = 5, height: int | float = 3.2
) -> str:
    """A figure as SVG for a page: text stays text, in the page's own colour.

    Equal figures give equal bytes.

    Args:
        name: begins the ids in it, so that several figures fit in one page.
        draw: draws on the Figure that it is given.
        width: of the figure, in inches.
        height: of the figure, in inches.

    Raises:
        InputError: matplotlib is missing.
    """
    figure, written = new_figure(width, height), io.StringIO()
    from matplotlib import rc_context

    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style: Any = dict.fromkeys(ink, INK)
    style |= {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10.0}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    style |= {"axes.facecolor": "none"}
    with rc_context(style):
        draw(figure)
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    # it fills its place, but stays readable: a wide one is scrolled on a telephone
    points = figure.get_figwidth() * 72
    limits = f'style="min-width: {0.8 * points:.0f}px; max-width: {1.45 * points:.0f}px"'
    text = re.sub(
        r'<svg (.*?)width="\S+" height="\S+"|<svg (.*?)height="\S+" width="\S+"',
        rf"<svg {limits} \1\2",
        text,
        count=1,
        flags=re.S,
    )
    return text.replace(INK, "currentColor").replace("#000000", "currentColor")
