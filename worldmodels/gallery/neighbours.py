"""The nearest training drawing of an invented one: an invented drawing should not be a copy."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, Int64

from worldmodels.gallery.drawings import Drawing, centred

SIDE = 24
"""Pixels of the pictures that are compared."""


def pictures(drawings: Sequence[Drawing]) -> Float32[np.ndarray, "N P"]:
    """A small blurred picture of each drawing, as a vector of length 1."""
    return np.stack([_picture(drawing) for drawing in drawings])


def nearest(
    some: Float32[np.ndarray, "N P"], train: Float32[np.ndarray, "M P"]
) -> tuple[Int64[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
    """Index of each picture's nearest training picture, and the cosine between them."""
    cosines = some @ train.T
    return cosines.argmax(1), cosines.max(1)


def _picture(drawing: Drawing) -> Float32[np.ndarray, " P"]:
    image = np.zeros((SIDE, SIDE), np.uint8)
    for stroke in centred(drawing, SIDE - 5.0, SIDE - 5.0):
        places = np.round((stroke + SIDE / 2) * 16).astype(np.int32)
        cv2.polylines(image, [places], False, 255, 1, 8, 4)
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.2).ravel()
    return blurred / max(float(np.linalg.norm(blurred)), 1e-6)
