"""Make a run of a bundle, to evolve, study or rank other controllers in its dream."""

from worldmodels.artifacts import unpack
from worldmodels.command_line import leading, one_line_errors
from worldmodels.config import begin
from worldmodels.errors import InputError

ABOUT = "Make a run of a finished bundle: unpack.py BUNDLE --config FILE --run RUN"


def main() -> None:
    name, flags = leading()
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
