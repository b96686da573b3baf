"""Inspect a dream: numbers and figures of how it differs from reality, on held-out episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from worldmodels.diagnostics.figures import FIGURES, draw_figure
from worldmodels.diagnostics.fireballs import fireballs
from worldmodels.diagnostics.inspection import Inspected, Inspection, InspectSections, Rows
from worldmodels.diagnostics.prediction import likelihood, pit, reward, risk, termination
from worldmodels.diagnostics.ranking import neighbours, ranking
from worldmodels.diagnostics.reconstruction import reconstruction
from worldmodels.diagnostics.side_by_side import UNTIL_STALLED, survival
from worldmodels.diagnostics.table import table_of
from worldmodels.errors import InputError
from worldmodels.files import save_json
from worldmodels.run import Metrics, Run, say
from worldmodels.schema import load_like
from worldmodels.versions import circumstances
from worldmodels.workers import one_thread

SURVIVAL_TOLERANCE, RETURN_TOLERANCE = 0.15, 0.5
"""Sanity bands: the mean life in the dream, less that in reality, as a share of it; or where no
life is measured the mean return, in standard deviations of reality's."""
EXPLOITED = 0.5
"""The same for C if env.reward is not count; only a return that is too high in the dream is
reported."""
REWARD_TOLERANCES = {"all": 0.25, "ends": 0.5, "largest": 0.5}
"""Sanity bands: the predicted mean reward, less the real one, as a share of it."""

ROW_NAMES = ("steps_ahead", "at", "probability", "recorded_by", "within", "policy", "pixels")
"""What tells the rows of a part apart."""

PARTS: dict[str, tuple[Callable[[Inspection], Rows], str]] = {
    "reconstruction": (reconstruction, "V's mean square error, everywhere and where frames move"),
    "fireballs": (fireballs, "Fireballs whose contrast V keeps by half or more"),
    "likelihood": (likelihood, "Nats per dimension of the real z, predicted some steps ahead"),
    "reward": (reward, "Predicted and real rewards: all, where episodes end, the largest"),
    "termination": (termination, "Predicted probability and observed frequency of the end"),
    "risk": (risk, "Predicted and observed risks of damage or the end within some steps"),
    "pit": (pit, "Where the next z lies in M's mixture: Kolmogorov-Smirnov distance from uniform"),
    "survival": (survival, "The same policies from the same moments in dream and reality"),
    "ranking": (ranking, "Rank correlation of controllers' mean returns in dream and reality"),
    "neighbours": (neighbours, "The same for controllers drawn about C as evolution draws them"),
}
"""What measures each part, and its title. No rows: it does not apply to the run."""


def inspect_dream(run: Run, config: InspectSections) -> dict[str, Any]:
    """Writes inspection/inspection.json and a figure for each of its parts.

    Args:
        run: has V and M, and latents or an unpacked bundle's starts; perhaps C and controllers/.
        config: the run's, and what is measured; of several rounds, that of the round here is used.

    Returns:
        What inspection.json holds.

    Raises:
        InputError: V or M is missing, or they do not belong together.
    """
    config = config.of_round(run.holds)
    with Metrics(run, "inspect_dream") as metrics, one_thread():
        inspection = Inspection(run, config)
        file, hashes = inspection.folder / "inspection.json", list(inspection.models.hashes)
        report = load_like(file, Inspected) if file.exists() else {}
        if report.get("hashes") != hashes:  # of another V or M
            report = {"run": run.name, "hashes": hashes, "conditions": {}}
        for part in config.inspect.parts:
            report[part] = PARTS[part][0](inspection)
            report["conditions"][part] = {
                "config": asdict(config.inspect),
                "held_out": inspection.held_out_counts,
                "seconds": metrics.seconds,  # since the command began
                **circumstances(),
            }
            save_json(file, report)
        report = load_like(file, Inspected)
        _check_rewards(metrics, report.get("reward", []))
        _check(metrics, report.get("survival", []))
        _show(metrics, report, inspection.folder)
    return report


def _show(metrics: Metrics, report: dict[str, Any], folder: Path) -> None:
    """Prints the tables and draws the figures, in files and in TensorBoard."""
    shown = {name: rows for name in PARTS if (rows := report.get(name))}
    titles = {name: f"{PARTS[name][1]}\n({_held_out(report, name)})" for name in shown}
    for name, rows in shown.items():
        say(f"{titles[name]}\n{table_of(rows)}\n")
        metrics.log(0, **_numbers(name, rows))
    try:
        for name in sorted(set(shown) & set(FIGURES)):
            draw_figure(name, shown[name], titles[name], folder)
            metrics.picture(name, 0, folder / f"{name}.png")
    except InputError as error:
        say(str(error))


def _numbers(part: str, rows: Rows) -> dict[str, float]:
    """The numbers of a part by full names, such as `likelihood/5/nll`."""
    found = {}
    for row in rows:
        own = [str(row[name]) for name in ROW_NAMES if name in row]
        for name, value in row.items():
            if isinstance(value, float):
                found["/".join([part, *own, name])] = value
    return found


def _held_out(report: dict[str, Any], part: str) -> str:
    counts = report["conditions"][part]["held_out"]
    drivers = ", ".join(f"{one['episodes']} by the {name}" for name, one in counts.items())
    return f"held-out episodes: {drivers}"


def _check_rewards(metrics: Metrics, rows: Rows) -> None:
    """The sanity bands that say whether a dream pays what reality does."""
    for row in rows:
        tolerance = REWARD_TOLERANCES[row["at"]]
        metrics.check(
            f"M's mean reward ({row['at']}), minus the real one, as a share of it,",
            row["error"],
            -tolerance,
            tolerance,
            "M's rewards are not those of reality: train M longer (train_mdnrnn.steps), or collect "
            "more episodes with such rewards",
        )


def _check(metrics: Metrics, policies: Rows) -> None:
    """The sanity bands that say whether evolving in this dream makes sense.

    It compares the collecting policy, or C if env.reward is count: an open-loop policy soon leaves
    the road there. Elsewhere C may be better in the dream by `EXPLOITED`.
    """
    for row in policies:
        scale, allowed, value = "in standard deviations", RETURN_TOLERANCE, row["deviations"]
        if row["measure"] != "return":
            scale, allowed, value = "as a share of it", SURVIVAL_TOLERANCE, row["ratio"] - 1
        name = f"{row['policy']}: {row['measure']} in the dream, minus that in reality, {scale},"
        if row["policy"] == ("controller" if row["measure"] == UNTIL_STALLED else "explorer"):
            metrics.check(
                name,
                value,
                -allowed,
                allowed,
                "controllers evolved in this dream will fail in reality: train V and M longer or "
                "collect more episodes",
            )
        elif row["policy"] == "controller":
            metrics.check(
                name,
                value,
                -np.inf,
                EXPLOITED,
                "C exploits errors of the dream: raise dream.temperature, or add a round",
            )
