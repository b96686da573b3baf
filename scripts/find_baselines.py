"""The same as `worldmodels find-baselines`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["find-baselines", *sys.argv[1:]])
