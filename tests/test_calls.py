"""The notes of calls, which a parent reads while its workers write them."""

import os
import subprocess
import sys
import time
from math import inf

import pytest

from worldmodels import calls
from worldmodels.calls import FORMAT, Call, is_late, limited

CALLING = """
from worldmodels.calls import limited
print(flush=True)
while True:
    limited(lambda: None, 3, 4, 60.0)
"""


def test_a_note_that_is_half_written_is_never_late():
    notes = Call(False, 3, 4, inf), Call(True, 3, 5, time.monotonic() + 60)
    ended, begun = (FORMAT.pack(*note) for note in notes)
    for old, new in ((ended, begun), (begun, ended)):
        for at in range(FORMAT.size + 1):
            for half in (new[:at] + old[at:], old[:at] + new[at:]):
                assert not is_late(Call(*FORMAT.unpack(half)))
    assert is_late(Call(True, 3, 5, time.monotonic() - calls.GRACE - 1))


def test_the_note_of_an_ended_call_has_no_end(tmp_path, monkeypatch):
    monkeypatch.setenv(calls.VARIABLE, str(tmp_path))
    calls._note.cache_clear()
    assert limited(calls._read, 3, 4, 60.0, os.getpid()).inside
    assert calls._read(os.getpid()) == Call(False, 3, 4, inf)
    calls._note.cache_clear()


@pytest.fixture
def calling(tmp_path, monkeypatch):
    """Another process, which makes one short call after the other."""
    monkeypatch.setenv(calls.VARIABLE, str(tmp_path))
    command = [sys.executable, "-c", CALLING]
    with subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process.pid
        process.kill()


def test_short_calls_of_another_process_are_never_late(calling):
    notes, end = list[Call](), time.monotonic() + 2
    while time.monotonic() < end:
        notes += filter(None, [calls._read(calling)])
    assert sum(note.inside for note in notes) > 10
    assert not any(map(is_late, notes))
