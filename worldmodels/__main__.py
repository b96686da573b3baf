"""`python -m worldmodels` is the command `worldmodels`."""

from worldmodels.cli import main

if __name__ == "__main__":
    main()
