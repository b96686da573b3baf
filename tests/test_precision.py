"""The precision is one setting, decided per device and refused where the processor lacks it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from worldmodels import precision
from worldmodels.config import begin
from worldmodels.errors import InputError
from worldmodels.precision import get_precision, product_dtype, set_precision
from worldmodels.workers import WorkersConfig, run_jobs

ROOT = Path(__file__).resolve().parents[1]
CUDA = torch.device("cuda")
OLD_PROCESSOR = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


@pytest.fixture
def processor(monkeypatch):
    """Makes the processor one with or without native bfloat16."""

    def fake(has_bfloat16):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: has_bfloat16)

    return fake


@pytest.mark.parametrize(
    ("known", "onednn", "native"),
    [
        ({}, True, False),
        ({"avx512_bf16": False}, True, False),
        ({"avx512_bf16": True}, True, True),
        ({"amx_bf16": True}, True, True),
        ({"bf16": True}, True, True),
        ({"avx512_bf16": True}, False, False),
    ],
)
def test_the_processor_and_onednn_must_both_have_it(known, onednn, native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    monkeypatch.setattr(precision, "_onednn_has_bfloat16", lambda: onednn)
    precision.multiplies_bfloat16.cache_clear()
    try:
        assert precision.multiplies_bfloat16() == native
    finally:
        precision.multiplies_bfloat16.cache_clear()


def test_auto_is_decided_for_each_device(processor, monkeypatch):
    """A GPU that has bfloat16 says nothing about the processor beside it."""
    for gpu, cpu in ((True, False), (False, True)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda gpu=gpu, **_: gpu)
        processor(cpu)
        assert product_dtype() == (torch.bfloat16 if cpu else torch.float32)
        assert product_dtype(CUDA) == (torch.bfloat16 if gpu else torch.float32)
        assert product_dtype(torch.device("mps")) == torch.float32


def test_the_setting_holds_everywhere(processor, monkeypatch):
    processor(True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    set_precision("float32")
    assert product_dtype() == product_dtype(CUDA) == torch.float32
    set_precision("bfloat16")
    assert product_dtype() == product_dtype(CUDA) == torch.bfloat16
    assert get_precision() == "bfloat16"


def test_bfloat16_is_refused_before_any_work(processor, tmp_path):
    processor(False)
    flags = ["--precision=bfloat16", f"--run={tmp_path / 'run'}"]
    with pytest.raises(InputError, match=r"^precision is bfloat16.* natively.*auto$") as caught:
        begin("", flags, first=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", ["float16", "bfloat16"])
def test_an_environment_variable_is_checked_too(processor, monkeypatch, wrong):
    processor(False)
    monkeypatch.setenv(precision.VARIABLE, wrong)
    with pytest.raises(InputError, match=f"precision is .*{wrong}"):
        product_dtype()


def test_workers_have_the_precision_of_the_command():
    def job(_):
        from worldmodels.precision import get_precision

        return get_precision()

    for wanted in ("float32", "auto"):
        set_precision(wanted)
        assert run_jobs(job, [(0,), (1,)], WorkersConfig(processes=2)) == [wanted] * 2


@pytest.mark.bfloat16
def test_the_pipeline_runs_without_bfloat16(tiny, tmp_path):
    """oneDNN obeys these variables, and so does the detection: nothing is faked here.

    Where the processor has none, all other tests run without it.
    """
    config = ROOT / "configs" / "smoke.yaml"
    command = [sys.executable, "-m", "worldmodels", "pipeline", "--config", str(config)]
    flags = ["--run", str(tmp_path / "run"), *tiny, "--evaluate.episodes=2"]
    environment = {**os.environ, **OLD_PROCESSOR}
    done = subprocess.run(
        [*command, *flags], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    world = (tmp_path / "run" / "world.json").read_text()
    assert '"precision": "float32"' in world
    assert (tmp_path / "run" / "evaluation.json").exists()
