"""The one error class that a user can cause, and the checks of a config's ranges."""


class InputError(ValueError):
    """A user's mistake: one line that names the field or file, and the fix.

    Command lines print it without a traceback and exit with code 2.
    """


def check_at_least(section: str, config: object, low: int, *names: str) -> None:
    """Fields of a section that must not lie below `low`; NaN does, None is let through.

    Of a tuple no number must.

    Raises:
        InputError: naming the first that does.
    """
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not number >= low:
                raise InputError(f"{section}.{name} is {value}: it must be at least {low}")


def check_above_zero(section: str, config: object, *names: str) -> None:
    """Fields of a section that must be above 0; None is let through.

    Raises:
        InputError: naming the first that isn't.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise InputError(f"{section}.{name} is {value}: it must be above 0")


def check_share(section: str, config: object, *names: str) -> None:
    """Fields of a section that must lie between 0 and 1.

    Raises:
        InputError: naming the first that doesn't.
    """
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise InputError(f"{section}.{name} is {value}: it must lie between 0 and 1")
