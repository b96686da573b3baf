"""The command line: `worldmodels COMMAND ...`, one entry of COMMANDS for each command.

A command imports what it needs when it is called, so that `worldmodels --help` is quick.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from worldmodels.command_line import (
    name_and_flags,
    one_line_errors,
    options_of,
    parse,
    read,
    refuse_repeated,
)
from worldmodels.errors import InputError
from worldmodels.run import Run

if TYPE_CHECKING:
    from worldmodels.config import Config


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; a user's mistake becomes one line on stderr and exit code 2.

    Args:
        argv: the command and its arguments; none: those of the process.
    """
    with one_line_errors():
        name, flags = name_and_flags(_without_trust(sys.argv[1:] if argv is None else argv))
        if name is None:
            print(usage())  # noqa: T201
            return
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            fix = f"did you mean {near[0]}?" if near else "see worldmodels --help"
            raise InputError(f"{name} is not a command: {fix}")
        refuse_repeated(flags)
        sys.argv = [f"worldmodels {name}", *flags]  # what results and --help call the command
        COMMANDS[name](name, flags)


def _without_trust(words: Sequence[str]) -> list[str]:
    """A command line without `--trust-env`; trusts the modules that it allows or names itself.

    A module that the user names needs no second word. Those that a bundle, or a run begun by
    somebody else, names are imported only if they are installed environment packages.
    """
    from worldmodels.envs.trust import ANY, trust

    named = {found[1] for word in words if (found := re.search(r"([\w./~-]+):[A-Za-z]", word))}
    trust(*named, *([ANY] if "--trust-env" in words else []))
    return [word for word in words if word != "--trust-env"]


def usage() -> str:
    """The text of `worldmodels --help`."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{about(name)}" for name in COMMANDS]
    return "\n".join(
        [
            "worldmodels COMMAND ...: train a world model, evolve a controller in its dream.",
            "",
            *lines,
            "",
            "`worldmodels COMMAND --help` explains the arguments of a command.",
        ]
    )


def about(command: str) -> str:
    """What a command does, in a line."""
    return STAGES[command].about if command in STAGES else str(COMMANDS[command].__doc__)


@dataclass(frozen=True)
class Stage:
    """A stage of one run: `stage(run, *sections)`."""

    about: str
    sections: tuple[str, ...]
    """Fields of the config that it is given, and whose help is shown."""
    next: str
    """The command after it."""

    def __call__(self, name: str, flags: list[str]) -> None:
        from worldmodels.config import begin

        module = name.replace("-", "_")
        config, run = begin(self.about, flags, self.sections, first=name == "collect")
        function = getattr(import_module(f"worldmodels.stages.{module}"), module)
        function(run, *(getattr(config, section) for section in self.sections))
        _say_next(self.next, f"--run {run.folder}")


STAGES = {
    "collect": Stage(
        "Record real episodes into RUN/episodes.",
        ("env", "collect", "workers", "seed"),
        "train-vae",
    ),
    "train-vae": Stage(
        "Train V on the frames of RUN/episodes.", ("vae", "train_vae", "seed"), "encode"
    ),
    "encode": Stage("Encode the frames of RUN/episodes into RUN/latents.", (), "train-mdnrnn"),
    "train-mdnrnn": Stage(
        "Train M on the sequences of RUN/latents.", ("mdnrnn", "train_mdnrnn", "seed"), "evolve"
    ),
    "evolve": Stage(
        "Evolve C in the dream or in the real environment; real validation selects the best.",
        ("controller", "dream", "cma", "evolve", "workers", "seed"),
        "evaluate",
    ),
}


def import_(name: str, flags: list[str]) -> None:
    """Convert recordings (a folder or an HDF5 file) to episodes: import SOURCE --run RUN."""
    from worldmodels.config import begin
    from worldmodels.stages.import_episodes import import_episodes

    source, flags = name_and_flags(flags)
    if not any(flag.startswith("--config") for flag in flags):
        flags = ["--config=recorded", *flags]
    config, run = begin(about(name), flags, ["env"], first=True)
    first = run if config.rounds == 1 else run.round(0)
    try:
        import_episodes(first, _named(source, "source", "import SOURCE --run RUN"), config.env)
    except InputError:
        if not (first.world_file.exists() or run.metrics.exists()):  # nothing has begun
            run.config_file.unlink(missing_ok=True)
        raise
    _say_next("train-vae", f"--run {run.folder}")


def export_episodes(name: str, flags: list[str]) -> None:
    """Write a run's episodes as a Minari data set: export-episodes RUN --out FOLDER."""
    from worldmodels.stages.export_episodes import ExportEpisodesOptions, export_episodes

    run, flags = name_and_flags(flags)
    options = options_of(ExportEpisodesOptions, about(name), flags)
    example = "export-episodes RUN --out FOLDER"
    out = Path(_named(options.out or None, "folder", example))
    export_episodes(Run(_named(run, "run", example)), out)


