"""Find the best policy without eyes of a world, for worldmodels/envs/baselines.json."""

import argparse

from worldmodels.command_line import one_line_errors
from worldmodels.stages.find_baselines import SEARCHES, find_baselines
from worldmodels.workers import WorkersConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--world", required=True, choices=SEARCHES, help="Which world.")
    parser.add_argument("--processes", type=int, default=0, help="0: one per core.")
    options = parser.parse_args()
    command = f"python scripts/find_baselines.py --world {options.world}"
    find_baselines(SEARCHES[options.world], WorkersConfig(processes=options.processes), command)


if __name__ == "__main__":
    with one_line_errors():
        main()
