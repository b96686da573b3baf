"""Worlds as users write them, with all their mistakes: a square that moves over a coloured wall."""

import os
import time

import gymnasium
import numpy as np

SHAPE = 84, 96


def scene(place):
    """uint8 (84, 96, 3): each colour has a slope of its own, and the square is at `place`."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    picture = np.stack([rows, 2 * columns, 200 - rows], -1).astype(np.uint8)
    picture[30:50, 5 + place % 70 : 20 + place % 70] = (250, 240, 10)
    return picture


def grey(place):
    return scene(place)[..., 1]


def stack(picture, place, count=4):
    """The newest pictures, as Gymnasium's FrameStackObservation has them after a reset."""
    return np.stack([picture(max(0, place - age)) for age in range(count - 1, -1, -1)])


def alpha(place):
    return np.concatenate([scene(place), np.full((*SHAPE, 1), 255, np.uint8)], -1)


PICTURES = {
    "plain": scene,
    "grey": grey,
    "grey with a channel": lambda t: grey(t)[..., None],
    "channels first": lambda t: scene(t).transpose(2, 0, 1),
    "grey channels first": lambda t: grey(t)[None],
    "float": lambda t: (scene(t) / 255).astype(np.float32),
    "float to 255": lambda t: scene(t).astype(np.float64),
    "float from -1": lambda t: (scene(t) / 127.5 - 1).astype(np.float32),
    "float channels first": lambda t: (scene(t).transpose(2, 0, 1) / 255).astype(np.float32),
    "int64": lambda t: scene(t).astype(np.int64),
    "uint16": lambda t: scene(t).astype(np.uint16),
    "bool": lambda t: scene(t) > 120,
    "zeros and ones": lambda t: (scene(t) > 120).astype(np.int32),
    "codes": lambda t: grey(t) // 43,
    "alpha": alpha,
    "alpha of sprites": lambda t: np.concatenate([scene(t), scene(t)[..., :1] // 83 % 2 * 255], -1),
    "stack": lambda t: stack(grey, t),
    "stack of three": lambda t: stack(grey, t, 3),
    "stack last": lambda t: np.moveaxis(stack(grey, t), 0, -1),
    "stack of floats": lambda t: np.moveaxis(stack(grey, t) / np.float32(255), 0, -1),
    "stack with a channel": lambda t: stack(grey, t)[..., None],
    "coloured stack": lambda t: stack(scene, t),
    "coloured stack last": lambda t: np.concatenate(list(stack(scene, t)), -1),
    "coloured stack, channels first": lambda t: stack(scene, t).transpose(0, 3, 1, 2),
    "coloured stack first": lambda t: np.concatenate(stack(scene, t).transpose(0, 3, 1, 2)),
    "two channels": lambda t: scene(t)[..., :2],
    "four colours": lambda t: np.concatenate([scene(t), scene(t)[..., :1]], -1),
    "five planes": lambda t: np.stack([grey(7 * t + i) for i in range(5)]),
    "uint16 to 65535": lambda t: scene(t).astype(np.uint16) * 257,
    "float to 1000": lambda t: scene(t) * 4.0,
    "not a number": lambda t: np.full((84, 96, 3), np.nan, np.float32),
    "list": lambda t: scene(t).tolist(),
    "text": lambda t: "a picture",
    "none": lambda t: None,
    "numbers": lambda t: np.arange(4, dtype=np.float32),
}
DICTIONARIES = {
    "dictionary": lambda t: {"view": scene(t), "speed": np.float32([t])},
    "nested": lambda t: {"camera": {"rgb": scene(t), "depth": grey(t)}, "speed": np.float32([t])},
    "two pictures": lambda t: {"left": scene(t), "right": scene(t + 9)},
}


REWARDS = {"nan": np.nan, "inf": np.inf, "none": None, "text": "1", "two": np.zeros(2)}
CHANCE = np.random.default_rng()


def space_of(value, high):
    if isinstance(value, dict):
        return gymnasium.spaces.Dict({key: space_of(part, high) for key, part in value.items()})
    if not isinstance(value, np.ndarray):
        return gymnasium.spaces.Box(0, 255, (*SHAPE, 3), np.uint8)
    if value.dtype == np.bool_:
        return gymnasium.spaces.Box(0, 1, value.shape, np.bool_)
    if value.dtype.kind == "f":
        return gymnasium.spaces.Box(-np.inf, np.inf, value.shape, value.dtype)
    return gymnasium.spaces.Box(0, min(high, np.iinfo(value.dtype).max), value.shape, value.dtype)


def hang():
    while True:
        time.sleep(0.01)


def hang_deep():
    """In compiled code, which hears no signal."""
    sum(range(10**12))


def fail():
    raise ValueError("the square\nis gone")


ACTS = {"raises": fail, "dies": lambda: os._exit(3), "hangs": hang, "stuck": hang_deep}


class UserWorld(gymnasium.Env):
    """Its pictures and its mistakes are named by arguments.

    A mistake is made from step `at` on in an episode whose seed is divisible by `every`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        picture="plain",
        rendered=None,
        mistake=None,
        at=5,
        every=1,
        length=12,
        reward=1.0,
        render_mode=None,
    ):
        self.look = (PICTURES | DICTIONARIES)[picture]
        if mistake == "dark":
            self.look = lambda place: 0 * scene(place)
        if mistake == "still":
            self.look = lambda place: scene(0)
        if mistake == "own chance":
            self.look = lambda place: scene(place + CHANCE.integers(60))
        self.rendered = rendered and PICTURES[rendered]
        self.mistake, self.at, self.every = mistake, at, every
        self.length, self.reward, self.render_mode = length, reward, render_mode
        self.drawing = "a pencil"
        first = self.look(0)
        self.observation_space = space_of(first, 1 if picture == "zeros and ones" else 65535)
        self.action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed_given, self.place, self.age = seed, (options or {}).get("place", 0), 0
        if self.mistake == "raises in reset" and self.is_time():
            raise RuntimeError("no such level")
        if self.mistake == "old reset":
            return self.look(0)
        return self.look(self.place), {}

    def is_time(self):
        return self.age >= self.at and (self.seed_given or 0) % self.every == 0

    def step(self, action):
        self.age += 1
        self.place += 1
        returned = self.look(self.place), self.reward, self.age >= self.length, False, {}
        return self.mistaken(*returned) if self.is_time() else returned

    def mistaken(self, picture, reward, over, truncated, info):
        kind, _, which = (self.mistake or "").partition(" ")
        if kind in ACTS:
            ACTS[kind]()
        if kind == "four":
            return picture, reward, over, info
        if kind == "another":
            picture = {"shape": picture[1:], "dtype": picture.astype(np.float32)}[which]
        elif kind == "brighter":
            picture = picture * 4
        elif kind == "reward":
            reward = REWARDS[which]
        elif kind == "ended":
            over = None
        return picture, reward, over, truncated, info

    def render(self):
        return self.rendered and self.rendered(self.place)


class NoSeed(UserWorld):
    def reset(self):
        return super().reset()


class NoOptions(UserWorld):
    def reset(self, *, seed=None):
        return super().reset(seed=seed)


class Plain:
    """Not derived from Gymnasium's class."""

    def __init__(self, render_mode=None):
        pass


class Fails(UserWorld):
    def __init__(self, error="ImportError", render_mode=None):
        raise {
            "ImportError": ImportError("libGL.so.1: cannot open\nshared object file"),
            "ModuleNotFoundError": ModuleNotFoundError("No module named 'my_physics'"),
            "FileNotFoundError": FileNotFoundError(2, "No such file", "level1.wad"),
            "AssertionError": AssertionError(),
        }[error]


class Brighter(gymnasium.ObservationWrapper):
    def observation(self, observation):
        return np.minimum(observation, 127) * 2


class Bruises(gymnasium.Wrapper):
    """Each third step hurts."""

    @property
    def bruises(self):
        return self.unwrapped.age // 3


def broken_wrapper(env):
    raise KeyError("level")


for name, world in {"World": UserWorld, "NoSeed": NoSeed, "Plain": Plain, "Fails": Fails}.items():
    if f"user/{name}-v0" not in gymnasium.registry:
        gymnasium.register(f"user/{name}-v0", entry_point=world)
