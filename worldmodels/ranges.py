"""Ranges of config fields: annotations by which every config is checked."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

from worldmodels.errors import InputError


@dataclass(frozen=True, repr=False)
class Range:
    """Numbers from `low` to `high`, both included; without `low` itself if `above`."""

    low: float | int
    high: float | int = math.inf
    above: bool = False

    def __contains__(self, number: float | int) -> bool:
        """Whether a number lies inside; NaN and infinity do not."""
        inside = self.low <= number <= self.high and number < math.inf
        return inside and not (self.above and number == self.low)

    def __repr__(self) -> str:
        if self.high < math.inf:
            return f"between {self.low:g} and {self.high}"
        return f"above {self.low:g}" if self.above else f"at least {self.low:g}"


# jsonargparse has types of these names, but a plain int is no instance of them: type checkers and
# code that builds a config in Python would both have to convert every number
PositiveInt = Annotated[int, Range(1)]
NonNegativeInt = Annotated[int, Range(0)]
PositiveFloat = Annotated[float, Range(0, above=True)]
NonNegativeFloat = Annotated[float, Range(0)]
ClosedUnitInterval = Annotated[float, Range(0, 1)]
Episodes = Annotated[int, Range(1, 1_000_000)]
"""Names of episodes have six digits."""
EpisodesOrNone = Annotated[int, Range(0, 1_000_000)]
Seed = Annotated[int, Range(0, 2**63 - 1)]


def check_ranges(config: Any, prefix: str = "") -> None:
    """Checks the numbers of a dataclass, and of the dataclasses in it.

    Args:
        config: the dataclass.
        prefix: stands before the name of a field in an error, such as `train_vae.`.

    Raises:
        InputError: names the first field that lies outside of its range.
    """
    allowed_by_name = _ranges_of(type(config))  # type: ignore[arg-type]  # Any may be unhashable
    for field in fields(config):
        name, value = f"{prefix}{field.name}", getattr(config, field.name)
        if is_dataclass(value):
            check_ranges(value, f"{name}.")
        for allowed in allowed_by_name[field.name]:
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and number not in allowed:
                    raise InputError(f"{name} is {value}: it must be {allowed}")


@cache
def _ranges_of(kind: type[Any]) -> dict[str, list[Range]]:
    """The ranges of each field of a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: list(_ranges(hint)) for name, hint in hints.items()}


def _ranges(hint: Any) -> Iterator[Range]:
    """All ranges inside an annotation, such as `tuple[PositiveInt, ...] | None`."""
    if isinstance(hint, Range):
        yield hint
    for part in (*get_args(hint), *getattr(hint, "__metadata__", ())):
        yield from _ranges(part)
