"""Watch: films of an agent in reality, in V's reconstruction of it, and in the dream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count, islice, repeat
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from gymnasium.vector import AutoresetMode
from jaxtyping import UInt8

from worldmodels.acting.policies import Candidates
from worldmodels.acting.rollout import Step, steps
from worldmodels.artifacts import FILM, Bundle, bundle_folder, link
from worldmodels.envs.dream import make_dream
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.real import RealEnvs
from worldmodels.errors import InputError
from worldmodels.film import Frame, beside, captioned, shrunk, write_webm, write_webp
from worldmodels.models.vae import frames_of
from worldmodels.ranges import PositiveFloat
from worldmodels.run import Metrics, Run, progress, say
from worldmodels.seeding import environment_seeds, seed_for
from worldmodels.world import RECORDED

ENDLESS = 10**9
"""Horizon in steps: a dream ends by M's prediction, or is reset to reality."""
PAUSE = 1.0
"""Seconds for which the last picture of an episode is shown."""
LEAD = 1.0
"""Seconds at the start of an episode in which each step puts the dream onto reality: M's state is
empty at first."""
RESYNC = 8.0
"""Seconds after which the dream is reset to reality."""
SCALE = 3
"""Enlargement of the frames."""
FILM_BYTES = 2_000_000
"""Maximum bytes of a film; a larger one gets a lower resolution or frame rate."""
WEBP_SECONDS, WEBP_FPS = 20.0, 12.5
"""Limits of the animated WebP; a whole episode may be longer."""
LAP_PICTURES = 2000
"""Maximum pictures of a whole episode, which may have no end."""
TEMPERATURES, TEMPERATURES_SECONDS = (0.1, 0.5, 1.0, 1.3), 12.0
"""Of the dreams that are filmed side by side, and the length of that film."""

FilmName = Literal["dream", "lap", "temperatures"]
FILMS: dict[FilmName, tuple[str, str]] = {
    "dream": (
        "Reality, V's reconstruction of it, and M's dream",
        f"The dream is reset to reality every {RESYNC:.0f} seconds. In between, C sees the dream "
        "and acts in it. The caption counts the seconds since the reset.",
    ),
    "lap": (
        "A whole real episode",
        "Left: the official environment. Right: V's reconstruction from z, which is all that C "
        "sees of the frame.",
    ),
    "temperatures": (
        "Dreams from one start at four temperatures",
        "All four dreams have the same start and the same noise. The higher the temperature, the "
        "stronger the noise.",
    ),
}
"""What each film in videos/ shows, and how to read it."""


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """The films."""

    seconds: PositiveFloat = 20.0
    """Length of the film `dream` in real time; it shows one real episode after the other."""
    films: tuple[FilmName, ...] = field(default=get_args(FilmName))
    """Which are made: `dream`, reality beside its reconstruction and the dream; `lap`, a whole real
    episode; `temperatures`, dreams from one start at four temperatures."""


@dataclass(frozen=True)
class Moment:
    """The three panels at one step."""

    reality: UInt8[np.ndarray, "S S 3"]
    reconstruction: UInt8[np.ndarray, "S S 3"]
    dream: UInt8[np.ndarray, "S S 3"]
    alone: float
    """Seconds since the dream was put onto reality."""
    dream_over: bool
    """Whether M has ended the dream."""
    over: bool = False
    """Whether reality has ended."""

    def picture(self) -> UInt8[np.ndarray, "height width 3"]:
        """Titled panels side by side."""
        dream = "dream: the end" if self.dream_over else f"dream, {self.alone:.1f} s alone"
        titles = ("reality: the end" if self.over else "reality", "reconstruction", dream)
        return beside((self.reality, self.reconstruction, self.dream), titles, SCALE)


