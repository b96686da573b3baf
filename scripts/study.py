"""The same as `worldmodels study`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["study", *sys.argv[1:]])
