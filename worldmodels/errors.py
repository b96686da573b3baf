"""The error that a user's mistake raises."""


class InputError(ValueError):
    """A user's mistake: one line that names the field or file, and the fix.

    Command lines print it without a traceback and exit with code 2.
    """
