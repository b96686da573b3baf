"""Measures minutes, memory and disk of each stage for runs of several sizes. Needs Linux.

    python scripts/measure_scale.py runs/scale --config car_racing_paper --episodes 100 1000

Further arguments of the form --section.field=VALUE go to every stage. V and M train for a few
steps: the number of episodes changes their memory and the time until the first batch, not that of a
step.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from inject_faults import without
from kill_at_random import family

from worldmodels.files import load_json, save_json

STAGES = ("collect", "train-vae", "encode", "train-mdnrnn", "evolve")
FLAGS = (
    *("--train_vae.steps=20", "--train_mdnrnn.steps=10"),
    *("--evolve.generations=2", "--evolve.real_generations=0", "--evolve.validation_episodes=2"),
    *("--evolve.final_episodes=0", "--evolve.rollouts_per_candidate=2", "--dream.horizon=50"),
)
SECONDS = 0.5
"""Between two measurements of the memory."""


def memory_of(process: int) -> int:
    """Bytes of the process and of those that it started; what they share counts once."""
    total = 0
    for member in family(process):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def stage(name: str, words: list[str]) -> dict[str, float]:
    """Runs a stage: its minutes, and the GiB that it needs at most.

    Raises:
        SystemExit: it failed.
    """
    command, begun, peak = [sys.executable, "-m", "worldmodels", name, *words], time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory_of(process.pid))
        time.sleep(SECONDS)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} failed")
    return {"minutes": (time.monotonic() - begun) / 60, "GiB": peak / 2**30}


def disk_of(folder: Path) -> float:
    """GiB of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**30


def measure(run: Path, config: str, episodes: int, fields: list[str]) -> dict[str, Any]:
    """All stages of a run of so many episodes; a stage that was measured is not run again.

    Of a stage that was interrupted only the rest is measured: delete the run to measure it whole.
    """
    file = Path(f"{run}.json")
    found: dict[str, Any] = load_json(file) if file.exists() else {"config": config, "stages": {}}
    for name in STAGES:
        if name not in found["stages"]:
            words = ["--config", config, "--run", str(run), f"--collect.episodes={episodes}"]
            found["stages"][name] = stage(name, [*words, *without(FLAGS, fields), *fields])
            save_json(file, found)
            print(f"{episodes} episodes, {name}: {found['stages'][name]}", flush=True)
    if "frames" not in found:
        manifest = load_json(run / "episodes" / "manifest.json")
        found["frames"] = sum(entry["steps"] for entry in manifest["episodes"].values())
        found["disk"] = {name: disk_of(run / name) for name in ("episodes", "latents")}
        save_json(file, found)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="Of the runs, and of a JSON file for each.")
    parser.add_argument("--config", default="car_racing_paper")
    parser.add_argument("--episodes", type=int, nargs="+", default=[100, 1000], help="Sizes.")
    options, fields = parser.parse_known_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for episodes in options.episodes:
        run = options.folder / f"{Path(options.config).stem}_{episodes}"
        found = measure(run, options.config, episodes, fields)
        disk = ", ".join(f"{name} {gib:.2f} GiB" for name, gib in found["disk"].items())
        print(f"\n{episodes} episodes, {found['frames']:,} frames; disk: {disk}\n")
        print("| stage | minutes | GiB |\n| --- | --- | --- |")
        for name, numbers in found["stages"].items():
            print(f"| {name} | {numbers['minutes']:.1f} | {numbers['GiB']:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
