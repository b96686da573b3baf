"""What a world is: the `env` section of a config, and world.json, which later stages read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from worldmodels.errors import InputError, check_above_zero, check_at_least

RewardKind = Literal["constant", "count", "real"]


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """A Gymnasium environment and how the agent looks at it. Any world is one of these."""

    id: str = "CarRacing-v3"
    """Gymnasium id of the official environment, the one that scores are reported on; `module:id`
    where a module has to be imported first."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for `gymnasium.make`."""
    training_id: str | None = None
    """Id of a faster twin for collection and validation; none: the official one."""
    screen: str | None = None
    """Key of the picture in a dictionary observation; none: the observation itself, or, where
    that is no picture, `render()` with render_mode rgb_array."""
    crop: tuple[int, int, int, int] | None = None
    """Rows and columns kept of the raw picture, in pixels: top, bottom, left, right."""
    size: int = 64
    """Side of the frame that V sees, in pixels. V's layers fit 64."""
    action_repeat: int = 1
    """Frames an action is held: one step of the agent and of the dream. The paper: 1."""
    max_episode_steps: int | None = None
    """Frames after which an episode is truncated; none: as registered."""
    action: Literal["auto", "thirds"] = "auto"
    """`thirds`: one number in (-1, 1) read as left, nothing, right (the paper's Doom)."""
    action_clip: tuple[int, ...] = ()
    """Parts of a Box action read as clip(tanh, low, high) (the paper's brake)."""
    reward: RewardKind = "real"
    """What M's reward head learns: `constant` per step (no head needed), a `count`, or `real`."""
    count_attribute: str | None = None
    """Attribute of the unwrapped environment whose increase is the count."""
    count_limit: float = 1.0
    """Most counts possible in a frame; the dream never pays more."""
    reward_per_count: float = 1.0
    """Reward of one count in the dream."""
    reward_per_frame: float = 0.0
    """Reward of each frame in the dream (count), or the constant itself."""
    terminates: bool = True
    """Whether M is to predict the end of an episode."""
    damage_redness: float | None = None
    """A picture redder than the one before by more than this, of 255 on average, shows a damage:
    Doom's reddens when a shot hits. none: no picture does."""
    mirrored_actions: tuple[int, ...] = ()
    """The choices in a mirror, where the world looks and behaves the same in one: [0, 2, 1] swaps
    the last two. M then learns from each episode's mirror image too; none: it doesn't."""
    last_frame: bool = True
    """Whether the last picture of an episode is real (ViZDoom returns zeros)."""

    def __post_init__(self) -> None:
        check_at_least("env", self, 1, "action_repeat", "max_episode_steps")
        check_above_zero("env", self, "count_limit", "damage_redness")
        if self.crop is not None and not (
            0 <= self.crop[0] < self.crop[1] and 0 <= self.crop[2] < self.crop[3]
        ):
            raise InputError(f"env.crop is {self.crop}: top < bottom and left < right are needed")
        if self.size != 64:
            raise InputError(f"env.size is {self.size}: V's layers are made for 64")
        if sorted(self.mirrored_actions) != list(range(len(self.mirrored_actions))):
            raise InputError(
                f"env.mirrored_actions is {list(self.mirrored_actions)}: each choice is needed once"
            )
        if self.reward == "count" and not self.count_attribute:
            raise InputError("env.count_attribute is missing: reward `count` needs it")


@dataclass(frozen=True)
class World:
    """world.json: the environment as it was when `collect` met it."""

    config: EnvConfig
    action: dict[str, Any]
    """`Actions.to_dict()`: kind, bounds, number of choices."""
    fps: float
    """Frames a second of the environment, before action_repeat."""
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any], source: Path | str = "world.json") -> World:
        """Reads what `to_dict` wrote.

        Raises:
            InputError: a field is missing or unknown.
        """
        try:
            known = {f.name for f in fields(EnvConfig)}
            given = {k: _tuple(v) for k, v in data["config"].items()}
            if unknown := sorted(set(given) - known):
                raise InputError(f"{source}: unknown field config.{unknown[0]}: collect again")
            config = EnvConfig(**given)
            return cls(config, data["action"], float(data["fps"]), data["versions"])
        except KeyError as error:
            raise InputError(f"{source}: field {error} is missing: collect again") from error


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
