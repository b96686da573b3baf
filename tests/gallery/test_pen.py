"""The drawing network: its loss by another way, its samples, and what they are compared by."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from worldmodels.gallery.drawings import Drawings, batch_of
from worldmodels.gallery.kanji import counts
from worldmodels.gallery.pen import Pen, nats_of
from worldmodels.gallery.system import initialised
from worldmodels.models.mixture import Temperature


@pytest.fixture
def pen():
    return initialised(0, "pen", make=lambda: Pen(8, 3, 2)).eval()


def test_losses_are_those_of_single_steps(pen, scribbles):
    drawings, condition = scribbles(3), torch.randn(3, 2)
    batch, xy, lifts, count = batch_of(drawings), 0.0, 0.0, 0
    with torch.no_grad():
        for row, drawing in enumerate(drawings):
            state = pen.mdnrnn.initial_state(1)
            for t in range(len(drawing)):
                put = functional.one_hot(batch.pens[row : row + 1, t], 3).float()
                told = torch.cat([put, condition[row : row + 1]], -1)
                state = pen.mdnrnn.step(batch.offsets[row, t][None], told, None, state)
                predicted = pen.mdnrnn.predict(state[0])
                xy -= predicted.mixture.log_prob(batch.offsets[row, t + 1][None]).item()
                target = batch.pens[row, t + 1][None]
                lifts += functional.cross_entropy(predicted.outputs("pen"), target).item()
                count += 1
        found = [part.item() for part in pen.losses(batch, condition)]
    assert found == pytest.approx([xy / count, lifts / count], rel=1e-4)


def test_drawings_end_where_the_pen_is_put_away(pen):
    condition = torch.zeros(200, 2)
    fixed = 200, 15, Temperature()
    found = pen.draw(*fixed, torch.Generator().manual_seed(0), False, condition)
    assert len(found) == 200
    lengths = np.array([len(drawing) for drawing in found])
    assert lengths.max() <= 15
    assert len(set(lengths)) > 5
    assert all(drawing[-1, 2] == 1 for drawing in found)
    again = pen.draw(*fixed, torch.Generator().manual_seed(0), False, condition)
    assert all((a == b).all() for a, b in zip(found, again, strict=True))


def test_cold_drawings_are_alike(pen):
    condition = torch.zeros(20, 2)
    cold = Temperature.world_models(1e-9)
    found = pen.draw(20, 10, cold, torch.Generator().manual_seed(0), False, condition)
    np.testing.assert_allclose(found[0], found[-1], atol=1e-3)


def test_drawings_begin_at_their_start_as_the_data_do(pen, scribbles):
    parts = {name: scribbles(20) for name in ("train", "valid", "test")}
    assert not Drawings.of(parts, 100).still
    for drawing in parts["train"]:
        drawing[0, :2] = 0
    assert Drawings.of(parts, 100).still
    condition = torch.zeros(20, 2)
    for still in (True, False):
        generator = torch.Generator().manual_seed(0)
        found = pen.draw(20, 10, Temperature(), generator, still, condition)
        assert all((drawing[0, :2] == 0).all() == still for drawing in found)


def test_statistics_count_strokes_and_points():
    drawing = np.zeros((6, 3), np.float32)
    drawing[[1, 5], 2] = 1
    found = counts([drawing, drawing[:2]])
    assert found[0].tolist() == [2, 1]
    assert found[1].tolist() == [2, 4, 2]


def test_nats_of_batches_are_those_of_all_drawings(pen, scribbles):
    drawings = scribbles(7)
    for drawing in drawings[:2]:
        drawing[0, :2] = 0  # the start itself: its offset does not count
    parts = drawings[:3], drawings[3:], drawings
    with torch.no_grad():
        batches = [batch_of(part) for part in parts]
        *some, whole = [(b, pen.losses(b, torch.zeros(len(b.pens), 2))) for b in batches]
    assert nats_of(some) == pytest.approx(nats_of([whole]), rel=1e-5)