def pipeline(name: str, flags: list[str]) -> None:
    """Run all stages and rounds, from collect to report: pipeline [--config FILE] [--run RUN]."""
    from worldmodels.config import begin
    from worldmodels.pipeline import pipeline

    config, run = begin(about(name), flags, first=True)
    pipeline(run, config)
    _say_next("play", str(run.folder))


def init(name: str, flags: list[str]) -> None:
    """Write a config for an environment: init ENV_ID [--out FILE]."""
    from worldmodels.stages.init_config import InitSections, init_config

    env_id, flags = name_and_flags(flags)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out")
    options, flags = parser.parse_known_args(flags)
    config, _ = parse(InitSections, about(name), flags)
    env = replace(config.env, id=_named(env_id, "environment", "init ENV_ID [--out FILE]"))
    stem = re.sub(r"\W+", "_", Path(env.id.rpartition(":")[2]).name).lower()
    init_config(env, config.workers, Path(options.out or f"{stem}.yaml"))
    _say_next("pipeline", f"--config {options.out or f'{stem}.yaml'} --run runs/{stem}")


def evaluate(name: str, flags: list[str]) -> None:
    """Evaluate an agent on test episodes: evaluate [BUNDLE] [--run RUN]."""
    from worldmodels.stages.evaluate import evaluate, evaluate_bundle

    bundle, config, run = _begun_or_bundle(name, flags, ["evaluate", "workers"])
    if bundle is not None:
        evaluate_bundle(bundle, run, config.evaluate, config.workers)
        return
    evaluate(run, config.dream, config.evaluate, config.workers, config.seed)
    _say_next("watch", f"--run {run.folder}")


def watch(name: str, flags: list[str]) -> None:
    """Film an agent in reality and in the dream: watch [BUNDLE] [--run RUN]."""
    from worldmodels.stages.watch import watch

    bundle, config, run = _begun_or_bundle(name, flags, ["watch", "seed"])
    watch(run, config.watch, config.seed, bundle)
    _say_next("play", bundle or str(run.folder))


def play(name: str, flags: list[str]) -> None:
    """Show the dream, or reality, in a window; the agent acts, or you: play BUNDLE."""
    from worldmodels.play.play import PlaySections, play

    bundle, flags = name_and_flags(flags)
    config, run = parse(PlaySections, about(name), flags)
    bundle = _named(bundle, "bundle", "play BUNDLE, a shipped name, a bundle or a run")
    named = run.folder != Path()
    play(bundle, config.play, (run if named else Run(_home(bundle))).videos)


def export_web(name: str, flags: list[str]) -> None:
    """Write the dream of a bundle as a web page: export-web BUNDLE --out FOLDER."""
    from worldmodels.web.export import ExportOptions, export_web

    bundle, flags = name_and_flags(flags)
    options = options_of(ExportOptions, about(name), flags)
    example = "export-web BUNDLE --out FOLDER"
    folder = Path(_named(options.out or None, "folder", example))
    export_web(_named(bundle, "bundle", f"{example}; a shipped name, a bundle or a run"), folder)
    print(f"{folder} holds the page: any web server can show it")  # noqa: T201


def web(name: str, flags: list[str]) -> None:
    """Show the dream of a bundle in a browser: web BUNDLE."""
    from worldmodels.web.serve import ServeOptions, web

    bundle, flags = name_and_flags(flags)
    options = options_of(ServeOptions, about(name), flags)
    web(_named(bundle, "bundle", "web BUNDLE, a shipped name, a bundle or a run"), options.port)


def unpack(name: str, flags: list[str]) -> None:
    """Make a run from a bundle, to evolve C again: unpack BUNDLE --config FILE --run RUN."""
    from worldmodels.artifacts import Bundle, unpack
    from worldmodels.config import Config, begin

    source, flags = name_and_flags(flags)
    parse(Config, about(name), flags, ["seed"], home="runs/default")  # mistakes claim nothing
    source = _named(source, "bundle", "unpack BUNDLE, the name of a shipped one or a folder")
    if not any(flag.startswith("--config") for flag in flags):  # the defaults are CarRacing's
        raise InputError("--config is missing: it says how C is evolved, as take_cover.yaml does")
    bundle = Bundle.load(source)
    _, run = begin(about(name), flags, ["seed"], first=True)
    unpack(bundle, run)
    _say_next("evolve", f"--run {run.folder}")


