"""Which training drawing is nearest: a drawing that nobody drew should not be a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float32

from worldmodels.gallery.drawings import Drawing, strokes_of

SIDE = 24
"""Pixels of the pictures by which characters are compared."""


def picture(drawing: Drawing) -> Float32[np.ndarray, " P"]:
    """A small blurred picture of a drawing, of length 1, to compare shapes by."""
    strokes = strokes_of(drawing)
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = (SIDE - 5) / max(float((high - low).max()), 1e-6)
    image = np.zeros((SIDE, SIDE), np.uint8)
    for stroke in strokes:
        places = (stroke - (low + high) / 2) * scale + SIDE / 2
        cv2.polylines(image, [np.round(places * 16).astype(np.int32)], False, 255, 1, 8, 4)
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.2).ravel()
    return blurred / max(float(np.linalg.norm(blurred)), 1e-6)


@dataclass(frozen=True)
class Likeness:
    """How close characters come to the training set."""

    train: Sequence[Drawing]

    @cached_property
    def _pictures(self) -> np.ndarray:
        return np.stack([picture(drawing) for drawing in self.train])

    def nearest(self, drawings: Sequence[Drawing]) -> tuple[np.ndarray, np.ndarray]:
        """Index of each drawing's nearest training neighbour, and their cosine."""
        cosines = np.stack([picture(drawing) for drawing in drawings]) @ self._pictures.T
        best = cosines.argmax(1)
        return best, cosines[np.arange(len(best)), best]
