"""A sample of scripts/fuzz.py: damaged files are read, or refused in one line."""

import warnings

import fuzz
import pytest

from worldmodels.errors import InputError

CASES = 25
NAMES = "bundle run episode latents config metrics records ndjson drawings impsy log cursive iam"


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return fuzz.targets(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("name", [*NAMES.split(), "kanji"])
def test_damaged_files_are_read_or_refused_in_one_line(targets, name):
    targets[name].read(targets[name].folder)  # undamaged
    with warnings.catch_warnings(action="ignore"):
        assert fuzz.fuzz(targets[name], CASES, 1) == []


def several_lines():
    raise InputError("one\ntwo")


def endless():
    while True:
        pass


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (several_lines, "an error of several lines"),
        (endless, "more than 1 seconds"),
        (lambda: bytearray(b"x") * 300_000_000, "MB"),
    ],
)
def test_faults_are_noticed(monkeypatch, call, fault):
    monkeypatch.setattr(fuzz, "SECONDS", 1 if "seconds" in fault else 60)
    monkeypatch.setattr(fuzz, "MEGABYTES", 200)
    assert fault in str(fuzz.watched(call))
