"""ViZDoom's TakeCover, started safely: every game in a folder of its own.

A starting game makes `./_vizdoom`; of two that start at once in the same folder one loses the race,
prints "File exists" and hangs for ever.
"""

import contextlib
import shutil
import tempfile
import threading
import weakref
from typing import Any

import gymnasium

TAKE_COVER = {"doom_skill": 4, "episode_start_time": 14, "episode_timeout": 2100}
"""The paper's task, calibrated by its random baseline (210 ± 108): skill 4 and 2100 tics, the first
14 of which nobody plays."""

_starting = threading.Lock()  # the working directory belongs to all threads


class OwnFolder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Starts the game in a temporary folder; the caller's working directory stays what it is.

    At the time-out ViZDoom reports both ends; here it is truncated, not terminated.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.folder = tempfile.mkdtemp(prefix="worldmodels-doom-")
        game = self.unwrapped.game  # type: ignore[attr-defined]
        self._remove = weakref.finalize(self, _leave, game, self.folder)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts the game if it doesn't run: at first, or when it has been killed."""
        if self.unwrapped.game.is_running():  # type: ignore[attr-defined]
            return super().reset(seed=seed, options=options)
        with _starting, contextlib.chdir(self.folder):
            return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated and not truncated, truncated, info

    def hold(self, action: Any, tics: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """`tics` steps with one action, of which only the last picture is drawn.

        The same game as so many calls of `step`, sooner.
        """
        self.unwrapped.frame_skip = tics  # type: ignore[attr-defined]
        try:
            return self.step(action)
        finally:
            self.unwrapped.frame_skip = 1  # type: ignore[attr-defined]

    def close(self) -> None:
        """Ends the game, which leaves its settings in the folder, and removes the folder."""
        super().close()
        self._remove()


def _leave(game: Any, folder: str) -> None:
    """Ends a game, which then writes its settings, and only then removes its folder."""
    game.close()
    shutil.rmtree(folder, ignore_errors=True)


def make_doom(id_: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make` for ViZDoom's environments, safe beside others that start at the same time.

    Raises:
        ModuleNotFoundError: vizdoom is not installed.
    """
    import vizdoom.gymnasium_wrapper  # noqa: F401  (registers its environments)

    return OwnFolder(gymnasium.make(id_, **kwargs))


def make_take_cover(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    """The paper's TakeCover; `kwargs` join or replace its settings."""
    return make_doom("VizdoomTakeCover-v1", **{**TAKE_COVER, **kwargs})
