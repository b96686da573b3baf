"""The same as `worldmodels encode`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["encode", *sys.argv[1:]])
