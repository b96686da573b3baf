"""ViZDoom's TakeCover with engines that start and end safely.

Every game has a temporary folder. An engine makes `./_vizdoom` when it starts; if two start at once
in one folder, the second prints "File exists" and hangs.

An engine is a process of its own, and nothing in ViZDoom ends it when its parent is killed. On
Linux a launcher asks the kernel to do so. The folder of a killed process, and the shared memory of
its engine, are removed by the next process that starts a game or writes into a run.

The wrapper also counts damage, and can begin TakeCover's episodes late.
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

LATE_START = "late_start"
"""Option of `reset`."""
UNDYING = "buddha"
"""Console command that switches a mode on or off in which hits do not kill the player."""
LONGEST_HOLD = 40
"""Most tics for which an action is held before a late start."""

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
        """Starts the game if it is not running: at first, or after it was killed.

        With `options={"late_start": n}` an episode of TakeCover begins up to n - 1 tics later, for
        training data of what comes late. Until then random actions are held for 1 to 40 tics, and
        the player cannot die; then its health is restored.

        Raises:
            InputError: an option is unknown, or `late_start` is not a whole number from 1 and below
                the game's time limit, or the game ends before.
        """
        if self.unwrapped.game.is_running():  # type: ignore[attr-defined]
            began = super().reset(seed=seed, options=options)
        else:
            with _starting, contextlib.chdir(self.folder):
                began = super().reset(seed=seed, options=options)
        if unknown := [name for name in options or {} if name != LATE_START]:
            raise InputError(f"reset option {unknown[0]!r} is unknown: there is {LATE_START}")
        return self._late(options[LATE_START], began) if options else began

    @property
    def damage_taken(self) -> float:
        """Points of damage in this episode, whether or not the player's health shows them."""
        from vizdoom import GameVariable

        return self._game.get_game_variable(GameVariable.DAMAGE_TAKEN)

    @property
    def _game(self) -> Any:
        return self.unwrapped.game  # type: ignore[attr-defined]

    def _late(self, latest: Any, began: tuple[Any, dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
        limit = self._game.get_episode_timeout()
        if type(latest) is not int or not 0 < latest < limit:
            raise InputError(
                f"late_start is {latest!r}: it must be a number of tics between 1 and {limit - 1}"
            )
        generator = self.unwrapped.np_random
        left = int(generator.integers(latest))
        self._game.send_game_command(UNDYING)
        while left > 0:
            tics = min(left, int(generator.integers(1, LONGEST_HOLD + 1)))
            action = generator.integers(self.action_space.n)  # type: ignore[attr-defined]
            observation, _, terminated, truncated, info = self.hold(action, tics)
            began, left = (observation, info), left - tics
            if terminated or truncated:
                raise InputError("the game ended before its late_start: use a smaller one")
        self._game.send_game_command(UNDYING)
        self._game.send_game_command("give health")
        return began

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
