"""Every number of a config lies in the range of its annotation, or is named in one line."""

import dataclasses
import math

import pytest

from worldmodels.errors import InputError
from worldmodels.ranges import (
    ClosedUnitInterval,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_ranges,
)


@dataclasses.dataclass(frozen=True)
class Inner:
    share: ClosedUnitInterval = 1.0
    sizes: tuple[PositiveInt, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outer:
    steps: PositiveInt = 1
    first: NonNegativeInt = 0
    rate: PositiveFloat | None = None
    anything: float = -5.0
    inner: Inner = dataclasses.field(default_factory=Inner)


def test_the_bounds_themselves():
    check_ranges(Outer())
    check_ranges(Outer(rate=1e-9, inner=Inner(0.0, (1, 2))))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Outer(steps=0), "^a.steps is 0: it must be at least 1$"),
        (Outer(first=-1), "^a.first is -1: it must be at least 0$"),
        (Outer(rate=0.0), "^a.rate is 0.0: it must be above 0$"),
        (Outer(rate=math.inf), "^a.rate is inf: it must be above 0$"),
        (Outer(rate=math.nan), "^a.rate is nan: it must be above 0$"),
        (Outer(inner=Inner(share=1.1)), "^a.inner.share is 1.1: it must be between 0 and 1$"),
        (Outer(inner=Inner(sizes=(3, 0))), r"^a.inner.sizes is \(3, 0\): it must be at least 1$"),
    ],
)
def test_what_lies_outside(config, message):
    with pytest.raises(InputError, match=message):
        check_ranges(config, "a.")
