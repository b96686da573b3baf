"""The same as `worldmodels report`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
