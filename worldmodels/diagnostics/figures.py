"""Figures of an inspection: functions from what inspection.json holds to PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldmodels.diagnostics.summary import held_out_text
from worldmodels.figure import new_figure

DREAM, REAL, GREY = "tab:purple", "tab:green", "0.6"


def draw_figures(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draws the parts that the report has; returns the files.

    Raises:
        InputError: matplotlib is missing.
    """
    files = []
    for part, (title, draw) in FIGURES.items():
        if report.get(part):
            figure = new_figure()
            figure.suptitle(f"{title}\n({held_out_text(report, part)})", fontsize="medium")
            draw(figure, report[part])
            files.append(folder / f"{part}.png")
            figure.savefig(files[-1], dpi=120)
    return files


def _likelihood(figure: Any, rows: list[Mapping[str, Any]]) -> None:
    axes = figure.subplots()
    lines = (
        ("nll", "M", DREAM, "o-"),
        ("entropy", "entropy of V's posterior (the floor)", REAL, "--"),
        ("copy_z", "normal about the last z seen", "tab:orange", "s-"),
        ("standard_normal", "N(0, 1)", GREY, ":"),
    )
    for name, label, color, style in lines:
        values = np.array([row[name] for row in rows], float)
        axes.plot(range(len(rows)), values, style, label=label, color=color)
    axes.set_xticks(range(len(rows)), [f"{r['horizon']}\n({r['windows']})" for r in rows])
    axes.set_xlabel("steps ahead (number of windows)")
    axes.set_ylabel("nats per dimension")
    axes.legend(fontsize="small")


def _termination(figure: Any, part: Mapping[str, Any]) -> None:
    figure.set_size_inches(10, 4)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for name, color, shift in (("raw", DREAM, -0.2), ("corrected", REAL, 0.2)):
        keys = "predicted", "observed", "count"
        predicted, observed, counts = (
            np.array([b[key] for b in part[name]["bins"]], float) for key in keys
        )
        label = f"{name}, calibration error {part[name]['ece']:.4f}"
        left.plot(predicted, observed, "o-", color=color, label=label)
        right.bar(np.arange(len(counts)) + shift, counts, 0.4, color=color, label=name)
    for scale in (left.set_xscale, left.set_yscale):
        scale("symlog", linthresh=1e-3)
    left.set(xlim=(0, 1.1), ylim=(0, 1.1), xlabel="predicted probability of the end")
    left.set_ylabel("observed frequency")
    edges = [f"{b['high']:g}" for b in part["raw"]["bins"]]
    right.set_xticks(range(len(edges)), edges, fontsize="small")
    right.set(yscale="log", xlabel="predicted probability up to", ylabel="number of steps")
    left.legend()


def _pit(figure: Any, row: Mapping[str, Any]) -> None:
    density = np.array(row["histogram"], float)
    axes = figure.subplots()
    places = (np.arange(len(density)) + 0.5) / len(density)
    axes.bar(places, density, 0.95 / len(density), color=DREAM)
    axes.axhline(1.0, color="black", linewidth=1)
    axes.set_xlabel("P(z ≤ the next z) under M's mixture; uniform if the mixture is right")
    axes.set_ylabel("density")
    axes.set_title(
        f"KS distance {row['ks']:.3f}, worst dimension {row['worst_ks']:.3f}", fontsize="medium"
    )


def _survival(figure: Any, part: Mapping[str, Any]) -> None:
    """A panel for each policy."""
    rows, survival = part["policies"], part["kind"] == "survival"
    figure.set_size_inches(max(6.0, 3.5 * len(rows)), 4)
    panels = np.ravel(figure.subplots(1, len(rows), sharey=survival, squeeze=False))
    for axes, (name, row) in zip(panels, rows.items(), strict=True):
        for world, label, color in (("dream", "dream", DREAM), ("real", "reality", REAL)):
            curve = np.array(row["curves"][world], float)
            mean = row[part["kind"]][world]
            axes.plot(curve, color=color, label=f"{label}, mean {mean:.1f}")
        axes.set_title(name)
        axes.set_xlabel("steps from the start")
        axes.legend(fontsize="small")
    panels[0].set_ylabel("share alive" if survival else "mean return so far")


def _ranking(figure: Any, row: Mapping[str, Any]) -> None:
    axes = figure.subplots()
    for place, file in enumerate(dict.fromkeys(one["file"] for one in row["candidates"])):
        mine = [one for one in row["candidates"] if one["file"] == file]
        keys = ("dream", "real", "dream_error", "real_error")
        dream, real, *errors = ([one[key] for one in mine] for key in keys)
        style = {"fmt": "os^D"[place // 10 % 4], "ms": 4, "lw": 0.7}  # there are ten colours
        axes.errorbar(dream, real, errors[1], errors[0], label=file, **style)
    low, high = (np.nan if end is None else end for end in row["ci95"])
    rho = np.nan if row["spearman"] is None else row["spearman"]
    axes.set_title(
        f"rank correlation {rho:.2f} [{low:.2f}, {high:.2f}], ceiling {row['ceiling']:.2f}",
        fontsize="medium",
    )
    axes.set_xlabel("mean return in the dream")
    axes.set_ylabel("mean return in reality")
    figure.legend(loc="outside right center", fontsize="small")


FIGURES: dict[str, tuple[str, Callable[[Any, Any], None]]] = {
    "likelihood": ("How well M predicts z some steps ahead", _likelihood),
    "termination": ("Predicted probability and observed frequency of the end", _termination),
    "pit": ("Where the next z lies in M's mixture", _pit),
    "survival": ("The same policies from the same moments in dream and reality", _survival),
    "ranking": ("Mean returns of controllers in dream and reality", _ranking),
}
