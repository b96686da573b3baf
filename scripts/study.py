"""Temperatures and ablations: study.py RUN --config FILE [--study.field value]; to RUN/study."""

from pathlib import Path

from worldmodels.command_line import leading, one_line_errors, parse, read
from worldmodels.config import Config
from worldmodels.diagnostics.study.rows import StudySections
from worldmodels.diagnostics.study.study import study
from worldmodels.errors import InputError
from worldmodels.precision import set_precision
from worldmodels.run import Run

ABOUT = "Evolve C anew in a run's dream, in several ways: study.py RUN --config FILE ..."


def main() -> None:
    folder, flags = leading()
    own = [] if folder is None else [f"--run={Path(folder) / 'study'}"]
    sections, _ = parse(StudySections, ABOUT, [*own, *flags])
    if folder is None:
        raise InputError("no run is named: study.py RUN, a folder in which M was trained")
    run = Run(folder)
    config = read(Config, run.need(run.config_file, "scripts/pipeline.py"))
    set_precision(config.precision)
    study(run, config, sections.study)
    print(f"{run.folder / 'study'} holds study.md and study.json")


if __name__ == "__main__":
    with one_line_errors():
        main()
