"""The same as `worldmodels play`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["play", *sys.argv[1:]])
