"""The command line: `worldmodels COMMAND ...`, one function for each command.

Each function imports what it needs when it is called, so that `worldmodels --help` is quick.
"""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from worldmodels.command_line import leading, one_line_errors, parse, read
from worldmodels.errors import InputError
from worldmodels.run import Run


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; a user's mistake becomes one line on stderr and exit code 2.

    Args:
        argv: the command and its arguments; none: those of the process.
    """
    with one_line_errors():
        name, flags = leading(argv)
        if name is None:
            print(usage())  # noqa: T201
            return
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            fix = f"did you mean {near[0]}?" if near else "see worldmodels --help"
            raise InputError(f"{name} is no command: {fix}")
        sys.argv = [f"worldmodels {name}", *flags]  # what results and --help call the command
        command = COMMANDS[name]
        command(str(command.__doc__), flags)


def usage() -> str:
    """The text of `worldmodels --help`."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "worldmodels COMMAND ...: learn a world from its frames, dream in it, act in it.",
            "",
            *lines,
            "",
            "`worldmodels COMMAND --help` explains the arguments of a command.",
        ]
    )


def pipeline(about: str, flags: list[str]) -> None:
    """All stages and rounds, from nothing to a tested agent and its film: --config FILE."""
    from worldmodels.config import begin
    from worldmodels.pipeline import pipeline

    config, run = begin(about, argv=flags, first=True)
    pipeline(run, config)
    _say_next("play", str(run.folder))


def collect(about: str, flags: list[str]) -> None:
    """Record real episodes into RUN/episodes."""
    from worldmodels.config import begin
    from worldmodels.stages.collect import collect

    config, run = begin(about, ["seed", "env", "workers", "collect"], flags, first=True)
    collect(run, config.env, config.collect, config.workers, config.seed)
    _say_next("train-vae", f"--run {run.folder}")


def train_vae(about: str, flags: list[str]) -> None:
    """Train V on the frames of RUN/episodes."""
    from worldmodels.config import begin
    from worldmodels.stages.train_vae import train_vae

    config, run = begin(about, ["seed", "vae", "train_vae"], flags)
    train_vae(run, config.vae, config.train_vae, config.seed)
    _say_next("encode", f"--run {run.folder}")


def encode(about: str, flags: list[str]) -> None:
    """Encode the frames of RUN/episodes into RUN/latents."""
    from worldmodels.config import begin
    from worldmodels.stages.encode import encode

    _, run = begin(about, ["precision"], flags)
    encode(run)
    _say_next("train-mdnrnn", f"--run {run.folder}")


def train_mdnrnn(about: str, flags: list[str]) -> None:
    """Train M on the sequences of RUN/latents."""
    from worldmodels.config import begin
    from worldmodels.stages.train_mdnrnn import train_mdnrnn

    config, run = begin(about, ["seed", "mdnrnn", "train_mdnrnn"], flags)
    train_mdnrnn(run, config.mdnrnn, config.train_mdnrnn, config.seed)
    _say_next("evolve", f"--run {run.folder}")


def evolve(about: str, flags: list[str]) -> None:
    """Evolve C in the dream or in the real world; keep the best by real validation."""
    from worldmodels.config import begin
    from worldmodels.stages.evolve import evolve

    config, run = begin(about, ["seed", "controller", "dream", "cma", "evolve", "workers"], flags)
    parts = config.controller, config.dream, config.cma, config.evolve, config.workers
    evolve(run, *parts, config.seed)
    _say_next("evaluate", f"--run {run.folder}")


def evaluate(about: str, flags: list[str]) -> None:
    """Measure C on official test episodes: that of --run RUN, or of a BUNDLE."""
    from worldmodels.config import Config, begin
    from worldmodels.stages.evaluate import evaluate, evaluate_bundle

    bundle, flags = leading(flags)
    show = ["evaluate", "workers"]
    if bundle is not None:
        config, run = parse(Config, about, [_folder_for(bundle), *flags], show)
        evaluate_bundle(bundle, run, config.evaluate, config.workers)
        return
    config, run = begin(about, show, flags)
    evaluate(run, config.dream, config.evaluate, config.workers, config.seed)
    _say_next("watch", f"--run {run.folder}")


def watch(about: str, flags: list[str]) -> None:
    """Film an agent, that of --run RUN or of a BUNDLE: reality, reconstruction and dream."""
    from worldmodels.config import Config, begin
    from worldmodels.stages.watch import watch

    bundle, flags = leading(flags)
    show = ["watch", "seed"]
    if bundle is None:
        config, run = begin(about, show, flags)
    else:
        config, run = parse(Config, about, [_folder_for(bundle), *flags], show)
    watch(run, config.watch, config.seed, bundle)
    _say_next("play", str(run.folder))


