"""Make a run of a bundle, to evolve, study or rank other controllers in its dream."""

import sys

from worldmodels.bundle import unpack
from worldmodels.config import InputError, begin, one_line_errors

ABOUT = "Make a run of a finished bundle: unpack.py BUNDLE --config FILE --run RUN"


def main() -> None:
    name = next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), None)
    flags = sys.argv[1 + (name is not None) :]
    _, run = begin(ABOUT, ["seed"], flags, first=True)
    if name is None:
        raise InputError("no bundle is named: unpack.py BUNDLE, a shipped one's name or a folder")
    if not any(flag.startswith("--config") for flag in flags):  # the defaults are another world's
        raise InputError("--config is missing: it says how C is evolved, as take_cover.yaml does")
    unpack(name, run)
    print(f"next: python scripts/evolve.py --run {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
