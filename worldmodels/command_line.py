"""Command lines: a config of many sections from defaults, then YAML files, then flags."""

import argparse
import contextlib
import dataclasses
import difflib
import errno
import functools
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

import worldmodels
from worldmodels.errors import InputError
from worldmodels.files import require_regular, save_text
from worldmodels.ranges import check_ranges
from worldmodels.run import Run

C = TypeVar("C")

MARK = "# The settings of this run, written by worldmodels."
"""First line of a config.yaml that may be overwritten."""
FORMAT = 1
"""Version of a run folder's layout, stated in its config.yaml; runs that state none have 1."""

PACKAGE = Path(__file__).parent
CONFIGS = next(f for f in (PACKAGE / "configs", PACKAGE.parent / "configs") if f.is_dir())
"""The shipped configs: a wheel has them inside the package, a checkout beside it."""

CONFIG_BYTES = 1_000_000
"""Most bytes of a YAML file."""

DISK_ERRORS = {errno.EACCES, errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS}
"""What a disk answers: full, read-only, broken, or not the user's."""

WORDINGS = (
    (r"^Group '(\S+)' does not accept option '(?:\1\.)?(\S+)'.*", r"\1.\2 is unknown"),
    (r"^Option '(\S+)' is not accepted.*", r"\1 is unknown"),
    (r"^unrecognized arguments: --([^\s=]+).*", r"\1 is unknown"),
    (r"^Parser key \"(\S+)\":", r"\1:"),
    (
        r"^later: invalid literal for int\(\).*: '(.*)'$",
        r"later names rounds, not \1: write later: {1: {collect: {episodes: 100}}}",
    ),
    (r"\ba typing\.Literal\[(.*?)\]", r"one of \1"),
    (r"<class '(\w+)'>", r"\1"),
    (r"\bNoneType\b", "null"),
    (r"Annotated\[(\w+), [^\]]*\]", r"\1"),
    (
        r"Does not validate against any of the Union subtypes Subtypes: \[(.*)\] Errors: .*"
        r"Given value: (.*)",
        r"Expected one of \1. Got value: \2",
    ),
)
"""jsonargparse's wordings, and ours."""

# field docstrings become --help; a class_path inside a dictionary stays data, nothing is executed
set_parsing_settings(
    docstring_parse_attribute_docstrings=True, instantiate_subclass_spec_in_any=False
)


