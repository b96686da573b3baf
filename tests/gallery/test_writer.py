"""The network that writes and the one that reads."""

import numpy as np
import pytest
import torch

from worldmodels.errors import InputError
from worldmodels.gallery.drawings import batch_of
from worldmodels.gallery.handwriting import Recogniser
from worldmodels.gallery.pen import Writer
from worldmodels.gallery.system import initialised
from worldmodels.gallery.written import Word, Words
from worldmodels.models.mixture import Temperature

TEXTS = ["abba", "cab"]


def codes_of(texts):
    """Without fonts, from a training set whose letters are abc."""
    drawing = np.array([[0, 0, 0], [1, 2, 1]], np.float32)
    return Words.of([Word("cab", drawing)], [], []).codes(texts, [-1] * len(texts))


@pytest.fixture
def writer():
    return initialised(0, "writer", make=lambda: Writer(4, 8, 8, 3, 2))


def test_letters_are_one_hot():
    codes, known = codes_of(TEXTS)
    assert codes.argmax(-1)[0].tolist() == [0, 1, 1, 0, 3]  # 3: the end
    assert known.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert codes[1, 4].sum() == 0
    with pytest.raises(InputError, match="'x' was never written"):
        codes_of(["ax"])


def test_the_window_moves_forwards_and_sees_no_padding(writer, scribbles):
    codes, known = codes_of(TEXTS)
    reading, places = writer.begin(codes), []
    for point in torch.randn(12, 2, 3):
        reading = writer.read(point, codes, known, reading)
        places.append(reading.place)
        assert reading.weights[1, 4] == 0
        expected = (reading.weights[..., None] * codes).sum(1)
        torch.testing.assert_close(reading.window, expected)
    assert (torch.stack(places).diff(dim=0) > 0).all()


def test_the_window_is_graves(writer):
    codes, known = codes_of(TEXTS)
    reading = writer.read(torch.randn(2, 3), codes, known, writer.begin(codes))
    alpha, beta, step = writer.bump(reading.h).exp().chunk(3, -1)
    by_hand = sum(alpha[0, k] * torch.exp(-beta[0, k] * (step[0, k] - 2) ** 2) for k in range(2))
    torch.testing.assert_close(reading.weights[0, 2], by_hand)


def test_gradients_reach_the_window(writer, scribbles):
    batch = batch_of(scribbles(2))
    sum(writer.losses(batch, *codes_of(TEXTS))).backward()
    assert writer.bump.weight.grad.abs().sum() > 0
    assert all(p.grad.isfinite().all() for p in writer.parameters() if p.grad is not None)


def test_writing_ends_by_itself_or_is_cut(writer):
    codes = codes_of(TEXTS * 20)
    drawings, windows, ended = writer.write(
        *codes, 60, Temperature(), torch.Generator().manual_seed(0)
    )
    assert len(drawings) == len(windows) == len(ended) == 40
    for drawing, window, by_itself in zip(drawings, windows, ended, strict=True):
        assert window.shape == (len(drawing), 5)
        assert by_itself or len(drawing) == 60
        assert drawing[-1, 2] == 1
        assert (drawing[0, :2] == 0).all()  # the start itself
        assert drawing[1:, :2].all()
        # the last letter, or the end, has been seen
        assert not by_itself or window[-1].argmax() >= (window[-1] > 0).sum() - 2
    assert any(ended)


def test_a_recogniser_learns_letters_that_differ(scribbles):
    letters, texts = "abc", ["ab", "c", "ba"]
    shapes = {
        "a": [[1, 0, 0], [1, 0, 1]],
        "b": [[0, 1, 0], [0, 1, 1]],
        "c": [[-1, -1, 0], [0, -1, 1]],
    }
    drawings = [np.array([row for k in t for row in shapes[k]], np.float32) for t in texts]
    reader, batch = (
        initialised(0, "reader", make=lambda: Recogniser(letters, 16)),
        batch_of(drawings),
    )
    assert reader.recognise(batch) != texts
    optimizer = torch.optim.Adam(reader.parameters(), 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        loss = reader.loss(batch, texts)
        loss.backward()
        optimizer.step()
    assert reader.recognise(batch) == texts
