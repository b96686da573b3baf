"""The same as `worldmodels evolve`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["evolve", *sys.argv[1:]])
