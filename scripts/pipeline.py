"""The same as `worldmodels pipeline`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["pipeline", *sys.argv[1:]])
