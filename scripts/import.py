"""The same as `worldmodels import`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["import", *sys.argv[1:]])
