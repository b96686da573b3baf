"""Shrinking by area: OpenCV's numbers, compiled or not."""

import cv2
import numpy as np
import pytest

from worldmodels.envs.picture import shrink


@pytest.mark.parametrize("shape", [(84, 96), (96, 96), (240, 320), (65, 127), (64, 64), (20, 90)])
def test_it_is_opencvs(shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA).astype(int)
    small = shrink(picture, 64)
    assert small.dtype == np.uint8
    assert np.abs(small - expected).max() <= 1  # halves may be rounded up
    assert (small != expected).mean() < 1e-3


def test_what_it_is_for():
    even = np.full((84, 96, 3), 200, np.uint8)
    np.testing.assert_array_equal(shrink(even, 64), 200)
    halves = np.zeros((3, 3, 3), np.uint8)
    halves[:, 0] = 90
    np.testing.assert_array_equal(shrink(halves, 2)[..., 0], [[60, 0], [60, 0]])
