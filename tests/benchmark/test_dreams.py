"""What the dream's benchmark measures does the work it says."""

import pytest
from benchmark import dreams
from benchmark.untrained import CAR_RACING, SIZES, untrained

from worldmodels.artifacts import Bundle


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_untrained_agents_are_the_papers(size, tmp_path):
    bundle = Bundle.load(untrained(size, tmp_path))
    counted = sum(p.numel() for p in bundle.vae.parameters())
    expected = {"CarRacing-v3": (4_348_547, 867), "VizdoomTakeCover-v1": (4_446_915, 1_088)}
    assert (counted, bundle.controller.num_parameters) == expected[size.world.config.id]


def test_every_lane_dreams_every_step(tmp_path, monkeypatch):
    monkeypatch.setattr(dreams, "POPULATION", 3)
    monkeypatch.setattr(dreams, "ROLLOUTS", 2)
    monkeypatch.setattr(dreams, "LANES", 6)
    folder = untrained(CAR_RACING, tmp_path)
    bundle = Bundle.load(folder)
    assert dreams.evolving(bundle, 3, 2, steps=4)() == 24
    assert dreams.stepping(folder, bundle, distinct=2, steps=4)() == 24
    assert dreams.one_lane(bundle, steps=4)() == 4
    assert dreams.plain_loop(bundle, steps=4)() == 24
