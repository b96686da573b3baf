"""The same as `worldmodels inspect-dream`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["inspect-dream", *sys.argv[1:]])
