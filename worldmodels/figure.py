"""Matplotlib figures that need no screen and change no global state."""

from typing import Any

from worldmodels.errors import InputError


def new_figure(width: int | float = 6, height: int | float = 4) -> Any:
    """An empty matplotlib Figure; width and height in inches.

    Raises:
        InputError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError(
            "figures need matplotlib: run `pip install worldmodels-dream[figures]`"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
