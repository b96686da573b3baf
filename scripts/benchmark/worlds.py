"""The redrawn CarRacing against Gymnasium's: its speed, its picture, its bits, its returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.box2d.car_racing import FPS
from jaxtyping import Float32

import worldmodels  # noqa: F401  (registers the environment)
from benchmark.timing import Row, Work, number, rate, side_by_side, timed
from benchmark.untrained import CAR_RACING, untrained
from worldmodels.acting.environments import ModelFiles, Reality
from worldmodels.acting.evaluate import Evaluation, interval
from worldmodels.artifacts import Bundle, bundle_folder
from worldmodels.envs.fast_car_racing.env import CarRacing
from worldmodels.envs.fast_car_racing.official import CarRacing as OfficialCarRacing
from worldmodels.envs.picture import preprocess
from worldmodels.run import cores
from worldmodels.seeding import environment_seeds, numpy_generator
from worldmodels.workers import WorkersConfig, one_thread, run_jobs

OURS, THEIRS = "worldmodels/CarRacing-v3", "CarRacing-v3"
CANDIDATES = 16
"""Episodes on each track: those of a generation of evolution."""
CIRCLE = (1.5, -1.0, -1.0)
"""Raw steering, gas and brake of a car that goes round in circles, so that episodes are whole."""

_blocks = count()
"""Tracks are remembered: each piece of work takes a block of its own."""

Plan = Sequence[tuple[int, int]]
"""Episodes: environment seed and number of the driver."""


def world_rows(folder: Path, quick: bool) -> Iterable[Row]:
    """All rows about the real environment; an untrained bundle is written in `folder`.

    `quick` has shorter episodes, which is to our disadvantage: resets weigh more.
    """
    yield frames_row(quick, shared=True)
    yield frames_row(quick, shared=False)
    yield seeing_row(folder, quick)
    yield laps_row(quick)
    yield from picture_rows(quick)
    yield motion_row(quick)


def frames_row(quick: bool, *, shared: bool) -> Row:
    """Frames a second on one core, resets included; one track for 16 episodes, or for each."""
    steps, rounds = (400, 2) if quick else (1000, 5)
    tracks = "16 episodes" if shared else "1 episode"
    with one_thread():
        return side_by_side(
            f"{OURS}, {tracks} of {steps} frames per track, 1 core",
            THEIRS,
            "frames/s",
            driving(OURS, steps, CANDIDATES, shared=shared),
            driving(THEIRS, steps, 1, shared=shared),
            rounds=rounds,
            target=30.0 if shared else None,
        )


def frames_growth(quick: bool) -> dict[str, dict[str, float]]:
    """Frames a second by the length of episodes: a reset costs hundreds of frames."""
    lengths = (100, 300) if quick else (100, 300, 1000)
    with one_thread():
        return {
            f"{OURS}: frames/s by frames per episode ({name} per track, 1 core)": {
                str(steps): rate(driving(OURS, steps, CANDIDATES, shared=shared))
                for steps in lengths
            }
            for name, shared in (("16 episodes", True), ("1 episode", False))
        }


def driving(id_: str, steps: int, episodes: int, *, shared: bool) -> Work:
    """Whole episodes; tracks never seen before in each call."""
    env = gymnasium.make(id_, disable_env_checker=True)

    def work() -> float:
        first = next(_blocks) * CANDIDATES
        plan = [(first if shared else first + i, first + i) for i in range(episodes)]
        return drive(env, plan, steps)

    return work


def drive(env: gymnasium.Env[Any, Any], plan: Plan, steps: int) -> int:
    """Drives the episodes, up to `steps` frames each; returns the frames driven."""
    frames = 0
    for seed, driver in plan:
        env.reset(seed=seed)
        for action in smooth_actions(driver, steps):
            _, _, terminated, truncated, _ = env.step(action)
            frames += 1
            if terminated or truncated:
                break
    return frames


def smooth_actions(driver: int, steps: int) -> Float32[np.ndarray, "steps 3"]:
    """A random walk with a bias to gas: it leaves the road, skids and comes back."""
    generator = numpy_generator(0, "smooth actions", driver)
    walk, actions = np.zeros(3), np.empty((steps, 3), np.float32)
    for t, step in enumerate(generator.normal((0.0, 0.16, -0.08), size=(steps, 3))):
        walk = 0.9 * walk + 0.25 * step
        actions[t] = np.clip(walk, (-1, 0, 0), 1)
    return actions


def laps_row(quick: bool) -> Row:
    """Laps a second of candidates near the shipped agent, as evolution in reality drives them."""
    folder = bundle_folder("car_racing_dream")
    bundle, generator = Bundle.load(folder), numpy_generator(0, "laps")
    noise = generator.normal(0, 0.05, (64, bundle.controller.num_parameters))
    reality = Reality(bundle.world, ModelFiles.of_bundle(folder), bundle.controller)
    evaluate = Evaluation(place=reality, workers=WorkersConfig(), patience=30)
    seeds = environment_seeds("train", 0, 2 if quick else 8)
    candidates = bundle.parameters.double().numpy() + noise
    evaluate(candidates[:2], seeds[:1])  # begins the workers
    _, seconds = timed(lambda: float(evaluate(candidates, seeds)[0].size))
    what = f"evolution in reality: 64 candidates x {len(seeds)} laps, {cores()} cores"
    return number(what, 64 * len(seeds) / seconds, "laps/s")


def seeing_row(folder: Path, quick: bool) -> Row:
    """Reality through V, M and C on all cores, against reality alone on all cores."""
    steps, rounds = (200, 2) if quick else (1000, 5)
    return side_by_side(
        f"{OURS} with V, M and C, {CANDIDATES} x 2 episodes, {cores()} cores",
        f"{THEIRS} without them, {cores()} cores",
        "frames/s",
        _seeing(folder, steps),
        _driving_everywhere(steps),
        rounds=rounds,
        target=15.0,
    )


def _seeing(folder: Path, steps: int) -> Work:
    bundle = Bundle.load(untrained(CAR_RACING, folder / "seeing"))
    generator = numpy_generator(0, "seeing")
    parameters = generator.normal(0, 0.01, (CANDIDATES, bundle.controller.num_parameters))
    parameters[:, -3:] += CIRCLE
    models = ModelFiles.of_bundle(folder / "seeing")
    short = replace(
        bundle.world.config, max_episode_steps=steps * bundle.world.config.action_repeat
    )
    reality = Reality(replace(bundle.world, config=short), models, bundle.controller)
    evaluate = Evaluation(place=reality, workers=WorkersConfig(processes=cores()))
    calls = count()

    def work() -> float:
        call = next(calls)
        return float(evaluate(parameters, [2 * call, 2 * call + 1])[1].sum())

    return work


def _driving_everywhere(steps: int) -> Work:
    calls = count()

    def work() -> float:
        call = next(calls)
        jobs = [([(call * cores() + core, core)], steps) for core in range(cores())]
        return float(sum(run_jobs(_official_job, jobs, WorkersConfig(processes=cores()))))

    return work


def _official_job(plan: Plan, steps: int) -> int:
    env = gymnasium.make(THEIRS, disable_env_checker=True)
    frames = drive(env, plan, steps)
    env.close()
    return frames


def picture_rows(quick: bool) -> Iterable[Row]:
    """Mean absolute difference of the two pictures as V gets them, in grey levels of 255.

    Over 20 tracks: their whole first second, then every tenth frame.
    """
    tracks, steps = 20, 80 if quick else 600
    found = [d for track in range(tracks) for d in _differences(track, steps)]
    what = f"difference of the two 64x64 frames, {tracks} tracks, {len(found)} steps"
    yield number(f"mean absolute {what}", float(np.mean(found)), "of 255", 2.0)
    yield number("the same, worst frame", max(found), "of 255")


def _differences(seed: int, steps: int) -> Iterator[float]:
    for ours, _, mine, other in _pairs(seed, steps, lambda t: t < FPS or t % 10 == 0):
        if ours.drawing:
            seen = [preprocess(CAR_RACING.world, step[0]) for step in (mine, other)]
            yield float(np.abs(seen[0].astype(int) - seen[1]).mean())


def _pairs(seed: int, steps: int, draws: Callable[[int], bool]) -> Iterator[tuple[Any, ...]]:
    """Both environments and what each returned, step by step; `draws(t)`: they draw step t."""
    ours, theirs = CarRacing(), OfficialCarRacing()
    for env in (ours, theirs):
        env.drawing = draws(0)
        env.reset(seed=seed)
    for t, action in enumerate(smooth_actions(seed, steps)):
        theirs.drawing = ours.drawing = draws(t)
        mine, other = ours.step(action), theirs.step(action)
        yield ours, theirs, mine, other
        if other[2]:
            break


def motion_row(quick: bool) -> Row:
    """Steps of 50 episodes whose reward, end, info or motion differs by a bit."""
    steps = 200 if quick else 1000
    equal = [same for seed in range(50) for same in _equalities(seed, steps)]
    what = f"steps of 50 episodes ({len(equal):,} in all) whose reward, end, info or motion differs"
    return number(what, equal.count(False), "steps", 0)


def _equalities(seed: int, steps: int) -> Iterator[bool]:
    for ours, theirs, mine, other in _pairs(seed, steps, lambda _: False):
        yield mine[1:] == other[1:] and _motion(ours) == _motion(theirs)


def _motion(env: Any) -> list[tuple[float, ...]]:
    bodies = [env.car.hull, *env.car.wheels]
    return [(*b.position, b.angle, *b.linearVelocity, b.angularVelocity) for b in bodies]


def return_rows(
    folder: Path, tracks: int = 100, workers: WorkersConfig | None = None
) -> Iterable[Row]:
    """Returns of the agent of a bundle or run, seeing our picture and seeing Gymnasium's.

    Pictures that the agent does not look at, while an action is held, are not drawn.
    """
    bundle = Bundle.load(folder)
    seeds = environment_seeds("test", 0, tracks)
    parameters = bundle.parameters[None].double().numpy()
    models, workers = ModelFiles.of_bundle(bundle_folder(folder)), workers or WorkersConfig()
    world = replace(bundle.world, config=replace(bundle.world.config, training_id=OURS))
    places = (
        Reality(world, models, bundle.controller, official=official) for official in (False, True)
    )
    ours, theirs = (
        Evaluation(place=place, workers=workers)(parameters, seeds)[0][0] for place in places
    )
    for name, returns in (("our", ours), ("Gymnasium's", theirs)):
        yield number(f"the agent's return with {name} picture, {tracks} tracks", returns.mean())
    found = interval(ours - theirs)
    low, high = found.ci95
    yield number("their mean difference, track by track", found.mean)
    farther = max(abs(low), abs(high))
    yield number(f"the farther end of its 95% interval [{low:.1f}, {high:.1f}]", farther, "", 15.0)
