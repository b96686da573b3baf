"""One exhibit of the gallery: gallery.py NAME [--data PATH] [--section.field value]."""

import sys

from worldmodels.command_line import one_line_errors
from worldmodels.gallery.exhibit import show


def main() -> None:
    run, numbers = show(sys.argv[1:])
    for name, value in numbers.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    print(f"{run.folder} holds results.json, the figure and the weights")


if __name__ == "__main__":
    with one_line_errors():
        main()
