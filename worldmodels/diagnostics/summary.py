"""An inspection in a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def summary(report: Mapping[str, Any]) -> list[str]:
    """The lines that say what inspection.json holds."""
    lines = []
    for part, describe in DESCRIPTIONS.items():
        if report.get(part):
            lines.append(f"{part} ({held_out_text(report, part)}):")
            lines += [f"  {line}" for line in describe(report[part])]
    return lines


def held_out_text(report: Mapping[str, Any], part: str) -> str:
    """How many held-out episodes a part was measured on."""
    counts = report["conditions"][part]["held_out"]
    drivers = ", ".join(f"{one['episodes']} by the {name}" for name, one in counts.items())
    return f"held-out episodes: {drivers}"


def _reconstruction(row: Mapping[str, Any]) -> Iterator[str]:
    moving, median = (_number(row[name], ".4f") for name in ("moving_error", "median_error"))
    yield f"{row['active']} of {row['latents']} latents active, KL {row['kl']:.1f} nats"
    yield (
        f"mean square error {row['error']:.4f}; where something moves "
        f"({row['moving_share']:.1%}) {moving}, of the median image there {median}"
    )
    if found := row["fireballs"]:
        sizes = [f"{_recall(size)} of {size['pixels']} pixels" for size in found["sizes"]]
        yield f"fireballs recalled in {found['episodes']} of them: {_recall(found)}; " + ", ".join(
            sizes
        )


def _recall(row: Mapping[str, Any]) -> str:
    share = "none" if row["recall"] is None else f"{row['recall']:.0%}"
    return f"{share} ({row['count']})"


def _likelihood(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    yield "nats per dimension of the real z, predicted some steps ahead:"
    columns = {"nll": "M", "entropy": "floor", "copy_z": "copy z", "standard_normal": "N(0, 1)"}
    yield " ".join(["ahead", *(f"{title:>10}" for title in columns.values()), "  windows"])
    for row in rows:
        numbers = " ".join(_number(row[name], "10.3f") for name in columns)
        short = f" ({row['left_out']} too short)" if row["left_out"] else ""
        yield f"{row['horizon']:5} {numbers}   {row['windows']}{short}"


def _termination(part: Mapping[str, Any]) -> Iterator[str]:
    raw, weight = part["raw"], part["positive_weight"]
    yield f"probability of the end over {raw['steps']} steps, {raw['observed']:.2%} of them ends:"
    for name, label in (("raw", "raw"), ("corrected", f"corrected for weight {weight:g}")):
        row = part[name]
        yield (
            f"{label}: mean {row['predicted']:.2%}, Brier {row['brier']:.5f} "
            f"(no skill {row['no_skill']:.5f}), calibration error {row['ece']:.5f}"
        )


def _pit(row: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Kolmogorov-Smirnov distance from uniform {row['ks']:.3f}, worst dimension "
        f"{row['worst_ks']:.3f} (number {row['worst_dimension']}), {row['steps']} steps"
    )


def _survival(part: Mapping[str, Any]) -> Iterator[str]:
    kind = "steps survived" if part["kind"] == "survival" else "returns"
    yield f"{kind} in at most {part['horizon']} steps, temperature {part['temperature']:g}:"
    for name, row in part["policies"].items():
        starts = f"{row['starts']} starts in {row['episodes']} {row['driver']} episodes"
        yield f"{name:10} {_compared(row[part['kind']])}  ({starts})"


def _compared(row: Mapping[str, Any]) -> str:
    means = f"dream {row['dream']:8.1f}  reality {row['real']:8.1f}"
    if row["ratio"] is None:
        return f"{means}  difference {row['difference']:.1f} {_interval(row['difference_ci95'])}"
    return f"{means}  ratio {row['ratio']:.2f} {_interval(row['ratio_ci95'])}"


def _interval(ends: list[float | None]) -> str:
    low, high = (_number(end, ".2f") for end in ends)
    return f"[{low}, {high}]"


def _ranking(row: Mapping[str, Any]) -> Iterator[str]:
    rho, ceiling = (_number(row[name], ".2f") for name in ("spearman", "ceiling"))
    yield (
        f"rank correlation of {row['controllers']} controllers in dream and reality: "
        f"{rho} {_interval(row['ci95'])}, ceiling {ceiling}"
    )


def _number(value: float | None, form: str) -> str:
    return f"{'-':>{form.partition('.')[0]}}" if value is None else f"{value:{form}}"


DESCRIPTIONS: dict[str, Callable[[Any], Iterator[str]]] = {
    "reconstruction": _reconstruction,
    "likelihood": _likelihood,
    "termination": _termination,
    "pit": _pit,
    "survival": _survival,
    "ranking": _ranking,
}