class Parser(ArgumentParser):
    """jsonargparse's parser of a config; a mistake raises an InputError of one line."""

    @classmethod
    def of(cls, kind: type[Any], skip: Collection[str] = (), **options: Any) -> "Parser":
        """The parser of a dataclass, without some of its fields."""
        parser = cls(allow_abbrev=False, **options)
        parser.add_class_arguments(kind, skip=set(skip))
        return parser

    def format_help(self, *arguments: Any) -> str:
        """The help, without the ranges inside of types."""
        return re.sub(r"Annotated\[(\w+),\s+[^\]]*\]", r"\1", super().format_help(*arguments))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises, where argparse would print the usage and exit."""
        raise InputError(_one_line(message, [action.dest for action in self._actions])) from ex

    def start(self, config: Any) -> Namespace | None:
        """What parsing begins with: the values of a config; None: the defaults."""
        return None if config is None else self.parse_object(mapping_of(config))

    def build(self, kind: type[C], values: Namespace) -> C:
        """The dataclass of parsed values, checked."""
        _check_given(kind, values)
        built = self.instantiate(values)
        config = kind(**{name: built[name] for name in get_type_hints(kind)})
        check_ranges(config)
        return config


def parse(
    kind: type[C],
    description: str,
    argv: Sequence[str],
    show: Collection[str] | None = None,
    home: str | Path = "",
) -> tuple[C, Run]:
    """Config and run folder of a command line.

    Without `--config` the run's own config.yaml is read, if there is one.

    Args:
        kind: dataclass whose fields are sections (dataclasses) or plain values, all with defaults.
        description: first line of `--help`.
        argv: the arguments.
        show: sections that `--help` explains; none: all. The others are accepted as well.
        home: the run folder where `--run` names none; empty: the command needs none.

    Raises:
        InputError: for a mistake in a file or on the command line.
    """
    if {"-h", "--help"} & set(argv):
        _help(kind, description, show, home)
    files, run, flags = _outer(argv, home)
    config: C | None = None
    for file in files:
        config = read(kind, file, config)
    if config is not None and not flags:
        return config, run
    parser = _parser_of(kind)  # type: ignore[arg-type]  # a TypeVar is not known to be hashable
    try:
        values = parser.parse_args(flags, namespace=parser.start(config))
    except RecursionError as error:
        raise InputError("a value on the command line refers to itself: give plain data") from error
    return parser.build(kind, values), run


def options_of(kind: type[C], description: str, argv: Sequence[str]) -> C:
    """The options of a command that has neither a config nor a run folder.

    Args:
        kind: dataclass whose fields are the options, all with defaults.
        description: first line of `--help`.
        argv: the arguments.

    Raises:
        InputError: for a mistake on the command line.
    """
    about, words = _about_and_words(description, "")
    parser = Parser.of(kind, description=about, usage=f"%(prog)s {words} [--option VALUE ...]")
    return parser.build(kind, parser.parse_args(list(argv)))


def validated(kind: type[C], values: Mapping[str, Any], base: C | None = None) -> C:
    """The dataclass of a mapping, as of a YAML file.

    Args:
        kind: the dataclass.
        values: the fields; those of inner dataclasses are mappings.
        base: has the values of absent fields; none: they have their defaults.

    Raises:
        InputError: names an unknown field, or one of a wrong type or out of its range.
    """
    _check_sections(kind, values)
    stated = dict(values) if base is None else _over(kind, mapping_of(base), values)
    parser = _parser_of(kind)  # type: ignore[arg-type]  # a TypeVar is not known to be hashable
    return parser.build(kind, parser.parse_object(stated))


def mapping_of(config: Any) -> dict[str, Any]:
    """A config as YAML and JSON state it; `validated` makes the same config of it."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def read(kind: type[C], file: Path, base: C | None = None) -> C:
    """Config of a YAML file; absent fields are those of `base`, or have their defaults.

    `base: NAME` in the file names a shipped file whose fields it changes.

    Raises:
        InputError: naming the file and the field.
    """
    values, made_by = _load_yaml(file)
    try:
        return validated(kind, values, base)
    except InputError as error:
        raise InputError(f"{file}{made_by}: {error}") from error


def keep(
    config: Any,
    run: Run,
    free: Collection[str] = (),
    fix: str = "use another --run",
    *,
    replace: bool = False,
) -> None:
    """Saves the resolved config in the run, or compares it with the one saved there.

    Args:
        config: the resolved config.
        run: where it belongs.
        free: sections, and fields such as `evolve.generations`, that may change between stages.
        fix: the other way out of a contradiction, for the error message.
        replace: does not compare.

    Raises:
        InputError: naming the first field that contradicts the run, or the file of another program.
    """
    check_own(run)
    about = f"# Format {FORMAT}, version {worldmodels.__version__}."
    text = f"{MARK}\n{about}\n{yaml.safe_dump(mapping_of(config), sort_keys=False)}"
    there = run.config_file.exists() and not replace
    if there and run.config_file.read_bytes() != text.encode():
        kind = type(config)
        parser, both = Parser.of(kind), (read(kind, run.config_file), config)
        old, new = (dict(parser.parse_object(mapping_of(one)).items()) for one in both)
        for name in sorted(new):
            if old[name] != new[name] and not {name, name.split(".")[0]} & set(free):
                raise InputError(
                    f"{name} is {new[name]!r}, but {run.config_file} says {old[name]!r}: "
                    f"leave it as it is, or {fix}"
                )
    with run.lock():
        save_text(run.config_file, text)


def check_own(run: Run) -> None:
    """Checks that the folder has a config.yaml that `keep` wrote, or no file of a run's names.

    Raises:
        InputError: it has another config.yaml, or such a file without one.
    """
    file = run.config_file
    require_regular(file)
    if not file.exists():
        others = [path for path in run.top_files if path.exists()]
        if others:
            raise InputError(
                f"{others[0]} is there, but no config.yaml of this program: move it, or use "
                "another --run"
            )
    elif not file.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise InputError(
            f"{file} was not written by this program: use another --run, or move the file and "
            "name it with --config"
        )


def refuse_repeated(flags: Sequence[str]) -> None:
    """Checks that no option is given twice: argparse would take the last and say nothing.

    `--config` may be repeated, since a later file changes an earlier one, and so may `--name+`,
    which appends.

    Raises:
        InputError: names the option.
    """
    names = [flag.partition("=")[0] for flag in flags if flag.startswith("--")]
    for name in names:
        if names.count(name) > 1 and name != "--config" and not name.endswith("+"):
            raise InputError(f"{name} is given twice: give it once")


