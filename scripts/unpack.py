"""The same as `worldmodels unpack`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["unpack", *sys.argv[1:]])
