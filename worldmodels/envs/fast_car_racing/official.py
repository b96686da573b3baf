"""Gymnasium's CarRacing-v3 as it is, without the pictures that nobody looks at."""

from typing import Any

import gymnasium.envs.box2d.car_racing as official
import numpy as np

from worldmodels.envs.abilities import SkipsDrawing


class CarRacing(SkipsDrawing, official.CarRacing):
    """The official environment: its physics, its rewards and its own pictures, to the bit.

    Drawing takes 98% of its time. Without `drawing`, `step` and `reset` return the last picture
    that was drawn; an agent that holds its actions for four frames needs only every fourth.
    """

    _picture: np.ndarray | None = None

    def draw(self) -> Any:
        """A new picture of the present state, by Gymnasium's code."""
        return super()._render("state_pixels")

    def _render(self, mode: str) -> Any:
        if mode != "state_pixels":
            return super()._render(mode)
        if self.drawing or self._picture is None:
            self._picture = self.draw()
        return self._picture
