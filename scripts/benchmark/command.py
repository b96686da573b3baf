"""Measure the speed of every stage against the plain way of doing it, side by side in one run."""

import argparse
import time
from pathlib import Path

from benchmark.report import missed
from benchmark.suite import PARTS, benchmark
from worldmodels.files import save_json, save_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="Less of everything: 3 minutes.")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="Folder.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="Only these.")
    parser.add_argument("--agent", type=Path, help="Bundle or run: its returns in both pictures.")
    parser.add_argument("--tracks", type=int, default=100, help="Of --agent's comparison.")
    options = parser.parse_args()
    start = time.perf_counter()
    report = benchmark(options.quick, options.parts, options.agent, options.tracks)
    report.seconds = time.perf_counter() - start
    save_json(options.out / "benchmark.json", report.to_dict())
    save_text(options.out / "benchmark.md", report.to_markdown())
    print(report.to_markdown())
    for what in missed(report):
        print(f"below the target: {what}")
    print(f"{options.out} holds benchmark.md and benchmark.json")
