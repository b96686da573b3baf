"""What the window shows: a dream, reality, or both from one moment with the same actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, repeat
from typing import Any, Literal, get_args

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float32, UInt8

from worldmodels.acting.keys import Controls
from worldmodels.acting.policies import Candidates, Policy
from worldmodels.acting.rollout import steps
from worldmodels.artifacts import Bundle
from worldmodels.envs.dream import make_dream
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.real import RealEnvs
from worldmodels.errors import InputError
from worldmodels.ranges import PositiveFloat, PositiveInt, Seed
from worldmodels.seeding import SPLIT_SIZE, environment_seeds

Driver = Literal["agent", "you"]
Mode = Literal["dream", "reality", "both"]

LEAD = 1.0
"""Seconds at the start of a real episode in which the dream beside it is put onto reality at each
step: M's state is empty at first."""
ALONE = 8.0
"""Seconds after which a dream beside reality is put onto reality again."""
PAUSE = 1.5
"""Seconds for which an end is shown before the next episode."""
TEMPERATURE_STEP = 0.05
"""Change of the temperature by one press of a key."""


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """The window, and what it shows at first."""

    driver: Driver = "agent"
    """Who acts: the agent or you."""
    mode: Mode = "dream"
    """What is shown: the dream, reality, or both from the same moment with the same actions."""
    temperature: PositiveFloat | None = None
    """Initial temperature; null: the one at which the agent was evolved."""
    horizon: PositiveInt = 1000
    """Steps after which a dream is truncated."""
    scale: PositiveInt = 7
    """Enlargement: a picture has 64 x scale pixels on each side."""
    seed: Seed = 0
    """Seed of the dreams and of reality."""


class Panel:
    """The dream or reality in the window: one episode after the other.

    Attributes:
        frame: what it looks like.
        steps: of the episode so far.
        episode_return: so far.
        over: whether the episode has ended.
        waited: steps since its end.
    """

    def __init__(
        self,
        name: Mode,
        env: VectorEnv[np.ndarray, np.ndarray, Any],
        policy: Policy,
        draw: Callable[[], UInt8[np.ndarray, "S S 3"]],
        seeds: Iterator[int | None],
    ) -> None:
        """`seeds` are those of its episodes; None: the environment continues with its next."""
        self.name, self.env, self._policy, self._draw = name, env, policy, draw
        self._seeds = seeds
        self.restart()

    def restart(self) -> None:
        """Begins the next episode."""
        self.begin(self.env.reset(seed=[next(self._seeds)])[0])  # type: ignore[arg-type]

    def begin(self, observations: Float32[np.ndarray, "1 F"]) -> None:
        """Begins where the environment was put, which returned these observations."""
        self._steps = steps(self.env, self._policy, observations)
        self.episode_return, self.steps, self.over, self.waited = 0.0, 0, False, 0
        self.frame = self._draw()

    def advance(self) -> None:
        """One step, or one step of waiting after the end."""
        if self.over:
            self.waited += 1
            return
        step = next(self._steps)
        self.episode_return += float(step.rewards[0])
        self.steps, self.over = self.steps + 1, not step.live[0]
        frame = self._draw()
        if frame.any():  # ViZDoom has no picture of the end
            self.frame = frame


