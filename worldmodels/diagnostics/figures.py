"""Figures of an inspection: functions from what inspection.json holds to PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldmodels.figure import new_figure

DREAM, REAL, GREY = "tab:purple", "tab:green", "0.6"


def draw_figures(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws what the report has; the files.

    Raises:
        InputError: matplotlib is missing.
    """
    drawn = []
    for part, draw in PAINTERS.items():
        if report.get(part):
            figure = new_figure()
            draw(figure, report)
            drawn.append(folder / f"{part}.png")
            figure.savefig(drawn[-1], dpi=120)
    return drawn


def _likelihood(figure: Any, report: Mapping[str, Any]) -> None:
    rows = report["likelihood"]
    axes = figure.subplots()
    lines = (
        ("nll", "M", DREAM, "o-"),
        ("nll_limit", "M, endless samples", DREAM, "o:"),
        ("entropy", "posterior's entropy: the floor", REAL, "--"),
        ("copy_z", "copy z", "tab:orange", "s-"),
        ("data_normal", "the data's own normal", GREY, "-"),
        ("standard_normal", "N(0, 1)", GREY, ":"),
    )
    for name, label, color, style in lines:
        values = np.array([row[name] for row in rows], float)
        axes.plot(range(len(rows)), values, style, label=label, color=color)
    axes.set_xticks(range(len(rows)), [f"{r['horizon']}\n({r['windows']})" for r in rows])
    axes.set_xlabel("steps ahead (windows)")
    axes.set_ylabel("nats per dimension of the real z")
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")


def _termination(figure: Any, report: Mapping[str, Any]) -> None:
    figure.set_size_inches(10, 4)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for (name, color), shift in zip(
        (("raw", DREAM), ("corrected", REAL)), (-0.2, 0.2), strict=True
    ):
        row = report["termination"][name]
        predicted, observed, counts = (
            np.array([b[key] for b in row["bins"]], float)
            for key in ("predicted", "observed", "count")
        )
        left.plot(predicted, observed, "o-", color=color, label=f"{name}, ECE {row['ece']:.4f}")
        right.bar(np.arange(len(counts)) + shift, counts, 0.4, color=color, label=name)
    for scale in (left.set_xscale, left.set_yscale):
        scale("symlog", linthresh=1e-3)
    left.set(xlim=(0, 1.1), ylim=(0, 1.1), xlabel="predicted probability of the end")
    left.set_ylabel("observed frequency")
    edges = [f"{b['high']:g}" for b in report["termination"]["raw"]["bins"]]
    right.set_xticks(range(len(edges)), edges, fontsize="small")
    right.set(yscale="log", xlabel="predicted probability up to", ylabel="steps")
    left.legend()


def _pit(figure: Any, report: Mapping[str, Any]) -> None:
    row = report["pit"]
    density = np.array(row["histogram"], float)
    axes = figure.subplots()
    places = (np.arange(len(density)) + 0.5) / len(density)
    axes.bar(places, density, 0.95 / len(density), color=DREAM)
    axes.axhline(1.0, color="black", linewidth=1)
    axes.set_xlabel("P(z ≤ the next z) under M's mixture")
    axes.set_ylabel("density")
    axes.set_title(f"KS distance {row['ks']:.3f}, worst dimension {row['worst_ks']:.3f}")


def _survival(figure: Any, report: Mapping[str, Any]) -> None:
    rows = report["survival"]["policies"]
    _panels(figure, rows, report["survival"])


def _recorded(figure: Any, report: Mapping[str, Any]) -> None:
    name = "the collecting policy, beside what was recorded"
    _panels(figure, {name: report["recorded"]}, report["recorded"])


def _panels(figure: Any, rows: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Two curves each, side by side on one scale."""
    lives = about["kind"] == "survival"
    figure.set_size_inches(max(6.0, 3.5 * len(rows)), 4)
    panels = np.ravel(figure.subplots(1, len(rows), sharey=lives, squeeze=False))
    for axes, (name, row) in zip(panels, rows.items(), strict=True):
        for world, color in (("dream", DREAM), ("real", REAL)):
            curve = np.array(row["curves"][world], float)
            mean = row[about["kind"]][world]
            axes.plot(curve, color=color, label=f"{world}: mean {mean:.1f}")
            if lives:
                error = 1.96 * np.sqrt(curve * (1 - curve) / about["starts"])
                band = (curve - error).clip(0, 1), (curve + error).clip(0, 1)
                axes.fill_between(np.arange(len(curve)), *band, color=color, alpha=0.15, lw=0)
        axes.set_title(name)
        axes.set_xlabel("steps from the start")
        axes.legend(fontsize="small")
    panels[0].set_ylabel("share alive" if lives else "mean return so far")


def _ranking(figure: Any, report: Mapping[str, Any]) -> None:
    row = report["ranking"]
    axes = figure.subplots()
    for place, file in enumerate(dict.fromkeys(one["file"] for one in row["candidates"])):
        mine = [one for one in row["candidates"] if one["file"] == file]
        keys = ("dream", "real", "dream_error", "real_error")
        dream, real, *errors = ([one[key] for one in mine] for key in keys)
        style = {"fmt": "os^D"[place // 10 % 4], "ms": 4, "lw": 0.7}  # there are ten colours
        axes.errorbar(dream, real, errors[1], errors[0], label=file, **style)
    low, high = row["ci95"]
    interval = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    axes.set_title(f"ρ = {row['spearman'] or np.nan:.2f}{interval}, ceiling {row['ceiling']:.2f}")
    axes.set_xlabel("mean return in the dream")
    axes.set_ylabel("mean return in reality")
    figure.legend(loc="outside right center", fontsize="small")


PAINTERS: dict[str, Callable[[Any, Mapping[str, Any]], None]] = {
    "likelihood": _likelihood,
    "termination": _termination,
    "pit": _pit,
    "survival": _survival,
    "recorded": _recorded,
    "ranking": _ranking,
}
