"""ViZDoom's TakeCover with engines that start and end safely.

Every game has a temporary folder. An engine makes `./_vizdoom` when it starts; if two start at once
in one folder, the second prints "File exists" and hangs.

An engine is a process of its own, and nothing in ViZDoom ends it when its parent is killed. On
Linux a launcher asks the kernel to do so. The folder of a killed process, and the shared memory of
its engine, are removed by the next process that starts a game or writes into a run.
"""

import contextlib
import os
import shutil
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import gymnasium

from worldmodels.envs.abilities import HoldsActions
from worldmodels.errors import InputError
from worldmodels.temporary import remove_left_behind, temporary_folder

TAKE_COVER = {"doom_skill": 4, "episode_start_time": 14, "episode_timeout": 2100}
"""The paper's task: skill 4 and 2100 tics, of which the first 14 are skipped. A random policy gets
the paper's 210 ± 108 here."""

LAUNCHER = """#!/bin/sh
echo "$@" > "{folder}/arguments"
exec "{python}" -I -S -c '
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() == {parent}:
    os.execv(sys.argv[1], sys.argv[1:])
' "{engine}" "$@"
"""
"""Becomes the engine, which the kernel then kills when its parent dies."""

_starting = threading.Lock()  # all threads share the working directory


class OwnFolder(HoldsActions, gymnasium.Wrapper[Any, Any, Any, Any]):
    """Starts the game in a temporary folder; the caller's working directory does not change.

    Differs: at the time-out ViZDoom reports both ends; here the episode is truncated only.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.folder = temporary_folder("doom")
        game = self.unwrapped.game  # type: ignore[attr-defined]
        if sys.platform == "linux":
            remove_left_behind()
            _use_launcher(game, self.folder)
        self._remove = weakref.finalize(self, _leave, game, self.folder)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts the game if it is not running: at first, or after it was killed."""
        if self.unwrapped.game.is_running():  # type: ignore[attr-defined]
            return super().reset(seed=seed, options=options)
        with _starting, contextlib.chdir(self.folder):
            return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated and not truncated, truncated, info

    def hold(self, action: Any, frames: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps `frames` tics with one action and draws only the last picture.

        The game is the same as after as many calls of `step`.
        """
        self.unwrapped.frame_skip = frames  # type: ignore[attr-defined]
        try:
            return self.step(action)
        finally:
            self.unwrapped.frame_skip = 1  # type: ignore[attr-defined]

    def close(self) -> None:
        """Ends the game and removes its folder."""
        super().close()
        self._remove()


def _use_launcher(game: Any, folder: Path) -> None:
    import vizdoom

    launcher, engine = folder / "launcher", Path(vizdoom.__file__).with_name("vizdoom")
    text = LAUNCHER.format(folder=folder, python=sys.executable, parent=os.getpid(), engine=engine)
    launcher.write_text(text)
    launcher.chmod(0o700)
    if os.access(launcher, os.X_OK):  # some systems run nothing from the temporary folder
        game.set_vizdoom_path(str(launcher))


def _leave(game: Any, folder: Path) -> None:
    """Ends a game and then removes its folder: a game writes its settings as it ends."""
    game.close()
    shutil.rmtree(folder, ignore_errors=True)


def make_doom(id_: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make` for ViZDoom's environments; several may start at the same time.

    Raises:
        ModuleNotFoundError: vizdoom is not installed.
        InputError: `max_episode_steps` is given, which would count held actions, not tics.
    """
    if "max_episode_steps" in kwargs:
        raise InputError("env.max_episode_steps: ViZDoom's limit is env.kwargs.episode_timeout")
    import vizdoom.gymnasium_wrapper  # noqa: F401  (registers its environments)

    return OwnFolder(gymnasium.make(id_, **kwargs))
