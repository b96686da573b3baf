"""The benchmark's table and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmark.timing import Row


@dataclass(frozen=True)
class Number:
    """A figure that is no ratio: seconds, bytes, grey levels."""

    what: str
    value: float
    unit: str
    limit: float | None = None
    """At most so much is asked for; none: a number to look at."""


@dataclass
class Report:
    """What one run of the benchmark measured."""

    machine: dict[str, Any]
    quick: bool
    rows: list[Row] = field(default_factory=list)
    numbers: list[Number] = field(default_factory=list)
    growth: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_markdown(self) -> str:
        """Three tables: ratios, numbers, growth."""
        parts = [f"{_machine_line(self.machine)} {self.seconds / 60:.1f} minutes."]
        if self.rows:
            head = ("what", "against", "ours", "theirs", "ratio", "range over rounds", "target")
            parts.append(table(head, map(_row_cells, self.rows)))
        if self.numbers:
            parts.append(table(("what", "value", "at most"), map(_number_cells, self.numbers)))
        for name, speeds in self.growth.items():
            parts.append(table((name, *speeds), [("", *map(_short, speeds.values()))]))
        return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def missed(report: Report) -> list[str]:
    """What lies below its target or above its limit."""
    rows = [r.what for r in report.rows if r.target is not None and r.ratio < r.target]
    return rows + [n.what for n in report.numbers if n.limit is not None and n.value > n.limit]


def _machine_line(machine: dict[str, Any]) -> str:
    return (
        f"{machine['cores']} cores of {machine['processor']} ({machine['capability']}), products "
        f"in {machine['precision']}, Python {machine['python']}, "
        f"torch {machine.get('torch')}, gymnasium {machine.get('gymnasium')}."
    )


def _row_cells(row: Row) -> Sequence[str]:
    low, high = row.spread
    target = "" if row.target is None else f"{row.target:g}x"
    speeds = f"{_short(row.ours)} {row.unit}", f"{_short(row.theirs)} {row.unit}"
    ratio = f"**{row.ratio:.3g}x**"
    return row.what, row.against, *speeds, ratio, f"{low:.3g} to {high:.3g}", target


def _number_cells(number: Number) -> Sequence[str]:
    limit = "" if number.limit is None else f"{number.limit:g}"
    return number.what, f"{number.value:.3g} {number.unit}", limit


def _short(value: float) -> str:
    """Three digits, thousands marked."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"
