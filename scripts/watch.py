"""The same as `worldmodels watch`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["watch", *sys.argv[1:]])
