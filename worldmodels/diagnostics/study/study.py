"""A study: C evolved anew in a run's dream, at other temperatures and with less to see."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from worldmodels.artifacts import load_world
from worldmodels.command_line import keep
from worldmodels.config import Config
from worldmodels.diagnostics.study.evolutions import (
    Evolution,
    evolutions_of,
    prepare,
    run_evolution,
    save_means,
)
from worldmodels.diagnostics.study.measures import measured, measured_baselines
from worldmodels.diagnostics.study.rows import StudyConfig, StudySections, rows_of
from worldmodels.diagnostics.study.table import (
    PAPER_RANDOM,
    is_take_cover,
    markdown,
    papers_numbers,
    summed_up,
)
from worldmodels.files import load_json, save_json, save_text
from worldmodels.run import Metrics, Run, cores, say
from worldmodels.versions import package_versions
from worldmodels.world import World


def study(run: Run, config: Config, settings: StudyConfig) -> dict[str, Any]:
    """Evolves and measures what is missing; writes study/study.json and study/study.md.

    Args:
        run: has V, M and latents; nothing of it is changed but study/ and controllers/.
        config: the run's.
        settings: rows and budget.

    Returns:
        What study.json holds.

    Raises:
        InputError: V, M or latents are missing, or an evolution was made under other conditions.
    """
    evolutions, own = evolutions_of(run, config, settings), Run(run.folder / "study")
    for evolution in evolutions:
        prepare(evolution)
    keep(StudySections(study=settings), own, free=("study",))
    with Metrics(own, "study") as metrics:
        world, report = load_world(run), _begin(run, own, evolutions, settings)
        known = report["baselines"]
        report["baselines"] = measured_baselines(world, settings, config.workers, known)
        for step, evolution in enumerate(evolutions):
            say(f"study, {step + 1} of {len(evolutions)}: {evolution.name}")
            run_evolution(evolution)
            if _is_comparable(evolution, config):
                save_means(evolution, run.folder / "controllers")
            entry = _enter(report, evolution, settings, world, config.seed)
            save(own, report, settings)
            means = {name: entry[name]["mean"] for name in ("dream", "real")}
            metrics.log(step, evolution=evolution.name, **means)
            say("{}: dream {dream:.1f}, reality {real:.1f}".format(evolution.name, **means))
    return report


def _begin(
    run: Run, own: Run, evolutions: Sequence[Evolution], settings: StudyConfig
) -> dict[str, Any]:
    """study.json of this command: what an earlier one found, under this one's conditions."""
    file = own.folder / "study.json"
    known: dict[str, Any] = load_json(file) if file.exists() else {}
    world, one = load_world(run), evolutions[0].config
    return {
        "run": run.name,
        "environment": world.config.id,
        "config": asdict(settings),
        "budget": {
            "generations": one.evolve.generations,
            "population_size": one.cma.population_size,
            "rollouts_per_candidate": one.evolve.rollouts_per_candidate,
        },
        "command": " ".join(sys.argv),
        "cores": cores(),
        "versions": package_versions(),
        "paper_random": PAPER_RANDOM if is_take_cover(world) else None,
        "baselines": known.get("baselines", {}),
        "rows": known.get("rows", {}),
    }


def _is_comparable(evolution: Evolution, config: Config) -> bool:
    """Whether its controllers can be ranked with the run's own, in the run's dream."""
    return evolution.row.round is None and evolution.config.controller == config.controller


def _enter(
    report: dict[str, Any], evolution: Evolution, settings: StudyConfig, world: World, seed: int
) -> dict[str, Any]:
    """Measures an evolution and enters it in its row of the report."""
    row, config = evolution.row, evolution.config
    known = {one["number"]: one for one in report["rows"].get(row.name, {}).get("evolutions", ())}
    entry = measured(evolution, settings, seed, known.get(evolution.number, {}))
    known[evolution.number] = entry
    every = [known[number] for number in sorted(known)]
    sections = {name: asdict(getattr(config, name)) for name in ("controller", "dream", "cma")}
    report["rows"][row.name] = {
        "row": asdict(row),
        "source": str(evolution.source.folder),
        "config": sections | {"evolve": asdict(config.evolve)},
        "paper": papers_numbers(world, row, config),
        "summary": summed_up(every[: settings.evolutions]),
        "evolutions": every,
    }
    return entry


def save(own: Run, report: dict[str, Any], settings: StudyConfig) -> None:
    """Writes study.json and study.md into the study's folder."""
    save_json(own.folder / "study.json", report)
    names = [row.name for row in rows_of(settings)]
    save_text(own.folder / "study.md", markdown(report, names))
