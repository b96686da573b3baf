"""The same as `worldmodels web`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["web", *sys.argv[1:]])
