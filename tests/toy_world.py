"""Worlds of a few pixels: choose the side on which the light is, or throw dice."""

import gymnasium
import numpy as np


class Light(gymnasium.Env[np.ndarray, int]):
    """A light on the left, in the middle or on the right; choosing its place pays 1, else 0.

    After every step it jumps to another place with probability 1/4. An episode lasts 20 steps.
    Random actions return 20 / 3, the best policy 20.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.age = int(self.np_random.integers(3)), 0
        return self.render(), {}

    def step(self, action):
        reward = float(action == self.place)
        if self.np_random.random() < 0.25:
            self.place = int((self.place + self.np_random.integers(1, 3)) % 3)
        self.age += 1
        return self.render(), reward, False, self.age >= 20, {}

    def render(self):
        picture = np.full((64, 64, 3), 30, np.uint8)
        picture[16:48, 2 + 21 * self.place : 20 + 21 * self.place] = 230
        return picture


class Dice(Light):
    """Pays dice: any other action throws others, for better or worse.

    Args:
        loaded: what the first action, from -1 to 1, adds to the reward for each unit.
    """

    def __init__(self, loaded=0.0, **kwargs):
        super().__init__(**kwargs)
        self.action_space, self.loaded = gymnasium.spaces.Box(-1, 1, (2,), np.float32), loaded

    def step(self, action):
        key = int(self.np_random.integers(2**32)), *np.asarray(action, np.float32).view(np.uint32)
        reward = np.random.default_rng(key).normal() + self.loaded * float(action[0])
        self.age += 1
        return self.render(), reward, False, self.age >= 20, {}


if "Light-v0" not in gymnasium.registry:  # the collection of doctests imports this file too
    gymnasium.register("Light-v0", entry_point=Light)
    gymnasium.register("Dice-v0", entry_point=Dice)
