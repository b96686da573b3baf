"""The `env` section of a config, and world.json, which later stages read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from worldmodels.errors import InputError
from worldmodels.ranges import PositiveFloat, PositiveInt

RECORDED = "recorded"
"""As `env.id`: there is no live environment, only episodes that were imported."""
RENDER = "render()"
"""As `env.screen`: the picture is what the environment renders."""
Layout = Literal["HW", "HWC", "CHW", "HWK", "KHW", "HW(KC)", "(KC)HW", "KHWC", "KCHW"]
Size = Literal[64, 96, 128]
SIZES: tuple[int, ...] = get_args(Size)
"""Sides of a frame in pixels."""
RewardKind = Literal["constant", "count", "real"]


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """A Gymnasium environment, and how the agent sees it and acts in it."""

    id: str = "CarRacing-v3"
    """Gymnasium id of the official environment, in which scores are measured; `module:id` imports
    the module first. A class needs no id: `module:Class` or `path/to/file.py:Class`. `recorded`:
    none, only episodes of `worldmodels import`; nothing is then measured in reality."""
    wrappers: tuple[str, ...] = ()
    """Wrappers around it, the innermost first: `module:Class` or `path/to/file.py:Class`. Each is
    called with the environment alone."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for `gymnasium.make`."""
    training_id: str | None = None
    """Id of a faster version, used to collect and to validate; none: the official one."""
    screen: str | None = None
    """Key of the picture in a dictionary observation, of inner ones too: `camera.rgb`; `render()`:
    what is rendered. none: the only picture of the observation, or `render()` where it has none."""
    crop: tuple[int, int, int, int] | None = None
    """Rows and columns to keep of the raw picture, in pixels: top, bottom, left, right."""
    fit: Literal["stretch", "letterbox", "crop"] = "stretch"
    """How a picture that is not square becomes a frame: stretched; `letterbox`, whole between black
    bars; or `crop`, its middle."""
    size: Size = 64
    """Side of V's frames in pixels: the paper's 64, or 96 or 128, which cost more."""
    inset: tuple[int, int, int, int] | None = None
    """A part of the raw picture that V sees enlarged, as the lowest eighth of its frame: gauges
    too small to learn. Given as `crop` is; the crop fills the rest."""
    action_repeat: PositiveInt = 1
    """Frames for which an action is held: one step of the agent and of the dream. The paper: 1."""
    max_episode_steps: PositiveInt | None = None
    """Frames after which an episode is truncated; none: as registered, or 5000."""
    step_timeout: PositiveFloat = 60.0
    """Seconds that a call of the environment may last; an episode with a longer one is lost."""
    action: Literal["auto", "thirds"] = "auto"
    """`thirds`: one number in (-1, 1) read as left, nothing, right (the paper's Doom)."""
    action_clip: tuple[int, ...] = ()
    """Parts of a Box action read as clip(tanh, low, high) (the paper's brake)."""
    reward: RewardKind = "real"
    """What M's reward head learns: `constant` per step (no head needed), a `count`, or `real`."""
    count_attribute: str | None = None
    """Attribute of the unwrapped environment whose increase is the count."""
    count_limit: PositiveFloat = 1.0
    """Largest possible count of a frame; the dream never pays for more."""
    reward_per_count: float = 1.0
    """Reward for one count in the dream."""
    reward_per_frame: float = 0.0
    """Reward for each frame in the dream, where the reward is a count or constant."""
    terminates: bool = True
    """Whether M predicts the end of an episode."""
    damage_redness: PositiveFloat | None = None
    """A picture that is redder than the one before by more than this, of 255 on average, shows
    damage: Doom's picture reddens when a shot hits. none: no picture does."""
    mirrored_actions: tuple[int, ...] = ()
    """The choices in the mirror image of a world that looks and behaves the same in it: [0, 2, 1]
    swaps the last two. M then learns from the mirror image of each episode too; none: it does
    not."""

    @property
    def live(self) -> bool:
        """Whether there is an environment, not only recordings of one."""
        return self.id != RECORDED

    @property
    def reward_per_step(self) -> float:
        """The constant part of a dreamt step's reward."""
        return 0.0 if self.reward == "real" else self.reward_per_frame * self.action_repeat

    def __post_init__(self) -> None:
        for name, part in (("crop", self.crop), ("inset", self.inset)):
            if part and not (0 <= part[0] < part[1] and 0 <= part[2] < part[3]):
                raise InputError(f"env.{name} is {part}: top < bottom and left < right are needed")
        if sorted(self.mirrored_actions) != list(range(len(self.mirrored_actions))):
            raise InputError(
                f"env.mirrored_actions is {list(self.mirrored_actions)}: each choice is needed once"
            )
        if self.reward == "count" and not self.live:
            raise InputError(f"env.reward is count, but env.id is {RECORDED}: set it to real")
        if self.reward == "count" and not self.count_attribute:
            raise InputError("env.count_attribute is missing: reward `count` needs it")


@dataclass(frozen=True)
class RawPicture:
    """The environment's picture before the crop, as `collect` found it; later ones must match."""

    shape: tuple[int, ...]
    dtype: str = "uint8"
    low: int = 0
    """The number that is shown black where `high` is at most 1."""
    high: int = 255
    """Largest number. Pictures of at most 1 are scaled to 255; others are taken as they are."""
    rendered: bool = False
    """Whether it is what `render()` returns, not the observation."""
    layout: Layout = "HWC"
    """The axes, as in `picture.LAYOUTS`; of a stack the newest picture is taken. HWC may lack C."""
    key: str | None = None
    """The picture's key in a dictionary observation."""

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


@dataclass(frozen=True)
class World:
    """world.json: the environment as `collect` found it."""

    config: EnvConfig
    action: dict[str, Any]
    """`Actions.to_dict()`: kind, bounds, number of choices."""
    fps: PositiveFloat
    """Frames a second of the environment, before action_repeat."""
    versions: dict[str, str]
    picture: RawPicture

    @property
    def key(self) -> str | None:
        """The picture's key in a dictionary observation; none: the observation is the picture."""
        return None if self.picture.rendered else self.picture.key or self.config.screen

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
