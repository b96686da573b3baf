"""Temperatures and ablations: study.py RUN --config FILE [--study.field value]; to RUN/study."""

import sys
from pathlib import Path

from worldmodels.config import Config, InputError, one_line_errors, parse, read
from worldmodels.run import Run
from worldmodels.study.rows import StudySections
from worldmodels.study.study import study

ABOUT = "Evolve C anew in a run's dream, in several ways: study.py RUN --config FILE ..."


def main() -> None:
    named = [] if sys.argv[1:2] == [] or sys.argv[1].startswith("-") else [Path(sys.argv[1])]
    flags, own = sys.argv[1 + len(named) :], [f"--run={folder / 'study'}" for folder in named]
    sections, _ = parse(StudySections, ABOUT, [*own, *flags])
    if not named:
        raise InputError("no run is named: study.py RUN, a folder in which M was trained")
    run = Run(named[0])
    config = read(Config, run.need(run.config_file, "scripts/pipeline.py"))
    study(run, config, sections.study)
    print(f"{run.folder / 'study'} holds study.md and study.json")


if __name__ == "__main__":
    with one_line_errors():
        main()
