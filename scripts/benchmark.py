"""Measure each part beside the plain way to write it: benchmark.py --help."""

from benchmark.command import main  # the folder beside this file

from worldmodels.command_line import one_line_errors

if __name__ == "__main__":
    with one_line_errors():
        main()
