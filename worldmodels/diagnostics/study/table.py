"""A study's table: each row over all of its evolutions, the paper's numbers beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from worldmodels.acting.evaluate import interval
from worldmodels.config import Config
from worldmodels.diagnostics.study.rows import StudyRow
from worldmodels.world import World

PAPER = {0.1: (2086, 193), 0.5: (2060, 196), 1.0: (1145, 868), 1.15: (918, 1092), 1.3: (732, 753)}
"""Doom's mean return by temperature: in the dream, in reality. Source: Ha & Schmidhuber 2018,
table 2."""
PAPER_RANDOM = 210
"""The random policy's mean return in reality. Source: the same."""
COLUMNS = (
    *("row", "dream return", "real return", "95%", "std between evolutions", "minutes"),
    "paper: dream / real",
)


def summed_up(evolutions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row over its evolutions: episodes pooled, and the deviation of the evolutions' means."""
    found: dict[str, Any] = {
        "evolutions": len(evolutions),
        "minutes": sum(one["seconds"] for one in evolutions) / 60,
        "between": {},
    }
    for world in ("dream", "real"):
        pooled = np.concatenate([one[world]["returns"] for one in evolutions])
        found[world] = asdict(interval(pooled)) | {"episodes": len(pooled)}
        means = np.array([one[world]["mean"] for one in evolutions])
        found["between"][world] = float(means.std(ddof=1)) if len(means) > 1 else None
    return found


def papers_numbers(world: World, row: StudyRow, config: Config) -> tuple[int, int] | None:
    """The paper's numbers at the row's temperature; None if the row takes something away."""
    ablation = config.controller.inputs in ("z", "zh") or config.controller.senses != "own"
    if not is_take_cover(world) or ablation or row.round is not None:
        return None
    return PAPER.get(config.dream.temperature)


def is_take_cover(world: World) -> bool:
    """Whether this is the paper's Doom."""
    return "VizdoomTakeCover" in world.config.id


def markdown(report: Mapping[str, Any]) -> str:
    """study.md of what study.json holds."""
    rows = [_cells(report, name) for name in report["rows"]]
    rows += [_baseline(report, name) for name in report["baselines"]]
    columns = len(COLUMNS) if report["paper_random"] else len(COLUMNS) - 1
    lines = [_line(row[:columns]) for row in (COLUMNS, ["---"] * columns, *rows)]
    return "\n\n".join([f"# Study of {report['run']}", *_about(report), "\n".join(lines)]) + "\n"


def _about(report: Mapping[str, Any]) -> Iterator[str]:
    budget, config = report["budget"], report["config"]
    chosen = "real validation chooses the controller"
    if not config["validation_episodes"]:
        chosen = "the last mean is the controller, without validation"
    yield (
        f"{report['environment']}. In each row C is evolved from zeros in the dream, "
        f"{config['evolutions']} times: {budget['generations']} generations of "
        f"{budget['population_size']} candidates with {budget['rollouts_per_candidate']} dreams "
        f"each; {chosen}. Dream return: mean over "
        f"{config['dream_episodes']} dreams of each at the row's temperature. Real return: mean ± "
        f"standard deviation over {config['test_episodes']} official test episodes of each, the "
        "same ones; 95% is the bootstrapped interval of that mean for these controllers, beside "
        "it the standard deviation of the evolutions' means."
    )
    yield f"`{report['command']}`, {report['cores']} cores."


def _cells(report: Mapping[str, Any], name: str) -> list[str]:
    row, wanted = report["rows"][name], report["config"]["evolutions"]
    found = row["summary"]
    done, between = found["evolutions"], found["between"]["real"]
    return [
        name if done == wanted else f"{name} ({done} of {wanted} evolutions)",
        f"{found['dream']['mean']:.1f}",
        *_measured(found["real"]),
        "-" if between is None else f"{between:.1f}",
        f"{found['minutes']:.1f}",
        "{} / {}".format(*row["paper"]) if row["paper"] else "",
    ]


def _baseline(report: Mapping[str, Any], name: str) -> list[str]:
    paper = report["paper_random"] if name == "random" else None
    cells = _measured(report["baselines"][name])
    return [name, "", *cells, "", "", f"- / {paper}" if paper else ""]


def _measured(real: Mapping[str, Any]) -> tuple[str, str]:
    low, high = real["ci95"]
    return f"{real['mean']:.1f} ± {real['std']:.1f}", f"{low:.1f} to {high:.1f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
