"""The same as `worldmodels export-episodes`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["export-episodes", *sys.argv[1:]])