def name_and_flags(argv: Sequence[str] | None = None) -> tuple[str | None, list[str]]:
    """The first word that is no flag and no flag's value, such as a bundle's name; and the others.

    Args:
        argv: the arguments; none: those of the process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for place, (before, word) in enumerate(zip(["", *words], words, strict=False)):
        is_value = before.startswith("--") and "=" not in before and before != "--help"
        if not word.startswith("-") and not is_value:
            return word, words[:place] + words[place + 1 :]
    return None, words


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """For scripts: a user's mistake or a failing disk becomes one line and exit code 2."""
    before, threading.excepthook = threading.excepthook, _end_of_thread
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = os.fsdecode(error.filename or "a file")
        line = f"{where} cannot be read or written ({error.strerror}): the same command continues"
        print(f"error: {line}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        # a second time: child processes end on their own
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        print("stopped: the same command continues", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    finally:
        threading.excepthook = before


def _end_of_thread(args: threading.ExceptHookArgs) -> None:
    """Says nothing of a failing disk: TensorBoard's thread raises the error in the main one too."""
    error = args.exc_value
    if not isinstance(error, OSError) or error.errno not in DISK_ERRORS:
        threading.__excepthook__(args)


@functools.cache  # making one takes longer than parsing with it
def _parser_of(kind: type[Any]) -> Parser:
    return Parser.of(kind)


def _about_and_words(description: str, words: str) -> tuple[str, str]:
    """What a command does, and its first arguments, with which a description may end.

    As in `Show the dream: play BUNDLE.`
    """
    command = sys.argv[0].rpartition(" ")[2]
    about, _, example = description.rstrip(".").partition(f": {command} ")
    return f"{about}.", example or words


def _help(
    kind: type[Any], description: str, show: Collection[str] | None, home: str | Path
) -> None:
    """Prints the help and exits."""
    about, words = _about_and_words(description, "[--config FILE] [--run FOLDER]")
    sections = [
        name for name, hint in get_type_hints(kind).items() if dataclasses.is_dataclass(hint)
    ]
    parser = Parser.of(
        kind,
        () if show is None else set(sections) - set(show),
        description=about,
        usage=f"%(prog)s {words} [--section.field VALUE ...]",
    )
    text = "YAML file, or the name of a shipped one."
    parser.add_argument("--config", default=argparse.SUPPRESS, help=text)
    parser.add_argument("--run", default=home or argparse.SUPPRESS, help="The run folder.")
    text = "Import the module of an env.id of a bundle or a run, which may run any code."
    parser.add_argument("--trust-env", action="store_true", default=argparse.SUPPRESS, help=text)
    parser.parse_args(["--help"])


def _outer(argv: Sequence[str], home: str | Path) -> tuple[list[Path], Run, list[str]]:
    """The config files (the run's own where none is named), the run, and the other flags."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[], nargs="?")
    parser.add_argument("--run", nargs="?", default=str(home) or ".")
    given, flags = parser.parse_known_args(argv)
    named = any(word.partition("=")[0] == "--run" for word in argv)
    if not all(given.config):
        raise InputError(f"--config is empty: name a YAML file or one of {_shipped()}")
    if not given.run:
        raise InputError("--run is empty: name a folder, e.g. runs/mine")
    run = Run(_folder(given.run) if named else given.run)
    own = [run.config_file] if run.config_file.exists() and not given.config else []
    return own + [_config_file(name) for name in given.config], run, flags


def _folder(name: str) -> Path:
    """The folder that `--run` names; a shell leaves the ~ of `--run=~/mine` as it is.

    Raises:
        InputError: there is no such user, or it is a home folder or the root of the disk.
    """
    try:
        folder = Path(name).expanduser()
        home = Path.home()
    except RuntimeError as error:
        raise InputError(f"--run {name}: there is no such user") from error
    if folder.resolve() in (home.resolve(), Path(folder.resolve().anchor)):
        raise InputError(f"--run {name} is full of other things: name a folder, e.g. runs/mine")
    return folder


def _config_file(name: str) -> Path:
    """A YAML file, or the shipped one of that name."""
    shipped = CONFIGS / f"{name}.yaml"
    return shipped if shipped.exists() and not Path(name).is_file() else Path(name)


def _shipped() -> str:
    return ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is stated twice, of which YAML's own loader keeps the last.

    It refuses aliases too, with which a few lines can state billions of values.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            name = self.peek_event().anchor  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"*{name} is an alias: write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"{twice[0]} is stated twice in one section")
        return super().construct_mapping(node, deep)


def _load_yaml(file: Path) -> tuple[dict[str, Any], str]:
    """The sections of a YAML file, none in one of comments alone; and who wrote it, if not we."""
    try:
        require_regular(file)
        if file.stat().st_size > CONFIG_BYTES:
            raise InputError(f"{file} has more than {CONFIG_BYTES} bytes: it is not a config")
        text = file.read_text(encoding="utf-8")
        made_by = _made_by(file, text)
        data = yaml.load(text, _Loader)
        json.dumps(data)  # finds what config.yaml could not state
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}): name a YAML file or one of {_shipped()}"
        ) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict | None):
        raise InputError(f"{file} must hold sections such as `env:`, not {type(data).__name__}")
    return _with_base(data or {}, file), made_by


def _with_base(values: dict[str, Any], file: Path) -> dict[str, Any]:
    """The sections of a file; what it does not state is that of the shipped file that it names.

    Raises:
        InputError: `base` names no shipped file.
    """
    if "base" not in values:
        return values
    name = values.pop("base")
    base = CONFIGS / f"{name}.yaml"
    if base not in CONFIGS.glob("*.yaml"):
        raise InputError(f"{file}: base is {name!r}: name one of {_shipped()}")
    return _merged(_load_yaml(base)[0], values)


def _merged(old: Any, new: Any) -> Any:
    """`new`; of two mappings all fields, merged one by one."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}


def _made_by(file: Path, text: str) -> str:
    """Names the version that wrote a run's config.yaml, if it is another one.

    Raises:
        InputError: the run has a later format than this program reads.
    """
    stated = re.match(re.escape(MARK) + r"\n# Format (\d+), version (\S+)\.\n", text)
    number, version = (int(stated[1]), stated[2]) if stated else (1, worldmodels.__version__)
    if number > FORMAT:
        raise InputError(
            f"{file.parent} has format {number}, written by version {version}; version "
            f"{worldmodels.__version__} reads 1 to {FORMAT}: update, or use another --run"
        )
    return "" if version == worldmodels.__version__ else f", written by version {version}"


def _check_sections(kind: Any, values: Mapping[str, Any], prefix: str = "") -> None:
    """Checks that sections have fields only, before jsonargparse sees them.

    Trap: it opens the file that a text names, and imports the class that `class_path` names.
    """
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint) and name in values:
            section = values[name]
            if not isinstance(section, Mapping):
                raise InputError(f"{prefix}{name} is a section: give it fields, not {section!r}")
            if "class_path" in section:
                raise InputError(f"{prefix}{name}.class_path is unknown: see --help for the names")
            _check_sections(hint, section, f"{prefix}{name}.")


def _over(kind: Any, base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `base`, and over them those of `values`, section by section."""
    hints = get_type_hints(kind)
    sections = [name for name in values if dataclasses.is_dataclass(hints.get(name))]
    return {
        **base,
        **values,
        **{name: _over(hints[name], base[name], values[name]) for name in sections},
    }


def _check_given(kind: Any, values: Namespace, prefix: str = "") -> None:
    """Checks that no section, and no field that may not be, is null.

    jsonargparse lets null pass as the value of any field.
    """
    for name, hint in get_type_hints(kind).items():
        value = values.get(name)
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Namespace):
                raise InputError(f"{prefix}{name} is a section: give it fields, not {value!r}")
            _check_given(hint, value, f"{prefix}{name}.")
        elif value is None and type(None) not in get_args(hint):
            raise InputError(f"{prefix}{name} is null: give it a value, or leave it out")


def _one_line(message: str, known: Collection[str]) -> str:
    """jsonargparse's message as `FIELD: what is wrong`, on one line, with the nearest name."""
    message = " ".join(message.split())
    for pattern, text in WORDINGS:
        message = re.sub(pattern, text, message)
    if match := re.match(r"(\S+) is unknown", message):
        near = difflib.get_close_matches(match[1], known, n=1)
        message += f": did you mean {near[0]}?" if near else ": see --help for the names"
    return message
