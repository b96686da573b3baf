"""Rows of named values as Markdown tables, for files and the terminal alike."""

from collections.abc import Mapping, Sequence
from typing import Any


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of named values as a table, intervals as [low, high], None as a hyphen.

    What only figures show (dictionaries, longer lists) is left out.
    """
    cells = [cells_of(row) for row in rows]
    lines = [list(cells[0]), *(list(row.values()) for row in cells)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = ([f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def line_of(row: Mapping[str, Any]) -> str:
    """A row as one line."""
    return ", ".join(f"{name} {cell}" for name, cell in cells_of(row).items())


def cells_of(row: Mapping[str, Any]) -> dict[str, str]:
    """A row's names and values as text, without what only figures show."""
    return {n.replace("_", " "): _cell(value) for n, value in row.items() if _is_cell(value)}


def _is_cell(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) == 2 and all(_is_cell(end) for end in value)
    return not isinstance(value, dict)


def _cell(value: Any) -> str:
    """A cell's text; numbers have four digits."""
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
        case [low, high]:
            return f"[{_cell(low)}, {_cell(high)}]"
    return str(value)
