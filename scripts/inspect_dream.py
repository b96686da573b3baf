"""Is the dream honest? inspect_dream.py RUN [--inspect.field value]; writes RUN/inspection."""

from worldmodels.command_line import leading, one_line_errors, parse
from worldmodels.diagnostics.inspect_dream import InspectSections, inspect_dream
from worldmodels.diagnostics.inspection import Made
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
    made = Made(
        seed=config.seed,
        explore=config.collect.explore,
        min_steps=config.collect.min_steps,
        max_steps=config.collect.max_steps,
        latent_noise=config.train_mdnrnn.latent_noise,
        positive_weight=config.train_mdnrnn.positive_weight,
        controller=config.controller,
        dream=config.dream,
        validation_max_steps=config.evolve.validation_max_steps,
    )
    inspect_dream(run, made, config.inspect, config.workers)
    print(f"{run.folder / 'inspection'} holds inspection.json and the figures")


if __name__ == "__main__":
    with one_line_errors():
        main()
