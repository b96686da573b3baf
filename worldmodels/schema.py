"""Checks the contents of an untrusted file against a dataclass or a TypedDict.

Trap: do not read such files with the command line's parser. It imports what a `class_path` names,
and opens files where a section is expected.
"""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec

from worldmodels.errors import InputError
from worldmodels.files import Name, load_json
from worldmodels.ranges import check_ranges

Kind = TypeVar("Kind")


def checked(kind: type[Kind], data: Any) -> Kind:
    """The dataclass or TypedDict of JSON data: types, names and ranges are checked.

    Raises:
        InputError: names a field that is missing, unknown, of a wrong type or out of its range.
    """
    try:
        found = msgspec.convert(data, kind)
    except RecursionError as error:
        raise InputError("its data are nested too deeply") from error
    except msgspec.ValidationError as error:
        raise InputError(_one_line(str(error), data)) from error
    if is_dataclass(kind):
        _check_names(kind, data)
        check_ranges(found)
    return found


def load_like(path: Name, kind: type[Any]) -> dict[str, Any]:
    """Reads a JSON object that has at least the keys of a TypedDict, or the fields of a dataclass.

    Raises:
        InputError: the file is missing, truncated, or of another kind.
    """
    data = load_json(path)
    try:
        checked(kind, data)
    except InputError as error:
        raise InputError(f"{path}: {error}: delete it and run its stage again") from error
    return data


def _check_names(kind: Any, data: Mapping[str, Any], prefix: str = "") -> None:
    """Raises where a dataclass, or one in it, is given a field that it does not have."""
    hints = _hints_of(kind)
    if unknown := sorted(data.keys() - {field.name for field in fields(kind)}):
        raise InputError(f"{prefix}{unknown[0]!r} is unknown".replace("'", ""))
    for name, value in data.items():
        if is_dataclass(hints[name]):
            _check_names(hints[name], value, f"{prefix}{name}.")


_hints_of = cache(get_type_hints)


def _one_line(message: str, data: Any) -> str:
    """msgspec's message with the field first and the value last."""
    text, _, place = " ".join(message.replace("`", "").split()).partition(" - at $")
    place = place.lstrip(".")
    if missing := re.match(r"Object missing required field (\w+)", text):
        return f"{place}.{missing[1]}".lstrip(".") + " is missing"
    if not text.startswith("Expected") or "..." in place:  # no place of its own, or of any key
        return f"{place}: {text}" if place else text
    for part in re.findall(r"\w+", place):
        data = data[int(part) if isinstance(data, list | tuple) else part]
    return f"{place}: {text}, not {str(data)[:40]!r}".removeprefix(": ")
