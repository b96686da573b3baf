"""Make a run of a bundle, to evolve, study or rank other controllers in its dream."""

import sys

from worldmodels.bundle import unpack
from worldmodels.config import Config, InputError, keep, one_line_errors, parse

ABOUT = "Make a run of a finished bundle: unpack.py BUNDLE --config FILE --run RUN"


def main() -> None:
    name = next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), None)
    config, run = parse(Config, ABOUT, sys.argv[1 + (name is not None) :], show=["seed"])
    if name is None:
        raise InputError("no bundle is named: unpack.py BUNDLE, a shipped one's name or a folder")
    unpack(name, run)
    keep(config, run)
    print(f"next: python scripts/evolve.py --run {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
