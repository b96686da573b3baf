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
    """Id of the environment: a Gymnasium id; `module:Id`, which imports the module first; or a
    class, `module:Class` or `path/to/file.py:Class`. `recorded`: no environment, only episodes of
    `worldmodels import`."""
    wrappers: tuple[str, ...] = ()
    """Wrappers, the innermost first: `module:Class` or `path/to/file.py:Class`. Each is called with
    the environment as its only argument."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for `gymnasium.make`."""
    training_id: str | None = None
    """Id of a faster version, used to collect and to validate; null: `id`."""
    screen: str | None = None
    """Key of the picture in a dictionary observation (`camera.rgb` for nested ones), or `render()`.
    null: the only picture of the observation, or `render()` if it has none."""
    crop: tuple[int, int, int, int] | None = None
    """Part of the raw picture that V sees, in pixels: top, bottom, left, right. null: all of it."""
    fit: Literal["stretch", "letterbox", "crop"] = "stretch"
    """How a picture that is not square becomes a frame: `stretch`; `letterbox`, with black bars;
    `crop`, its middle."""
    size: Size = 64
    """Height and width of V's frames in pixels; the paper: 64."""
    inset: tuple[int, int, int, int] | None = None
    """Part of the raw picture that V sees enlarged, in the lowest eighth of its frame, such as
    small gauges. Given like `crop`, which fills the rest of the frame. null: none."""
    action_repeat: PositiveInt = 1
    """Frames for which an action is repeated: a step of the agent and of the dream. The paper:
    1."""
    max_episode_steps: PositiveInt | None = None
    """Frames after which an episode is truncated; null: the registered limit, or 5000 without
    one."""
    step_timeout: PositiveFloat = 60.0
    """Maximum seconds of a call of the environment; an episode with a longer call is lost."""
    action: Literal["auto", "thirds"] = "auto"
    """How C's outputs become actions. `auto`: by the action space. `thirds`: thirds of one output
    in (-1, 1) are left, nothing, right (the paper's Doom)."""
    action_clip: tuple[int, ...] = ()
    """Indices of the parts of a Box action that are clip(tanh, low, high) (the paper's brake)."""
    reward: RewardKind = "real"
    """What M's reward head learns: `real`, the environment's reward; `count`, the increase of an
    attribute; `constant`, nothing, since every frame pays the same."""
    count_attribute: str | None = None
    """Attribute of the environment whose increase is the count. If `reward` is not `count`, a step
    with a count is labelled as damage, which `mdnrnn.risk_horizons` predicts; Doom:
    `damage_taken`."""
    count_limit: PositiveFloat = 1.0
    """Upper bound on M's predicted count for a frame."""
    reward_per_count: float = 1.0
    """Reward for one count in the dream."""
    reward_per_frame: float = 0.0
    """Reward for each frame in the dream, if `reward` is `count` or `constant`."""
    terminates: bool = True
    """Whether M predicts the end of an episode."""
    mirrored_actions: tuple[int, ...] = ()
    """For an environment that behaves the same when mirrored left to right: the actions in the
    mirror. [0, 2, 1] swaps the last two. M is trained on the mirror image of each episode too.
    Empty: not."""

    @property
    def live(self) -> bool:
        """Whether there is an environment, not only recordings of one."""
        return self.id != RECORDED

    @property
    def reward_per_step(self) -> float:
        """The constant part of a dream step's reward."""
        return 0.0 if self.reward == "real" else self.reward_per_frame * self.action_repeat

    @property
    def counts_damage(self) -> bool:
        """Whether the count is damage."""
        return self.count_attribute is not None and self.reward != "count"

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
        if self.count_attribute and not self.live:
            raise InputError(f"env.count_attribute is set, but env.id is {RECORDED}: remove it")
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
