"""Pictures for recordings without pictures: the recorded actions are replayed and rendered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from worldmodels.data.readers import Record, Replay, Source
from worldmodels.envs.guard import BrokenEnvError, Guard
from worldmodels.errors import InputError
from worldmodels.world import RENDER, EnvConfig

OTHERS = "import a data set with pictures"


def with_pictures(source: Source, env: EnvConfig) -> Source:
    """A source whose records without pictures get those of their replay.

    Args:
        source: the recordings.
        env: the live environment; with id `recorded` the one that the source names is played.

    Raises:
        InputError: no environment is named, or it cannot be made.
    """
    if not env.live and source.played is not None:
        env = replace(env, **source.played, screen=RENDER)

    def records() -> Iterator[Record]:
        for one in source.records():
            yield one if one.replay is None else replace(one, frames=partial(_frames, env, one))

    first = next(iter(source.records()), None)
    if first is None or first.replay is None:
        return source
    if not env.live:
        raise InputError(
            f"{first.named('frames')} has no pictures, and no environment is named that could draw "
            f"them: name it in env.id, or {OTHERS}"
        )
    guard = Guard(env, official=True)
    fps = float(guard.env.metadata.get("render_fps") or source.fps)
    guard.close()
    return replace(source, records=records, fps=fps)


def _frames(env: EnvConfig, record: Record) -> Iterator[Any]:
    """Plays an episode once more; its pictures.

    Raises:
        InputError: it has no seed, or goes another way than the recorded one.
    """
    assert record.replay is not None
    replay, where = record.replay, record.named("frames")
    if replay.seed is None:
        raise InputError(f"{where} has no pictures, and no seed to play it again: {OTHERS}")
    guard = Guard(env, official=True)
    try:
        found = guard.reset(replay.seed)
        _check(where, replay, 0, "observation", found, _at(replay.observations, 0))
        yield guard.picture(found, rendered=True)
        for step, (action, reward) in enumerate(
            zip(replay.actions, np.asarray(record.rewards), strict=True), 1
        ):
            found, earned, _, _ = guard.step(action)
            _check(where, replay, step, "reward", earned, reward)
            _check(where, replay, step, "observation", found, _at(replay.observations, step))
            yield guard.picture(found, rendered=True)
    except BrokenEnvError as error:
        raise InputError(f"{where} cannot be played again ({error}): {OTHERS}") from error
    finally:
        guard.close()


def _check(where: str, replay: Replay, step: int, what: str, found: Any, recorded: Any) -> None:
    if not _agree(found, recorded):
        raise InputError(
            f"{where} has no pictures, and played again on seed {replay.seed} its {what} differs "
            f"at step {step}: install the version that recorded it, or {OTHERS}"
        )


def _at(observations: Any, step: int) -> Any:
    """The observation of a step, of arrays in dictionaries and tuples."""
    if isinstance(observations, dict):
        return {key: _at(part, step) for key, part in observations.items()}
    if isinstance(observations, tuple):
        return tuple(_at(part, step) for part in observations)
    return observations[step]


def _agree(found: Any, recorded: Any) -> bool:
    """Whether numbers agree up to the rounding of files and processors."""
    if isinstance(found, dict):
        return found.keys() == recorded.keys() and all(
            _agree(found[key], recorded[key]) for key in found
        )
    if isinstance(found, tuple):
        return len(found) == len(recorded) and all(map(_agree, found, recorded))
    if isinstance(found, str):
        return found == recorded
    same = np.shape(found) == np.shape(recorded)
    return same and bool(np.allclose(found, recorded, rtol=1e-4, atol=1e-5))