class SideBySide:
    """A bundle that acts in its real environment, and in a dream that continues from it."""

    def __init__(self, bundle: Bundle, seed: int) -> None:
        """`seed` is the seed of the dream's noise."""
        mode, inputs = AutoresetMode.DISABLED, bundle.controller.config.inputs
        self.bundle = bundle
        self.seconds = bundle.world.config.action_repeat / bundle.world.fps
        self.envs = RealEnvs(bundle.world, 1, autoreset_mode=mode)
        self.reality = FeatureEnv(self.envs, bundle.vae, bundle.mdnrnn, bundle.actions, inputs)
        self.dream = make_dream(1, bundle=bundle, horizon=ENDLESS, autoreset_mode=mode)
        self.dream.reset(seed=[seed])
        self.policy = Candidates.of_bundle(bundle)

    def episode(self, seed: int) -> Iterator[Moment]:
        """A real episode; its last picture is repeated for a second."""
        age, period = -round(LEAD / self.seconds), max(1, round(RESYNC / self.seconds))
        real, _ = self.reality.reset(seed=[seed])
        acting, over = steps(self.reality, self.policy, real), False
        dreaming: Iterator[Step] = iter(())  # age is at most 0 at first: the dream begins there
        while not over:
            if age <= 0 or age % period == 0:
                dreaming = self._resync(real)
            moment = self._moment(max(0, age) % period)
            yield moment
            next(dreaming, None)  # a dream that has ended stays as it is
            step = next(acting)
            real, age, over = step.observations, age + 1, not step.live[0]
        if self.envs.frames[0].any():  # ViZDoom has no picture of the end
            moment = self._moment(max(0, age) % period)
        yield from repeat(replace(moment, over=True), max(1, round(PAUSE / self.seconds)))

    def close(self) -> None:
        self.reality.close()

    def _resync(self, observations: np.ndarray) -> Iterator[Step]:
        """Puts the dream, with new noise, where reality is; its steps from there."""
        self.dream.begin_as(self.reality.memory)
        return steps(self.dream, self.policy, observations)

    def _moment(self, steps: int) -> Moment:
        seen = frames_of(self.bundle.vae.decode(self.reality.memory.z))[0].numpy()
        ended = bool(self.dream.terminated[0])
        dreamt = self.dream.render()[0]
        return Moment(self.envs.frames[0].copy(), seen, dreamt, steps * self.seconds, ended)


def moments(bundle: Bundle, config: WatchConfig, seed: int) -> list[Moment]:
    """The film's steps: test episodes one after the other, up to its length."""
    both = SideBySide(bundle, seed_for(seed, "watch"))
    length = max(1, round(config.seconds / both.seconds))
    seeds = (environment_seeds("test", index, 1)[0] for index in count())
    episodes = (both.episode(each) for each in seeds)
    try:
        return list(progress(islice(chain.from_iterable(episodes), length), "watch", total=length))
    finally:
        both.close()


def lap(bundle: Bundle) -> Iterator[Frame]:
    """The first test episode of the official environment, from start to end."""
    mode, inputs = AutoresetMode.DISABLED, bundle.controller.config.inputs
    envs = RealEnvs(bundle.world, 1, official=True, autoreset_mode=mode)
    reality = FeatureEnv(envs, bundle.vae, bundle.mdnrnn, bundle.actions, inputs)
    seconds, earned = bundle.world.config.action_repeat / bundle.world.fps, 0.0

    def picture(step: int, over: bool = False) -> Frame:
        titles = "reality: the end" if over else "reality", "reconstruction"
        seen = frames_of(bundle.vae.decode(reality.memory.z))[0].numpy()
        film = beside((envs.frames[0], seen), titles, SCALE)
        return captioned(film, f"{step * seconds:.1f} s, episode return {earned:.0f}")

    try:
        seed = environment_seeds("test", 0, 1)[0]
        observations, _ = reality.reset(seed=[seed])
        shown = picture(0)
        for number, step in enumerate(steps(reality, Candidates.of_bundle(bundle), observations)):
            yield shown
            earned, over = earned + float(step.rewards[0]), not step.live[0]
            if envs.frames[0].any():  # ViZDoom has no picture of the end
                shown = picture(number + 1, over)
        yield from repeat(shown, max(1, round(PAUSE / seconds)))
    finally:
        reality.close()


