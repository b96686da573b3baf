"""The same as `worldmodels collect`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["collect", *sys.argv[1:]])
