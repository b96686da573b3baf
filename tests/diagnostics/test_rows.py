"""Rows of a study, and the mistakes in them."""

import pytest

from worldmodels.diagnostics.study.rows import StudyConfig, StudyRow, rows_of
from worldmodels.errors import InputError


def test_a_row_is_the_run_but_for_what_it_states():
    config = StudyConfig(rows=({"name": "plain"}, {"name": "cold", "temperature": 1, "round": 0}))
    assert rows_of(config) == [
        StudyRow(name="plain"),
        StudyRow(name="cold", temperature=1.0, round=0),
    ]
    assert rows_of(StudyConfig()) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"temperature": 1.0}, "required: name"),
        ({"name": "a", "temperatur": 1.0}, "temperatur is unknown: did you mean temperature"),
        ({"name": "a", "temperature": "hot"}, "temperature: Expected one of float, null"),
        ({"name": "a", "temperature": 0}, "a.temperature is 0.0: it must be above 0"),
        ({"name": "a", "round": -1}, "a.round is -1: it must be at least 0"),
        ({"name": "a", "inputs": "hz"}, "inputs: Expected one of .*zch.*hz"),
        ({"name": "a", "senses": "none"}, "senses: Expected a .*untrained.*none"),
        ({"name": 0.1}, "name: Expected a str"),
        ({"name": "a/b"}, "'a/b' is no name of a folder"),
        ({"name": ".."}, "no name of a folder"),
        ({"name": "study.json"}, "no name of a folder"),
        ({"name": "rounds"}, "no name of a folder"),
        ({"class_path": "this.That"}, "class_path is unknown"),
    ],
)
def test_mistakes_name_the_row_and_the_field(row, message, capsys):
    with pytest.raises(InputError, match=rf"^study.rows\[1\]: .*{message}") as caught:
        StudyConfig(rows=({"name": "good"}, row))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""  # nothing was imported


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": ({"name": "a"}, {"name": "a", "round": 0})}, "a is there twice"),
        ({"evolutions": 0}, "study.evolutions is 0"),
        ({"test_episodes": 1}, "study.test_episodes is 1"),
        ({"dream_episodes": 1}, "study.dream_episodes is 1"),
        ({"validate_at": (3, 0)}, r"study.validate_at is \(3, 0\): it must be at least 1"),
        ({"rollouts_per_candidate": 0}, "study.rollouts_per_candidate is 0"),
    ],
)
def test_a_budget_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        StudyConfig(**settings)
