"""Compare a dream with reality: inspect_dream.py RUN [--inspect.field value]."""

from worldmodels.command_line import leading, one_line_errors, parse
from worldmodels.diagnostics.inspect_dream import InspectSections, inspect_dream
from worldmodels.errors import InputError

ABOUT = "Compare a run's dream with its real world: inspect_dream.py RUN ..."


def main() -> None:
    folder, flags = leading()
    named = [] if folder is None else [f"--run={folder}"]
    config, run = parse(InspectSections, ABOUT, [*named, *flags], show=["inspect", "workers"])
    if not named:
        raise InputError("no run is named: inspect_dream.py RUN, a folder in which M was trained")
    if not any(flag.startswith("--config") for flag in flags):  # a round's is that of its run
        run.need(run.config_file, "scripts/collect.py")
    inspect_dream(run, config)
    print(f"{run.folder / 'inspection'} holds inspection.json and the figures")


if __name__ == "__main__":
    with one_line_errors():
        main()
