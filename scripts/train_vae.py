"""The same as `worldmodels train-vae`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["train-vae", *sys.argv[1:]])