def inspect_dream(name: str, flags: list[str]) -> None:
    """Compare a dream with the real environment; writes RUN/inspection: inspect-dream RUN."""
    from worldmodels.diagnostics.inspect_dream import inspect_dream
    from worldmodels.diagnostics.inspection import InspectSections

    folder, flags = name_and_flags(flags)
    show = ["inspect", "workers"]
    config, run = parse(InspectSections, about(name), flags, show, home=folder or "")
    _named(folder, "run", "inspect-dream RUN, a folder in which M was trained")
    if not any(flag.startswith("--config") for flag in flags):  # a round's is that of its run
        run.need(run.config_file, "worldmodels collect")
    inspect_dream(run, config)
    print(f"{run.folder / 'inspection'} holds inspection.json and the figures")  # noqa: T201


def study(name: str, flags: list[str]) -> None:
    """Evolve C again with other settings; writes RUN/study: study RUN --config FILE."""
    from worldmodels.config import Config
    from worldmodels.device import set_device
    from worldmodels.diagnostics.study import StudySections, study
    from worldmodels.precision import set_precision

    folder, flags = name_and_flags(flags)
    sections, _ = parse(StudySections, about(name), flags, home=f"{folder}/study" if folder else "")
    run = Run(_named(folder, "run", "study RUN, a folder in which M was trained"))
    config = read(Config, run.need(run.config_file, "worldmodels pipeline"))
    set_precision(config.precision)
    set_device(config.device)
    study(run, replace(config, workers=sections.workers), sections.study)
    print(f"{run.folder / 'study'} holds study.md and study.json")  # noqa: T201


def report(name: str, flags: list[str]) -> None:
    """Write RUN/report.html, one file with results, curves, films and config: report RUN."""
    from worldmodels.report.report import report

    parser = argparse.ArgumentParser(
        prog=f"worldmodels {name}", description=about(name), allow_abbrev=False
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="The folder of a run.")
    options, unknown = parser.parse_known_args(flags)
    if unknown:
        raise InputError(f"{unknown[0]} is unknown: report takes only a folder")
    report(Run(_named(options.run, "run", "report RUN, the folder of a run")))


def gallery(name: str, flags: list[str]) -> None:
    """Train another mixture density network: gallery NAME [--data PATH]."""
    from worldmodels.gallery.system import SYSTEMS, show

    if name_and_flags(flags)[0] is None and {"-h", "--help"} & {*flags}:
        parser = argparse.ArgumentParser(description=about(name))
        known = f"{', '.join(SYSTEMS)}; `worldmodels gallery NAME --help` explains its arguments."
        parser.add_argument("name", metavar="NAME", help=known)
        parser.parse_args(["--help"])
    run, numbers = show(flags)
    for number, value in numbers.items():
        print(f"{number}: {value:.4g}" if isinstance(value, float) else f"{number}: {value}")  # noqa: T201
    print(f"{run.folder} holds results.json, the figure and the weights")  # noqa: T201


def find_baselines(name: str, flags: list[str]) -> None:
    """Find an environment's best open-loop policy, for worldmodels/acting/baselines.json."""
    from worldmodels.stages.find_baselines import SEARCHES, find_baselines
    from worldmodels.workers import WorkersConfig

    parser = argparse.ArgumentParser(description=about(name), allow_abbrev=False)
    parser.add_argument("--world", required=True, choices=SEARCHES, help="The environment.")
    parser.add_argument("--processes", type=int, default=0, help="0: one per core.")
    options = parser.parse_args(flags)
    command = f"worldmodels find-baselines --world {options.world}"
    find_baselines(options.world, WorkersConfig(processes=options.processes), command)


COMMANDS: dict[str, Callable[[str, list[str]], None]] = {
    "pipeline": pipeline,
    "init": init,
    "import": import_,
    **STAGES,
    "evaluate": evaluate,
    "watch": watch,
    "play": play,
    "web": web,
    "export-web": export_web,
    "inspect-dream": inspect_dream,
    "study": study,
    "report": report,
    "unpack": unpack,
    "export-episodes": export_episodes,
    "gallery": gallery,
    "find-baselines": find_baselines,
}


def _named(name: str | None, what: str, example: str) -> str:
    if name is None:
        raise InputError(f"no {what} is named: worldmodels {example}")
    return name


def _begun_or_bundle(
    name: str, flags: list[str], show: list[str]
) -> tuple[str | None, "Config", Run]:
    """The BUNDLE of a command line and where its results go, or the run that has begun."""
    from worldmodels.config import Config, begin

    bundle, flags = name_and_flags(flags)
    if bundle is None:
        config, run = begin(about(name), flags, show)
        return None, config.of_round(run.holds), run
    return bundle, *parse(Config, about(name), flags, show, _home(bundle))


def _home(bundle: str) -> Path:
    """The run folder for what is made of a bundle."""
    return Path("runs") / Path(bundle).resolve().name


def _say_next(command: str, arguments: str) -> None:
    print(f"next: worldmodels {command} {arguments}")  # noqa: T201
