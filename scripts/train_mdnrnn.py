"""The same as `worldmodels train-mdnrnn`."""

import sys

from worldmodels.cli import main

if __name__ == "__main__":
    main(["train-mdnrnn", *sys.argv[1:]])