def temperatures(bundle: Bundle, seed: int) -> Iterator[Frame]:
    """Dreams from one start at several temperatures, with C acting in each."""
    mode = AutoresetMode.DISABLED
    dreams = [
        make_dream(1, bundle=bundle, temperature=each, horizon=ENDLESS, autoreset_mode=mode)
        for each in TEMPERATURES
    ]
    seconds = bundle.world.config.action_repeat / bundle.world.fps
    acting = []
    for dream in dreams:
        observations, _ = dream.reset(seed=[seed])
        acting.append(steps(dream, Candidates.of_bundle(bundle), observations))
    for number in range(max(1, round(TEMPERATURES_SECONDS / seconds))):
        ends = (": end" if dream.terminated[0] else "" for dream in dreams)
        titles = [f"temperature {t}{end}" for t, end in zip(TEMPERATURES, ends, strict=True)]
        film = beside([dream.render()[0] for dream in dreams], titles, SCALE)
        yield captioned(film, f"four dreams from one start, {number * seconds:.1f} s")
        for one in acting:
            next(one, None)  # a dream that has ended stays as it is


def watch(run: Run, config: WatchConfig, seed: int, name: str | None = None) -> None:
    """Films a bundle: writes each film as a WebM and as an animated WebP of at most 2 MB each.

    The animated `dream` of the run's own bundle stands on the bundle's card too.

    Args:
        run: the films go to its videos/.
        config: which films, and how long.
        seed: of the dreams' noise.
        name: of a bundle; none: the run's own.

    Raises:
        InputError: there is no such bundle, or its agent has no senses of its own.
    """
    if name is None:
        name = str(run.need(run.bundle / "bundle.json", "worldmodels evaluate").parent)
    bundle = Bundle.load(name)
    if bundle.controller.config.senses != "own":
        raise InputError("films need an agent whose controller.senses is own")
    films: dict[FilmName, Callable[[], Iterator[Frame]]] = {
        "dream": lambda: (one.picture() for one in moments(bundle, config, seed)),
        "lap": lambda: islice(lap(bundle), LAP_PICTURES),
        "temperatures": lambda: temperatures(bundle, seed_for(seed, "watch")),
    }
    with Metrics(run, "watch") as metrics:
        fps = bundle.world.fps / bundle.world.config.action_repeat
        for film in config.films:
            if film != "temperatures" and not bundle.world.config.live:
                say(f"{film} is not filmed: it shows reality, and env.id is {RECORDED}")
                continue
            pictures = list(films[film]())
            webm, webp = run.videos / f"{film}.webm", run.videos / f"{film}.webp"
            _write_small(write_webm, webm, pictures, fps)
            shown = pictures if film == "lap" else pictures[: max(1, round(WEBP_SECONDS * fps))]
            _write_small(write_webp, webp, shown, fps, every=max(1, round(fps / WEBP_FPS)))
            if film == "dream" and bundle_folder(name).resolve() == run.bundle.resolve():
                link(webp, run.bundle / FILM)
                bundle.save_card(run.bundle)
            metrics.log(0, **{f"{film}_frames": len(pictures)})
            metrics.picture(film, 0, pictures[len(pictures) // 2])
            length, kept = len(pictures) / fps, len(shown) / fps
            part = "the same" if len(shown) == len(pictures) else f"the first {kept:.0f} s"
            say(f"{webm} shows {length:.0f} s, {webp.name} {part}")


def _write_small(
    write: Callable[[Path, Sequence[Frame], float], None],
    path: Path,
    pictures: Sequence[Frame],
    fps: float,
    every: int = 1,
) -> None:
    """Writes a film: smaller, or with half of the pictures a second, while it is above FILM_BYTES.

    A codec's bytes grow with the pixels of all pictures together.
    """
    size = 1.0
    while True:
        write(path, [shrunk(picture, size) for picture in pictures[::every]], fps / every)
        excess = path.stat().st_size / FILM_BYTES
        if excess <= 1 or every >= len(pictures):
            return
        if excess > 2:
            every *= 2
        else:
            size *= 0.98 / excess**0.5
