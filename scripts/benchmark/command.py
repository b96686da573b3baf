"""Measure the speed of every stage against the plain way of doing it, side by side in one run."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmark.dreams import dream_growth, dream_rows
from benchmark.gpu import gpu_rows
from benchmark.peers import peer_rows
from benchmark.training import training_rows
from benchmark.worlds import frames_growth, return_rows, world_rows
from worldmodels.device import get_device, set_device
from worldmodels.diagnostics.table import line_of, table_of
from worldmodels.files import save_json, save_text
from worldmodels.run import cores, say
from worldmodels.versions import package_versions

PARTS = ("worlds", "peers", "returns", "dreams", "training", "growth", "gpu")
"""`peers` needs EnvPool, `returns` needs --agent, `gpu` needs one; all other parts measure the
CPU."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="Less of everything: 2 to 5 minutes.")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="Folder.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="Only these.")
    parser.add_argument("--agent", type=Path, help="Bundle or run: its returns in both pictures.")
    parser.add_argument("--tracks", type=int, default=100, help="Of --agent's comparison.")
    options = parser.parse_args()
    gpu, start = get_device(), time.perf_counter()
    rows = list[dict[str, Any]]()
    report: dict[str, Any] = {"machine": machine(), "rows": rows, "growth": {}}
    set_device("cpu")
    with TemporaryDirectory() as folder:

        def save() -> None:
            report["seconds"] = time.perf_counter() - start
            save_json(options.out / "benchmark.json", report)
            save_text(options.out / "benchmark.md", markdown(report))

        for row in _measured(Path(folder), options, gpu):
            rows.append(row)
            say(line_of(row))
            save()  # a command that is stopped keeps its rows
        if "growth" in options.parts:
            growth = frames_growth(options.quick) | dream_growth(Path(folder), options.quick)
            report["growth"] = growth
        save()
    print(markdown(report))
    for what in missed(rows):
        print(f"below the target: {what}")
    print(f"{options.out} holds benchmark.md and benchmark.json")


def _measured(
    folder: Path, options: argparse.Namespace, gpu: torch.device
) -> Iterator[dict[str, Any]]:
    if "worlds" in options.parts:
        yield from world_rows(folder, options.quick)
    if "peers" in options.parts:
        yield from peer_rows(options.quick)
    if "returns" in options.parts and options.agent is not None:
        yield from return_rows(options.agent, options.tracks)
    if "dreams" in options.parts:
        yield from dream_rows(folder, options.quick)
    if "training" in options.parts:
        yield from training_rows(folder, options.quick)
    if "gpu" in options.parts and gpu.type != "cpu":
        yield from gpu_rows(folder, gpu, options.quick)


def markdown(report: dict[str, Any]) -> str:
    """Tables of ratios, of other numbers, and of growth."""
    ratios = [row for row in report["rows"] if "ratio" in row]
    numbers = [row for row in report["rows"] if "ratio" not in row]
    about = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
    parts = [f"{about}. {report['seconds'] / 60:.1f} minutes."]
    parts += [table_of(rows) for rows in (ratios, numbers) if rows]
    parts += [f"{name}:\n\n{table_of([speeds])}" for name, speeds in report["growth"].items()]
    return "\n\n".join(parts) + "\n"


def missed(rows: list[dict[str, Any]]) -> list[str]:
    """What lies below its target or above its limit."""
    return [
        " against ".join(row[name] for name in ("what", "against") if name in row)
        for row in rows
        if (row.get("target") is not None and row["ratio"] < row["target"])
        or (row.get("at_most") is not None and row["value"] > row["at_most"])
    ]


def machine() -> dict[str, Any]:
    """Processor, cores, memory, GPU, number types and versions."""
    known = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    processor, memory = (_lines(path) for path in known)
    return {
        "processor": processor.get("model name", platform.processor() or platform.machine()),
        "cores": cores(),
        "memory": memory.get("MemTotal", "unknown"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **package_versions(),
    }


def _lines(path: Path) -> dict[str, str]:
    """The `name: value` lines of a file in /proc."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
