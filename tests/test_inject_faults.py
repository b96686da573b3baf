"""A file operation fails or the process dies there; the same command ends with the same files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "inject_faults.py"


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs LD_PRELOAD")
def test_one_fault_of_each_mode(tmp_path):
    """All of them take hours: `python scripts/inject_faults.py`."""
    command = [sys.executable, SCRIPT, "--kinds", "--every", "200"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for mode in ("kill", "once", "full", "readonly"):
        assert f"{mode}: 1 of 1 faults end with the same files" in done.stdout
