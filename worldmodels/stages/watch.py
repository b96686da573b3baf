"""Watch: a film of reality, of its reconstruction, and of the dream that continues from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, islice, repeat

import numpy as np
from gymnasium.vector import AutoresetMode
from jaxtyping import UInt8

from worldmodels.acting.policies import Candidates
from worldmodels.acting.rollout import Step, steps
from worldmodels.artifacts import Bundle
from worldmodels.envs.dream import make_dream
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.real import RealEnvs
from worldmodels.errors import InputError
from worldmodels.film import beside, write_webm, write_webp
from worldmodels.models.vae import frames_of
from worldmodels.ranges import PositiveFloat
from worldmodels.run import Metrics, Run, progress, say
from worldmodels.seeding import environment_seeds, seed_for

ENDLESS = 10**9
"""Horizon in steps: a dream ends by itself, or when it is put back onto reality."""
PAUSE = 1.0
"""Seconds for which the last picture of an episode is shown."""
LEAD = 1.0
"""Seconds at the start of an episode in which each step puts the dream onto reality: M's state is
empty at first."""
RESYNC = 8.0
"""Seconds after which the dream is put back onto reality."""
SCALE = 3
"""Enlargement of the frames of 64x64 pixels."""
WEBP_SECONDS, WEBP_FPS = 20.0, 12.5
"""Limits of the animated picture, which is for a README: it stays below 2 MB."""


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """The film."""

    seconds: PositiveFloat = 40.0
    """Length at the world's own speed; the film shows one real episode after the other."""


@dataclass(frozen=True)
class Moment:
    """The three panels at one step."""

    reality: UInt8[np.ndarray, "64 64 3"]
    reconstruction: UInt8[np.ndarray, "64 64 3"]
    dream: UInt8[np.ndarray, "64 64 3"]
    alone: float
    """Seconds since the dream was put onto reality."""
    dream_over: bool
    """Whether the dream has ended by itself."""
    over: bool = False
    """Whether reality has ended."""

    def picture(self) -> UInt8[np.ndarray, "height width 3"]:
        """Titled panels side by side."""
        dream = "dream: the end" if self.dream_over else f"dream, {self.alone:.1f} s alone"
        titles = ("reality: the end" if self.over else "reality", "reconstruction", dream)
        return beside((self.reality, self.reconstruction, self.dream), titles, SCALE)


class SideBySide:
    """A bundle that acts in its real world, and in a dream that continues from it."""

    def __init__(self, bundle: Bundle, seed: int) -> None:
        """`seed` is the seed of the dream's noise."""
        if bundle.controller.config.senses != "own":
            raise InputError("films need an agent whose controller.senses is own")
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


def watch(run: Run, config: WatchConfig, seed: int, name: str | None = None) -> None:
    """Writes videos/dream.webm and videos/dream.webp: a bundle in reality and dream.

    Args:
        run: where the videos go.
        config: its length.
        seed: of the dream's noise.
        name: of a bundle; none: the run's own.

    Raises:
        InputError: there is no such bundle.
    """
    if name is None:
        name = str(run.need(run.bundle / "bundle.json", "worldmodels evaluate").parent)
    bundle = Bundle.load(name)
    with Metrics(run, "watch") as metrics:
        film = moments(bundle, config, seed)
        fps = bundle.world.fps / bundle.world.config.action_repeat
        webm, webp = run.videos / "dream.webm", run.videos / "dream.webp"
        write_webm(webm, (moment.picture() for moment in film), fps)
        every = max(1, round(fps / WEBP_FPS))
        shown = film[: max(1, round(WEBP_SECONDS * fps)) : every]
        write_webp(webp, [moment.picture() for moment in shown], fps / every)
        metrics.log(0, frames=len(film))
    shown_seconds = len(shown) * every / fps
    say(f"{webm} shows {len(film) / fps:.0f} s, {webp.name} the first {shown_seconds:.0f} s")