def play(about: str, flags: list[str]) -> None:
    """Play inside the dream of a BUNDLE, or watch the agent play: play take_cover."""
    from worldmodels.stages.play import PlaySections, play

    bundle, flags = leading(flags)
    config, _ = parse(PlaySections, about, flags)
    play(_named(bundle, "bundle", "play BUNDLE, a shipped name, a bundle or a run"), config.play)


def unpack(about: str, flags: list[str]) -> None:
    """Make a run of a BUNDLE, to evolve or study other controllers: --config FILE --run RUN."""
    from worldmodels.artifacts import unpack
    from worldmodels.config import begin

    name, flags = leading(flags)
    _, run = begin(about, ["seed"], flags, first=True)
    name = _named(name, "bundle", "unpack BUNDLE, the name of a shipped one or a folder")
    if not any(flag.startswith("--config") for flag in flags):  # the defaults are another world's
        raise InputError("--config is missing: it says how C is evolved, as take_cover.yaml does")
    unpack(name, run)
    _say_next("evolve", f"--run {run.folder}")


def inspect_dream(about: str, flags: list[str]) -> None:
    """Compare the dream of a RUN with its real world; writes RUN/inspection."""
    from worldmodels.diagnostics.inspect_dream import InspectSections, inspect_dream

    folder, flags = leading(flags)
    named = [] if folder is None else [f"--run={folder}"]
    config, run = parse(InspectSections, about, [*named, *flags], show=["inspect", "workers"])
    _named(folder, "run", "inspect-dream RUN, a folder in which M was trained")
    if not any(flag.startswith("--config") for flag in flags):  # a round's is that of its run
        run.need(run.config_file, "worldmodels collect")
    inspect_dream(run, config)
    print(f"{run.folder / 'inspection'} holds inspection.json and the figures")  # noqa: T201


def study(about: str, flags: list[str]) -> None:
    """Evolve C anew in the dream of a RUN, in several ways; writes RUN/study: --config FILE."""
    from worldmodels.config import Config
    from worldmodels.diagnostics.study.rows import StudySections
    from worldmodels.diagnostics.study.study import study
    from worldmodels.precision import set_precision

    folder, flags = leading(flags)
    own = [] if folder is None else [f"--run={Path(folder) / 'study'}"]
    sections, _ = parse(StudySections, about, [*own, *flags])
    run = Run(_named(folder, "run", "study RUN, a folder in which M was trained"))
    config = read(Config, run.need(run.config_file, "worldmodels pipeline"))
    set_precision(config.precision)
    study(run, config, sections.study)
    print(f"{run.folder / 'study'} holds study.md and study.json")  # noqa: T201


def gallery(about: str, flags: list[str]) -> None:  # noqa: ARG001
    """Train and show another mixture density system: gallery NAME [--data PATH]."""
    from worldmodels.gallery.system import show

    run, numbers = show(flags)
    for name, value in numbers.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")  # noqa: T201
    print(f"{run.folder} holds results.json, the figure and the weights")  # noqa: T201


def find_baselines(about: str, flags: list[str]) -> None:
    """Find the best open-loop policy of a world, for worldmodels/acting/baselines.json."""
    from worldmodels.stages.find_baselines import SEARCHES, find_baselines
    from worldmodels.workers import WorkersConfig

    parser = argparse.ArgumentParser(description=about, allow_abbrev=False)
    parser.add_argument("--world", required=True, choices=SEARCHES, help="Which world.")
    parser.add_argument("--processes", type=int, default=0, help="0: one per core.")
    options = parser.parse_args(flags)
    command = f"worldmodels find-baselines --world {options.world}"
    find_baselines(SEARCHES[options.world], WorkersConfig(processes=options.processes), command)


COMMANDS: dict[str, Callable[[str, list[str]], None]] = {
    "pipeline": pipeline,
    "collect": collect,
    "train-vae": train_vae,
    "encode": encode,
    "train-mdnrnn": train_mdnrnn,
    "evolve": evolve,
    "evaluate": evaluate,
    "watch": watch,
    "play": play,
    "inspect-dream": inspect_dream,
    "study": study,
    "unpack": unpack,
    "gallery": gallery,
    "find-baselines": find_baselines,
}


def _named(name: str | None, what: str, example: str) -> str:
    if name is None:
        raise InputError(f"no {what} is named: worldmodels {example}")
    return name


def _folder_for(bundle: str) -> str:
    """The flag that names the run folder for results about a bundle."""
    return f"--run={Path('runs') / Path(bundle).resolve().name}"


def _say_next(command: str, arguments: str) -> None:
    print(f"next: worldmodels {command} {arguments}")  # noqa: T201
