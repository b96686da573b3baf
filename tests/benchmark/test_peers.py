"""The row about EnvPool: what it counts, and what is said without EnvPool."""

import sys

import pytest
from benchmark import peers


def test_without_envpool_the_row_is_left_out(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "envpool", None)
    assert list(peers.peer_rows(quick=True)) == []
    assert "pip install envpool" in capsys.readouterr().out


def test_frames_of_envpool_are_counted():
    envpool = pytest.importorskip("envpool")
    work = peers._driving_envpool(envpool, 12)
    assert work() == work() == 12 * peers.ENVS
