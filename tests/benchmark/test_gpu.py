"""What the benchmark of a GPU measures does the work it says; here on the CPU."""

import pytest
import torch
from benchmark import gpu, training
from benchmark.untrained import CAR_RACING, untrained

from worldmodels.artifacts import Bundle

CPU = torch.device("cpu")


def test_its_work(monkeypatch, tmp_path):
    for module, name, value in (
        *((module, "WINDOWS", 2) for module in (gpu, training)),
        *((module, "STEPS", 3) for module in (gpu, training)),
        (gpu, "BATCH", 4),
        (gpu, "POPULATION", 3),
    ):
        monkeypatch.setattr(module, name, value)
    assert gpu.vae_training(CPU, 2)() == 8
    assert gpu.mdnrnn_training(CAR_RACING, CPU, 2)() == 12
    assert gpu.encoding(CPU, 5)() == 5
    bundle = Bundle.load(untrained(CAR_RACING, tmp_path))
    assert gpu.dreaming(bundle, 2, 7, CPU)() == pytest.approx(3 * 2 * 7)
