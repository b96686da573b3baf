"""Actions: what the controller returns, what M is given, and what the environment takes.

The controller's output u (any real numbers) becomes an action a by `bound`. M and the dream take a;
`to_environment` turns a into the environment's own action.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodels.errors import InputError

ActionKind = Literal["box", "thirds", "discrete", "multi_discrete", "multi_binary"]


@dataclass(frozen=True)
class Actions:
    """Converts actions, for every kind of Gymnasium action space."""

    kind: ActionKind
    low: tuple[float, ...] = ()
    """Bounds of a box."""
    high: tuple[float, ...] = ()
    clip: tuple[int, ...] = ()
    """Parts of a box that are clip(tanh u, low, high) instead of tanh mapped to the bounds."""
    counts: tuple[int, ...] = ()
    """Choices per part of a discrete space; ones for multi_binary."""

    def __post_init__(self) -> None:
        if self.kind in ("box", "thirds"):
            bounds = [*zip(self.low, self.high, strict=False)]
            fits = len(self.low) == len(self.high) > 0 and not self.counts
            fits = fits and all(-math.inf < low <= high < math.inf for low, high in bounds)
        else:
            fits = bool(self.counts) and min(self.counts) > 0 and not (self.low or self.high)
            fits = fits and (len(self.counts) == 1 or self.kind != "discrete")
        if not fits or not set(self.clip) <= set(range(len(self.low))):
            raise InputError(
                f"action.low is {self.low}, high {self.high}, clip {self.clip}, counts "
                f"{self.counts}: they do not fit together as an action of kind {self.kind}"
            )

    @classmethod
    def of_space(
        cls, space: gymnasium.Space[Any], mode: str = "auto", clip: tuple[int, ...] = ()
    ) -> Actions:
        """The conversions for an environment's action space.

        Raises:
            InputError: the space is unbounded, not flat, or of another kind.
        """
        if mode == "thirds":
            if not isinstance(space, gymnasium.spaces.Discrete) or space.n != 3:
                raise InputError(
                    f"env.action is thirds, which needs Discrete(3), but {space} is given: use auto"
                )
            return cls("thirds", (-1.0,), (1.0,))
        _check_clip(space, clip)
        match space:
            case gymnasium.spaces.Box() if _is_vector(space) and _is_bounded(space):
                low, high = (tuple(float(x) for x in b) for b in (space.low, space.high))
                return cls("box", low, high, clip)
            case gymnasium.spaces.Discrete() if space.start == 0:
                return cls("discrete", counts=(int(space.n),))
            case gymnasium.spaces.MultiDiscrete() if space.nvec.ndim == 1 and not space.start.any():
                return cls("multi_discrete", counts=tuple(int(n) for n in space.nvec))
            case gymnasium.spaces.MultiBinary() if isinstance(space.n, int):
                return cls("multi_binary", counts=(1,) * space.n)
        raise InputError(
            f"env.id has the action space {space}: a flat bounded Box of floats, Discrete from 0, "
            "flat MultiDiscrete from 0 or MultiBinary is needed; wrap the environment"
        )

    @property
    def size(self) -> int:
        """Numbers in u and in a."""
        return sum(self.counts) if self.counts else len(self.low)

    @property
    def choices(self) -> int:
        """The number of actions to choose from; 0 where an action is not one choice."""
        if self.kind == "discrete":
            return self.counts[0]
        return 3 if self.kind == "thirds" else 0

    @property
    def space(self) -> gymnasium.spaces.Box:
        """The space of a."""
        if self.counts:
            return gymnasium.spaces.Box(0.0, 1.0, (self.size,), np.float32)
        low, high = (np.array(b, np.float32) for b in (self.low, self.high))
        return gymnasium.spaces.Box(low, high, dtype=np.float32)

    @property
    def own_space(self) -> gymnasium.Space[Any]:
        """The space of the environment's own actions."""
        match self.kind:
            case "box":
                return self.space
            case "multi_binary":
                return gymnasium.spaces.MultiBinary(self.size)
            case "multi_discrete":
                return gymnasium.spaces.MultiDiscrete(list(self.counts))
        return gymnasium.spaces.Discrete(self.choices)

    def bound(self, u: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch A"]:
        """Turns raw controller outputs into actions a."""
        if self.kind == "multi_binary":
            return (u > 0).to(u.dtype)
        if self.counts:
            return torch.cat(
                [_one_hot_argmax(part) for part in u.split_with_sizes(self.counts, -1)], -1
            )
        low, high = _bounds(self.low, self.high, u.device)
        squashed = torch.tanh(u)
        action = low + (squashed + 1) / 2 * (high - low)
        for part in self.clip:
            action[..., part] = squashed[..., part].clamp(self.low[part], self.high[part])
        return action

    def canonical(self, action: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch A"]:
        """Turns any vector of `space` into the form that M has learned (one-hot, within bounds)."""
        if self.counts:
            return self.bound(action - 0.5 if self.kind == "multi_binary" else action)
        return action.clamp(*_bounds(self.low, self.high, action.device))

    def to_environment(self, action: np.ndarray) -> np.ndarray:
        """Turns actions a (E, A) into the environment's own (E, ...)."""
        match self.kind:
            case "box":
                low, high = (np.array(b, np.float32) for b in (self.low, self.high))
                return np.clip(action, low, high).astype(np.float32)
            case "thirds":  # Source: the paper's thirds; ViZDoom: 0 nothing, 1 right, 2 left
                a = action[:, 0]
                return np.where(a < -1 / 3, 2, np.where(a > 1 / 3, 1, 0)).astype(np.int64)
            case "discrete":
                return action.argmax(-1).astype(np.int64)
            case "multi_binary":
                return (action > 0.5).astype(np.int8)
        parts = np.split(action, np.cumsum(self.counts)[:-1], axis=-1)
        return np.stack([part.argmax(-1) for part in parts], -1).astype(np.int64)

    def from_environment(self, own: np.ndarray) -> np.ndarray:
        """Turns the environment's own actions (E, ...) into actions a (E, A)."""
        match self.kind:
            case "box" | "multi_binary":
                return own.astype(np.float32)
            case "thirds":
                return np.array([0.0, 1.0, -1.0], np.float32)[own][:, None]
        parts = own[:, None] if self.kind == "discrete" else own
        hot = [np.eye(n, dtype=np.float32)[parts[:, i]] for i, n in enumerate(self.counts)]
        return np.concatenate(hot, -1)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Actions:
        tuples = {name: tuple(data[name]) for name in ("low", "high", "clip", "counts")}
        return cls(data["kind"], **tuples)


def choices_of(actions: Float[Tensor, "*batch A"], choices: int) -> Float[Tensor, "*batch choices"]:
    """Turns actions a that are one-hot or thirds into one-hot choices (nothing, right, left)."""
    if actions.shape[-1] == choices:
        return actions
    a = actions[..., 0]
    return torch.stack([a.abs() <= 1 / 3, a > 1 / 3, a < -1 / 3], -1).to(actions.dtype)


def _bounds(
    low: tuple[float, ...], high: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    if device.type == "cuda":  # a CUDA graph cannot copy them from the CPU at each step
        return _kept_bounds(low, high, device)
    return torch.tensor(low, device=device), torch.tensor(high, device=device)


@lru_cache
@torch.inference_mode(False)
def _kept_bounds(
    low: tuple[float, ...], high: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    return torch.tensor(low, device=device), torch.tensor(high, device=device)


def _one_hot_argmax(part: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(part.argmax(-1), part.shape[-1]).to(part.dtype)


def _is_vector(space: gymnasium.Space[Any]) -> bool:
    return (
        isinstance(space, gymnasium.spaces.Box)
        and len(space.shape) == 1
        and space.shape[0] > 0
        and np.issubdtype(space.dtype, np.floating)
    )


def _is_bounded(space: gymnasium.spaces.Box) -> bool:
    """Whether bounds and their distances are finite float32 numbers."""
    with np.errstate(over="ignore"):
        low, high = np.float32(space.low), np.float32(space.high)
        return bool(np.isfinite([low, high, high - low]).all())


def _check_clip(space: gymnasium.Space[Any], clip: tuple[int, ...]) -> None:
    parts = space.shape[0] if _is_vector(space) and space.shape else 0
    if wrong := [part for part in clip if not 0 <= part < parts]:
        raise InputError(f"env.action_clip names part {wrong[0]}, but {space} has {parts} to clip")
