"""What files say is checked by type, name and range, and the field is named."""

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import pytest

from worldmodels.errors import InputError
from worldmodels.files import save_json
from worldmodels.ranges import PositiveInt
from worldmodels.schema import checked, load_like


@dataclass(frozen=True, kw_only=True)
class Inner:
    shape: tuple[int, ...] = (1,)
    kind: Literal["a", "b"] = "a"

    def __post_init__(self):
        if not self.shape:
            raise InputError("inner.shape is empty")


@dataclass(frozen=True)
class Outer:
    size: PositiveInt
    inner: Inner
    names: dict[str, float] = field(default_factory=dict)


class Record(TypedDict):
    returns: list[float]
    about: dict[str, Any]


def test_good_data_become_the_class():
    data = {"size": 2, "inner": {"shape": [3, 4]}, "names": {"x": 1}}
    assert checked(Outer, data) == Outer(2, Inner(shape=(3, 4)), {"x": 1.0})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "^Expected object, got int, not '5'"),
        ({}, "^size is missing"),
        ({"size": 1, "inner": None}, "^inner: Expected object, got null, not 'None'"),
        ({"size": "1", "inner": {}}, "^size: Expected int, got str, not '1'"),
        ({"size": True, "inner": {}}, "^size: Expected int, got bool"),
        ({"size": 0, "inner": {}}, "^size is 0: it must be at least 1"),
        ({"size": 1, "inner": {"shape": [1, "x"]}}, r"^inner.shape\[1\]: Expected int.*'x'"),
        ({"size": 1, "inner": {"shape": []}}, "^inner: inner.shape is empty"),
        ({"size": 1, "inner": {"kind": "c"}}, "^inner.kind: Invalid enum value 'c'"),
        ({"size": 1, "inner": {"colour": 1}}, "^inner.colour is unknown"),
        ({"size": 1, "inner": {}, "a\nb": 1}, r"^a\\nb is unknown"),
        ({"size": 1, "inner": {}, "names": {"a": "b"}}, r"^names\[...\]: Expected float, got str"),
    ],
)
def test_wrong_data_are_named(data, message):
    with pytest.raises(InputError, match=message) as caught:
        checked(Outer, data)
    assert "\n" not in str(caught.value)


def test_a_record_has_its_keys_and_may_have_more(tmp_path):
    path = tmp_path / "a.json"
    save_json(path, {"returns": [1], "about": {"x": None}, "more": 1})
    assert load_like(path, Record) == {"returns": [1], "about": {"x": None}, "more": 1}
    save_json(path, {"returns": 1, "about": {}})
    with pytest.raises(InputError, match=r"a\.json: returns: Expected array, got int.*delete it"):
        load_like(path, Record)
