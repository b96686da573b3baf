"""The same as `worldmodels gallery`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["gallery", *sys.argv[1:]])