class Session:
    """The state of the window: who acts, in the dream or in reality, and the panels.

    Attributes:
        dream: its panel.
        reality: its panel; None until it is shown for the first time.
        mode: which of them are shown.
        driver: who acts.
        paused: whether time stands still.
        held: the action keys that are down, in the order in which they were pressed.
        action: the last action a.
        message: the last thing to be told.
        seconds: of a step.
    """

    def __init__(self, bundle: Bundle, config: PlayConfig) -> None:
        """Opens the environments that the mode needs.

        Raises:
            InputError: the real environment cannot be made, or the agent's controller.senses is not
            own.
        """
        if bundle.controller.config.senses != "own":
            raise InputError("playing needs an agent whose controller.senses is own")
        self._bundle, self._agent = bundle, Candidates.of_bundle(bundle)
        self.controls = Controls(bundle.world.config.id, bundle.actions)
        self.seconds = bundle.world.config.action_repeat / bundle.world.fps
        given: dict[str, Any] = {"horizon": config.horizon}
        if config.temperature is not None:
            given["temperature"] = config.temperature
        mode = AutoresetMode.DISABLED
        dream = make_dream(1, bundle=bundle, autoreset_mode=mode, **given)
        self._dream = dream
        seeds = chain([config.seed], repeat(None))
        self.dream = Panel("dream", dream, self._act_in_dream, lambda: dream.render()[0], seeds)
        self.reality: Panel | None = None
        self.driver, self.paused, self.message = config.driver, False, ""
        self.held: list[str] = []
        self._tapped: list[str] = []  # pressed since the last step, perhaps up again
        self._seed, self.action = config.seed, self.controls.action([])
        self.mode: Mode = "dream"
        self.show(config.mode)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """What is shown, from left to right. The agent sees the first of them."""
        if self.mode == "dream" or self.reality is None:
            return (self.dream,)
        return (self.reality,) if self.mode == "reality" else (self.reality, self.dream)

    @property
    def temperature(self) -> float:
        return self._dream.config.temperature

    def show(self, mode: Mode) -> None:
        """Changes what is shown. A dream beside reality begins at reality's present moment.

        Raises:
            InputError: the real environment cannot be made; nothing has changed.
        """
        if mode != "dream":
            if self.reality is None:
                self.reality = self._open_reality()
            elif self.mode == "dream":
                self.reality.restart()
        self.mode = mode
        self.meet()

    def show_next(self) -> None:
        """From the dream to reality, to both, and back."""
        modes = get_args(Mode)
        self.show(modes[(modes.index(self.mode) + 1) % len(modes)])

    def restart(self) -> None:
        """Begins a new episode in what is shown."""
        self.panels[0].restart()
        self.meet()

    def meet(self) -> None:
        """Begins the dream at the present moment of the reality beside it, with new noise."""
        if self.mode == "both":
            self.dream.begin(self._dream.begin_as(self._reality.memory))

    def hand_over(self) -> None:
        """The other one acts."""
        self.driver = "you" if self.driver == "agent" else "agent"

    def warm(self, degrees: int) -> None:
        """Raises the temperature by so many steps."""
        warmer = self.temperature + degrees * TEMPERATURE_STEP
        warmer = round(max(TEMPERATURE_STEP, warmer), 2)
        self._dream.config = replace(self._dream.config, temperature=warmer)

    def hold(self, key: str) -> None:
        """An action key goes down."""
        self.held.append(key)
        self._tapped.append(key)

    def release(self, key: str) -> None:
        """An action key goes up. One that was short of a step acts for one step."""
        self.held = [other for other in self.held if other != key]

    def advance(self) -> None:
        """One step of what is shown; after an end and PAUSE a new episode begins."""
        pause, first = round(PAUSE / self.seconds), self.panels[0]
        if first.over and first.waited >= pause:
            self.restart()
            return
        lasts = not first.over
        first.advance()
        if self.mode == "both" and lasts:
            self._follow(first, pause)
        self._tapped.clear()

    def close(self) -> None:
        """Closes the real environment, if it was opened."""
        if self.reality is not None:
            self.reality.env.close()

    def _follow(self, reality: Panel, pause: int) -> None:
        """The step of the dream beside reality: alone, or onto reality."""
        led = reality.steps <= round(LEAD / self.seconds)
        long = self.dream.steps >= round(ALONE / self.seconds) or self.dream.waited >= pause
        if (led or long) and not reality.over:
            self.meet()
        else:
            self.dream.advance()

    def _open_reality(self) -> Panel:
        bundle, inputs = self._bundle, self._bundle.controller.config.inputs
        envs = RealEnvs(bundle.world, 1, autoreset_mode=AutoresetMode.DISABLED)
        self._reality = FeatureEnv(envs, bundle.vae, bundle.mdnrnn, bundle.actions, inputs)
        first = self._seed % (SPLIT_SIZE // 2)
        seeds = (environment_seeds("test", number, 1)[0] for number in count(first))
        return Panel("reality", self._reality, self._act, lambda: envs.frames[0].copy(), seeds)

    def _act(
        self, observations: Float32[np.ndarray, "1 F"], live: Bool[np.ndarray, " 1"]
    ) -> Float32[np.ndarray, "1 A"]:
        """The policy: the agent, or the keys that are down."""
        if self.driver == "agent":
            self.action = self._agent(observations, live)[0]
        else:
            self.action = self.controls.action([*self.held, *self._tapped])
        return self.action[None]

    def _act_in_dream(
        self, observations: Float32[np.ndarray, "1 F"], live: Bool[np.ndarray, " 1"]
    ) -> Float32[np.ndarray, "1 A"]:
        """The policy; beside reality, what was just done there."""
        return self.action[None] if self.mode == "both" else self._act(observations, live)
