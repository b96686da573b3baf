"""What an environment may offer beyond Gymnasium's interface to save time.

An environment declares an ability by inheriting its class. An attribute of the same name in any
other environment is left alone.
"""

from typing import Any

import numpy as np


class SkipsDrawing:
    """An environment whose `step` and `reset` draw only where `drawing` is set.

    Otherwise they return any picture; all else stays the same. `gymnasium.make` may wrap it.
    """

    drawing: bool = True

    def draw(self) -> np.ndarray:
        """A new picture of the present state."""
        raise NotImplementedError


class HoldsActions:
    """An environment, or its outermost wrapper, that steps several frames at once."""

    def hold(self, action: Any, frames: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """What `step` returns, after `frames` steps with one action or fewer at an end.

        The rewards are summed, and only the last picture need be drawn.
        """
        raise NotImplementedError
