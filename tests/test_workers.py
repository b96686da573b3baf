"""Jobs on workers: in order, on one thread, and done even if a worker dies."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

from worldmodels.errors import InputError
from worldmodels.workers import WorkersConfig, run_jobs

TWO = WorkersConfig(processes=2)


def test_a_killed_workers_jobs_are_run_again(tmp_path):
    mark = tmp_path / "died"

    def job(number):
        import torch

        if number == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2, torch.get_num_threads()

    results = run_jobs(job, [(number,) for number in range(8)], TWO)
    assert mark.exists()
    assert results == [(number**2, 1) for number in range(8)]


def test_a_hanging_workers_jobs_are_run_again(tmp_path):
    """A stopped process answers nothing, not even a polite signal."""
    mark = tmp_path / "hangs"

    def job(number):
        if number == 3 and not mark.exists():
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        return number**2

    results = run_jobs(job, [(number,) for number in range(8)], replace(TWO, timeout=8.0))
    assert results == [number**2 for number in range(8)]
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_workers_that_die_or_hang_again_and_again_are_reported_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("worldmodels.workers.ATTEMPTS", 2)
    mark = tmp_path / "died"

    def job(number):
        hangs = mark.exists()
        mark.touch()
        os.kill(os.getpid(), signal.SIGSTOP if hangs else signal.SIGKILL)

    says = r"worker processes died 1 times and hung 1 times.*1 of 1 jobs left.*higher than 4 sec"
    with pytest.raises(InputError, match=says) as found:
        run_jobs(job, [(0,)], replace(TWO, timeout=4.0), apart=True)
    assert "\n" not in str(found.value)


def test_a_users_mistake_comes_through():
    def job(number):
        if number:
            raise InputError("file 1 is broken: delete it")

    with pytest.raises(InputError, match="file 1 is broken"):
        run_jobs(job, [(0,), (1,)], TWO)


def test_one_process_is_this_one():
    def job(number, letter):
        return os.getpid(), torch.get_num_threads(), cv2.getNumThreads(), letter * number

    before = torch.get_num_threads(), cv2.getNumThreads()
    results = run_jobs(job, [(2, "a"), (3, "b")], WorkersConfig(processes=1))
    assert results == [(os.getpid(), 1, 1, "aa"), (os.getpid(), 1, 1, "bbb")]
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_no_jobs_no_results():
    assert run_jobs(Path, [], TWO) == []


def test_the_number_of_processes():
    assert WorkersConfig(processes=3).count == 3
    assert WorkersConfig().count == len(os.sched_getaffinity(0))
