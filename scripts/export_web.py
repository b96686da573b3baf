"""The same as `worldmodels export-web`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["export-web", *sys.argv[1:]])
