"""The error that a user's mistake raises."""


class InputError(ValueError):
    """A user's mistake: one line that names the field or file, and the fix.

    Command lines print it without a traceback and exit with code 2.
    """


def install(extra: str) -> str:
    """How an extra is installed: from a clone, since no package index has this project."""
    return f"`pip install -e '.[{extra}]'` in the clone"
