"""The whole benchmark: ratios, numbers and growth, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmark.dreams import dream_rows, generation_numbers, growth
from benchmark.machine import machine
from benchmark.report import Number, Report
from benchmark.timing import Row
from benchmark.training import memory_number, training_rows
from benchmark.worlds import (
    frames_growth,
    paired_returns,
    picture_difference,
    unequal_steps,
    world_rows,
)
from worldmodels.run import say

PARTS = ("worlds", "returns", "dreams", "training", "growth")
"""`returns` needs an agent."""


def benchmark(
    quick: bool, parts: Sequence[str], agent: Path | None = None, tracks: int = 100
) -> Report:
    """Measures everything, and says each result as it comes.

    Args:
        quick: less of everything: minutes become seconds.
        parts: of `PARTS`.
        agent: a CarRacing bundle or run, which drives with our picture and with Gymnasium's.
        tracks: on so many test tracks.
    """
    report = Report(machine(), quick)
    with TemporaryDirectory() as folder:
        for found in _measured(Path(folder), quick, parts, agent, tracks):
            if isinstance(found, Row):
                report.rows.append(found)
                say(f"{found.ratio:8.3g}x  {found.what}, against {found.against}")
            else:
                report.numbers.append(found)
                say(f"{found.value:8.3g} {found.unit}  {found.what}")
        if "growth" in parts:
            report.growth |= frames_growth(quick) | growth(Path(folder), quick)
    return report


def _measured(
    folder: Path, quick: bool, parts: Sequence[str], agent: Path | None, tracks: int
) -> Iterator[Row | Number]:
    if "worlds" in parts:
        yield from world_rows(folder, quick)
        yield from _sameness(quick)
    if "returns" in parts and agent is not None:
        yield from _returns(agent, tracks)
    if "dreams" in parts:
        yield from dream_rows(folder, quick)
        yield from generation_numbers(folder, quick)
    if "training" in parts:
        yield from training_rows(folder, quick)
        yield memory_number(quick)


def _sameness(quick: bool) -> Iterator[Number]:
    """How near the redrawn CarRacing is to Gymnasium's."""
    seen = picture_difference(quick)
    what = f"difference of the redrawn 64x64 picture, {seen.tracks} tracks, {seen.frames} frames"
    yield Number(f"mean absolute {what}", seen.mean, "of 255", 2.0)
    yield Number("the same of its worst frame", seen.worst_frame, "of 255")
    unequal, steps = unequal_steps(quick)
    what = f"steps of 50 episodes ({steps:,} in all) whose reward, end, info or motion differs"
    yield Number(what, unequal, "steps", 0)


def _returns(agent: Path, tracks: int) -> Iterator[Number]:
    """The same agent in both pictures."""
    found = paired_returns(agent, tracks)
    for name, one in (("our", found.ours), ("Gymnasium's", found.theirs)):
        yield Number(f"the agent's mean return with {name} picture, {tracks} tracks", one.mean, "")
    low, high = found.difference.ci95
    yield Number("their mean difference, track by track", found.difference.mean, "")
    yield Number(
        f"the farther end of its 95% interval [{low:.1f}, {high:.1f}]",
        max(abs(low), abs(high)),
        "",
        15.0,
    )
