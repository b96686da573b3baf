"""Figures of an inspection: each from the rows of a part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worldmodels.diagnostics.inspection import Rows
from worldmodels.diagnostics.table import line_of
from worldmodels.figure import new_figure, save_figure

DREAM, REAL, GREY = "tab:purple", "tab:green", "0.6"


def draw_figure(part: str, rows: Rows, title: str, folder: Path) -> None:
    """Writes folder/PART.png.

    Raises:
        InputError: matplotlib is missing.
    """
    figure = new_figure()
    if len(rows) == 1:
        title += f"\n{line_of(rows[0])}"
    figure.suptitle(title, fontsize="medium")
    FIGURES[part](figure, rows)
    save_figure(figure, folder / f"{part}.png", dpi=120)


def _likelihood(figure: Any, rows: Rows) -> None:
    axes = figure.subplots()
    lines = (
        ("nll", "M", DREAM, "o-"),
        ("entropy", "entropy of V's posterior (the floor)", REAL, "--"),
        ("copy_z", "normal about the last z seen", "tab:orange", "s-"),
        ("standard_normal", "N(0, 1)", GREY, ":"),
    )
    for name, label, color, style in lines:
        axes.plot(range(len(rows)), _column(rows, name), style, label=label, color=color)
    axes.set_xticks(range(len(rows)), [f"{r['steps_ahead']}\n({r['windows']})" for r in rows])
    axes.set(xlabel="steps ahead (number of windows)", ylabel="nats per dimension")
    axes.legend(fontsize="small")


def _termination(figure: Any, rows: Rows) -> None:
    figure.set_size_inches(10, 4)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for row, color, shift in zip(rows, (DREAM, REAL), (-0.2, 0.2), strict=True):
        names = "predicted", "observed", "count"
        predicted, observed, counts = (_column(row["bins"], name) for name in names)
        label = f"{row['probability']}, calibration error {row['ece']:.4f}"
        left.plot(predicted, observed, "o-", color=color, label=label)
        right.bar(np.arange(len(counts)) + shift, counts, 0.4, color=color)
    for scale in (left.set_xscale, left.set_yscale):
        scale("symlog", linthresh=1e-3)
    left.set(xlim=(0, 1.1), ylim=(0, 1.1), xlabel="predicted probability of the end")
    left.set_ylabel("observed frequency")
    edges = [f"{b['high']:g}" for b in rows[0]["bins"]]
    right.set_xticks(range(len(edges)), edges, fontsize="small")
    right.set(yscale="log", xlabel="predicted probability up to", ylabel="number of steps")
    left.legend()


def _pit(figure: Any, rows: Rows) -> None:
    density = np.array(rows[0]["histogram"], float)
    axes = figure.subplots()
    places = (np.arange(len(density)) + 0.5) / len(density)
    axes.bar(places, density, 0.95 / len(density), color=DREAM)
    axes.axhline(1.0, color="black", linewidth=1)
    axes.set_xlabel("P(z ≤ the next z) under M's mixture")
    axes.set_ylabel("density")


def _survival(figure: Any, rows: Rows) -> None:
    """A panel for each policy."""
    figure.set_size_inches(max(6.0, 3.5 * len(rows)), 4)
    survival = rows[0]["measure"] != "return"
    panels = np.ravel(figure.subplots(1, len(rows), sharey=survival, squeeze=False))
    for axes, row in zip(panels, rows, strict=True):
        for world, label, color in (("dream", "dream", DREAM), ("real", "reality", REAL)):
            curve = np.array(row["curves"][world], float)
            axes.plot(curve, color=color, label=f"{label}, mean {row[world]:.1f}")
        axes.set(title=row["policy"], xlabel="steps from the start")
        axes.legend(fontsize="small")
    panels[0].set_ylabel("share left" if survival else "mean return so far")


def _ranking(figure: Any, rows: Rows) -> None:
    axes, candidates = figure.subplots(), rows[0]["candidates"]
    for place, file in enumerate(dict.fromkeys(one["file"] for one in candidates)):
        mine = [one for one in candidates if one["file"] == file]
        names = "dream", "real", "real_error", "dream_error"
        style = {"fmt": "os^D"[place // 10 % 4], "ms": 4, "lw": 0.7}  # there are ten colours
        axes.errorbar(*(_column(mine, name) for name in names), label=file, **style)
    axes.set(xlabel="mean return in the dream", ylabel="mean return in reality")
    figure.legend(loc="outside right center", fontsize="small")


def _column(rows: Rows, name: str) -> np.ndarray:
    """The numbers of a column; NaN where there is none."""
    return np.array([row[name] for row in rows], float)


FIGURES: dict[str, Callable[[Any, Rows], None]] = {
    "likelihood": _likelihood,
    "termination": _termination,
    "pit": _pit,
    "survival": _survival,
    "ranking": _ranking,
    "neighbours": _ranking,
}
