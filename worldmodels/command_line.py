"""Command lines: a config of many sections from defaults, then the YAML file, then the flags."""

import argparse
import contextlib
import dataclasses
import difflib
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, set_parsing_settings

from worldmodels.errors import InputError
from worldmodels.files import save_text
from worldmodels.ranges import check_ranges
from worldmodels.run import Run

C = TypeVar("C")

MARK = "# The settings of this run, written by worldmodels."
"""First line of a config.yaml that may be overwritten."""

PACKAGE = Path(__file__).parent
CONFIGS = next(f for f in (PACKAGE / "configs", PACKAGE.parent / "configs") if f.is_dir())
"""The shipped configs: a wheel has them inside the package, a checkout beside it."""

WORDINGS = (
    (r"^Group '(\S+)' does not accept option '(?:\1\.)?(\S+)'.*", r"\1.\2 is unknown"),
    (r"^Option '(\S+)' is not accepted.*", r"\1 is unknown"),
    (r"^unrecognized arguments: --([^\s=]+).*", r"\1 is unknown"),
    (r"^Parser key \"(\S+)\":", r"\1:"),
    (r"<class '(\w+)'>", r"\1"),
    (r"typing\.", ""),
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
    """jsonargparse's parser; mistakes become an InputError of one line that names the field."""

    @classmethod
    def of(
        cls, kind: type[Any], description: str = "", sections: Collection[str] | None = None
    ) -> "Parser":
        """The parser of a config; it explains and accepts these of its sections (none: all)."""
        usage = "%(prog)s [--config FILE] [--run FOLDER] [--section.field VALUE ...]"
        parser = cls(description=description, usage=usage, allow_abbrev=False)
        parser.add_argument(
            "--config", action=ActionConfigFile, help="YAML file, or the name of a shipped one."
        )
        parser.add_argument("--run", type=str, default="runs/default", help="The run folder.")
        hints = get_type_hints(kind)
        texts = {p.arg_name: p.description for p in docstring_parser.parse_from_object(kind).params}
        for field in dataclasses.fields(kind):
            section = dataclasses.is_dataclass(hints[field.name])
            if not section or sections is None or field.name in sections:
                options: dict[str, Any] = {} if section else {"help": texts.get(field.name)}
                parser.add_argument(
                    f"--{field.name}", type=hints[field.name], **_default(field), **options
                )
        return parser

    def format_help(self, *arguments: Any) -> str:
        """The help, without the ranges inside of types."""
        return re.sub(r"Annotated\[(\w+),\s+[^\]]*\]", r"\1", super().format_help(*arguments))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises, where argparse would print the usage and exit."""
        raise InputError(_one_line(message, [action.dest for action in self._actions])) from ex


def parse(
    kind: type[C],
    description: str,
    argv: Sequence[str] | None = None,
    show: Collection[str] | None = None,
) -> tuple[C, Run]:
    """Config and run folder of a command line.

    Without `--config` the run's own config.yaml is read, if there is one.

    Args:
        kind: dataclass whose fields are sections (dataclasses) or plain values, all with defaults.
        description: first line of `--help`.
        argv: the arguments; none: those of the process.
        show: sections that `--help` explains; none: all. The others are accepted as well.

    Raises:
        InputError: for a mistake in the file or on the command line.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(argv):
        Parser.of(kind, description, show).parse_args(["--help"])
    parser = Parser.of(kind)
    files, rest = _config_files(argv)
    files = [file for file in files if _states(file)]
    for file in files:
        read(kind, file)
    values = parser.parse_args([*(f"--config={file}" for file in files), *rest])
    run = Run(values.pop("run"))
    return _build(kind, parser, values), run


def validated(kind: type[C], values: Mapping[str, Any], base: C | None = None) -> C:
    """The dataclass of a mapping, as of a JSON file.

    Args:
        kind: the dataclass.
        values: the fields; those of inner dataclasses are mappings.
        base: has the values of absent fields; none: they have their defaults.

    Raises:
        InputError: names an unknown field, or one of a wrong type or out of its range.
    """
    parser = Parser.of(kind)
    start = None if base is None else parser.parse_object(mapping_of(base))
    return _build(kind, parser, parser.parse_object(dict(values), namespace=start))


def mapping_of(config: Any) -> dict[str, Any]:
    """A config as YAML and JSON state it; `validated` makes the same config of it."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def read(kind: type[C], file: Path) -> C:
    """Config of a YAML file; absent fields have their defaults.

    Raises:
        InputError: naming the file and the field.
    """
    if not _states(file):
        return kind()
    parser = Parser.of(kind)
    try:
        return _build(kind, parser, parser.parse_path(str(file)))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def keep(config: Any, run: Run, free: Collection[str] = (), fix: str = "use another --run") -> None:
    """Saves the resolved config in the run, or compares it with the one saved there.

    Args:
        config: the resolved config.
        run: where it belongs.
        free: sections, and fields such as `evolve.generations`, that may change between stages.
        fix: the other way out of a contradiction, for the error message.

    Raises:
        InputError: naming the first field that contradicts the run.
    """
    text = yaml.safe_dump(mapping_of(config), sort_keys=False)
    if run.config_file.exists():
        check_mark(run)
        old, new = _flat(read(type(config), run.config_file)), _flat(config)
        for name in sorted(new):
            if old[name] != new[name] and not {name, name.split(".")[0]} & set(free):
                raise InputError(
                    f"{name} is {new[name]!r}, but {run.config_file} says {old[name]!r}: "
                    f"leave it as it is, or {fix}"
                )
    with run.lock():
        save_text(run.config_file, f"{MARK}\n{text}")


def check_mark(run: Run) -> None:
    """Checks that the run's config.yaml, if there is one, was written by `keep`.

    Raises:
        InputError: another program wrote it.
    """
    file = run.config_file
    if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise InputError(
            f"{file} was not written by this program: use another --run, or move the file and "
            "name it with --config"
        )


def leading(argv: Sequence[str] | None = None) -> tuple[str | None, list[str]]:
    """The name before the flags, as of a run or a bundle (none: None), and the flags.

    Args:
        argv: the arguments; none: those of the process.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-"):
        return argv[0], argv[1:]
    return None, argv


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """For scripts: a user's mistake becomes one line on stderr and exit code 2."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: the same command continues", file=sys.stderr)  # noqa: T201
        sys.exit(130)


def _config_files(argv: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The files of a command line (the run's own where none is named), and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[], nargs="?")
    parser.add_argument("--run", nargs="?", const="")
    given, rest = parser.parse_known_args(argv)
    if not all(given.config):
        raise InputError(f"--config is empty: name a YAML file or one of {_shipped()}")
    if given.run == "":
        raise InputError("--run is empty: name a folder, e.g. runs/mine")
    if given.run is not None:
        rest = [f"--run={given.run}", *rest]
        if not given.config and Run(given.run).config_file.exists():
            return [Run(given.run).config_file], rest
    return [_config_file(name) for name in given.config], rest


def _config_file(name: str) -> Path:
    """A YAML file, or the shipped one of that name."""
    shipped = CONFIGS / f"{name}.yaml"
    return shipped if shipped.exists() and not Path(name).is_file() else Path(name)


def _shipped() -> str:
    return ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is stated twice, of which YAML's own loader keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"{twice[0]} is stated twice in one section")
        return super().construct_mapping(node, deep)


def _states(file: Path) -> bool:
    """Whether a YAML file states anything; one of comments alone means the defaults."""
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}): name a YAML file or one of {_shipped()}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict | None):
        raise InputError(f"{file} must hold sections such as `env:`, not {type(data).__name__}")
    return bool(data)


def _default(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """How jsonargparse is told a field's default."""
    if field.default_factory is not dataclasses.MISSING:
        return {"default": field.default_factory()}
    if field.default is not dataclasses.MISSING:
        return {"default": field.default}
    return {"required": True}


def _build(kind: type[C], parser: Parser, values: Namespace) -> C:
    _check_given(kind, values)
    built = parser.instantiate(values)
    config = kind(**{name: built[name] for name in get_type_hints(kind)})
    check_ranges(config)
    return config


def _check_given(kind: Any, values: Namespace, prefix: str = "") -> None:
    """Checks that sections are sections, and that no field is null that may not be.

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


def _flat(config: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            flat |= {f"{field.name}.{name}": inner for name, inner in _flat(value).items()}
        else:
            flat[field.name] = value
    return flat


def _one_line(message: str, known: Collection[str]) -> str:
    """jsonargparse's message as `FIELD: what is wrong`, on one line, with the nearest name."""
    message = " ".join(message.split())
    for pattern, text in WORDINGS:
        message = re.sub(pattern, text, message)
    if match := re.match(r"(\S+) is unknown", message):
        near = difflib.get_close_matches(match[1], known, n=1)
        message += f": did you mean {near[0]}?" if near else ": see --help for the names"
    return message
