"""The error that a user's mistake raises."""

from pathlib import Path


class InputError(ValueError):
    """A user's mistake: one line that names the field or file, and the fix.

    Command lines print it without a traceback and exit with code 2.
    """


def install(extra: str) -> str:
    """How an extra is installed: in a clone, or from a wheel; no package index has this project."""
    if (Path(__file__).parents[1] / "pyproject.toml").exists():
        return f"`pip install -e '.[{extra}]'` in the clone"
    return f"`pip install 'PATH_OF_THE_WHEEL[{extra}]'`"
