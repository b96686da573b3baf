"""The same as `worldmodels evaluate`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
