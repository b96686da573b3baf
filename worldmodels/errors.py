"""The one error class that a user can cause."""


class InputError(ValueError):
    """A user's mistake: one line that names the field or file, and the fix.

    Command lines print it without a traceback and exit with code 2.
    """
