"""The same as `worldmodels init`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["init", *sys.argv[1:]])
