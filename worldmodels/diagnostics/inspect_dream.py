"""Inspect the dream: is it honest? Numbers and figures of how it differs from the real world."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldmodels.config import Config
from worldmodels.diagnostics.figures import draw_figures
from worldmodels.diagnostics.inspection import InspectConfig, Inspection, Made
from worldmodels.diagnostics.summary import summary
from worldmodels.envs.real import package_versions
from worldmodels.errors import InputError
from worldmodels.files import load_json, save_json
from worldmodels.run import Metrics, Run, cores, say
from worldmodels.workers import WorkersConfig, one_thread


@dataclass(frozen=True, kw_only=True)
class InspectSections(Config):
    """A run's config, and how closely its dream is inspected."""

    inspect: InspectConfig = field(default_factory=InspectConfig)


def inspect_dream(
    run: Run, made: Made, config: InspectConfig, workers: WorkersConfig
) -> dict[str, Any]:
    """Writes inspection/inspection.json and a figure for each of its parts.

    Args:
        run: has V, M and latents; episodes, to go on from in reality; perhaps C, and controllers/.
        made: how.
        config: what is measured.
        workers: where real episodes run.

    Returns:
        What inspection.json holds.

    Raises:
        InputError: V, M or latents are missing, or don't belong together.
    """
    with Metrics(run, "inspect_dream") as metrics, one_thread():
        inspection = Inspection(run, made, config, workers)
        file = inspection.folder / "inspection.json"
        report = _begin(inspection, file)
        for part in config.parts:
            report[part] = inspection.measured(part)
            report["conditions"][part] = {
                "command": " ".join(sys.argv),
                "config": asdict(config),
                "cores": cores(),
                "seconds": metrics.seconds,  # since the command began
                "versions": package_versions(),
            }
            save_json(file, report)
        kept: dict[str, Any] = load_json(file)
        _check(metrics, kept, config)
    for line in summary(kept):
        say(line)
    try:
        draw_figures(kept, inspection.folder)
    except InputError as error:
        say(str(error))
    return kept


def _begin(inspection: Inspection, file: Path) -> dict[str, Any]:
    """What was found before of the same V and M, if anything."""
    hashes = list(inspection.senses.hashes)
    known: dict[str, Any] = load_json(file) if file.exists() else {}
    if known.get("hashes") == hashes:
        return known
    return {"run": inspection.run.name, "hashes": hashes, "conditions": {}}


def _check(metrics: Metrics, report: dict[str, Any], config: InspectConfig) -> None:
    """The sanity band that decides whether evolving in this dream makes sense."""
    row = report.get("recorded")
    if row is None:
        return
    advice = "what is evolved in this dream won't hold: train V and M longer or collect more"
    if row["kind"] == "survival":
        name, value, allowed = "survival", row["survival"]["ratio"] - 1, config.tolerance
        scale = "as a share of it"
    else:
        name, value, allowed = "return", row["returns"]["deviations"], config.return_tolerance
        scale = "in deviations"
    what = f"the collecting policy's {name} in the dream, less what was recorded, {scale},"
    metrics.check(what, value, -allowed, allowed, advice)
