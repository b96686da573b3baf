"""Figures, where matplotlib is there; without a screen and without its global state."""

from typing import Any

from worldmodels.errors import InputError


def new_figure(width: int | float = 6, height: int | float = 4) -> Any:
    """An empty matplotlib Figure of so many inches.

    Raises:
        InputError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError(
            "no figures: they need matplotlib (`pip install worldmodels-dream[figures]`)"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
