"""The dream and reality of a bundle under Gymnasium's names, for learners of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from worldmodels.artifacts import Bundle
from worldmodels.envs.dream import inputs_of, make_dream
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.lanes import own_actions
from worldmodels.envs.real import RealEnvs
from worldmodels.errors import InputError
from worldmodels.models.action import Actions

ActionForm = Literal["controller", "world"]
"""`controller`: the controller's action a, a vector; `world`: the environment's own action, such as
the index of a choice."""
Lanes = VectorEnv[np.ndarray, np.ndarray, Any]


class OwnActions(VectorWrapper[Any, Any, Any, Any, Any]):
    """An environment that takes the environment's own actions in place of actions a."""

    def __init__(self, env: Lanes, actions: Actions) -> None:
        super().__init__(env)
        self.actions = actions
        self.single_action_space = actions.own_space
        self.action_space = batch_space(self.single_action_space, env.num_envs)

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps all lanes.

        Raises:
            InputError: the actions do not fit the action space; no lane has been stepped.
        """
        own = own_actions(actions, self.action_space)
        return self.env.step(self.actions.from_environment(own))


class Reality(FeatureEnv):
    """The official environment seen through V and M of a bundle; `render` shows its frames."""

    def __init__(self, bundle: Bundle, envs: RealEnvs, inputs: str) -> None:
        super().__init__(envs, bundle.vae, bundle.mdnrnn, bundle.actions, inputs)
        self.real, self.render_mode = envs, "rgb_array"
        self.metadata["render_modes"] = ["rgb_array"]
        self.metadata["render_fps"] = bundle.world.fps / bundle.world.config.action_repeat

    def render(self) -> tuple[np.ndarray, ...]:
        """One frame uint8 (S, S, 3) per lane."""
        return tuple(self.real.frames.copy())


def dreams(
    num_envs: int = 1,
    *,
    bundle: Bundle | str | Path,
    actions: ActionForm = "controller",
    render_mode: str | None = "rgb_array",
    **options: Any,
) -> Lanes:
    """`gymnasium.make_vec("worldmodels/Dream-v0", num_envs=, bundle=)`.

    Args:
        num_envs: lanes.
        bundle: a bundle, a shipped one's name, its folder, or a run folder.
        actions: what `step` takes.
        render_mode: only rgb_array.
        options: of `make_dream`: inputs, autoreset_mode, and the fields of `DreamConfig`.

    Raises:
        InputError: there is no such bundle, or it is broken, or an option is unknown or wrong.
    """
    del render_mode
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    return _taking(actions, make_dream(num_envs, bundle=loaded, **options), loaded)


def reality(
    num_envs: int = 1,
    *,
    bundle: Bundle | str | Path,
    actions: ActionForm = "controller",
    render_mode: str | None = "rgb_array",
    inputs: str | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
) -> Lanes:
    """`gymnasium.make_vec("worldmodels/Real-v0", num_envs=, bundle=)`.

    The bundle's official environment, with the observations of its dream. One step lasts
    action_repeat frames, and pays the sum of their rewards.

    Args:
        num_envs: lanes.
        bundle: a bundle, a shipped one's name, its folder, or a run folder.
        actions: what `step` takes.
        render_mode: only rgb_array.
        inputs: parts of the observation, as for `make_dream`.
        autoreset_mode: NEXT_STEP or DISABLED.

    Raises:
        InputError: there is no such bundle, or it is broken, or its environment cannot be made.
    """
    del render_mode
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    seen, mode = inputs_of(loaded, inputs), AutoresetMode(autoreset_mode)
    envs = RealEnvs(loaded.world, num_envs, official=True, autoreset_mode=mode)
    return _taking(actions, Reality(loaded, envs, seen), loaded)


def _taking(form: ActionForm, env: Lanes, bundle: Bundle) -> Lanes:
    if form not in get_args(ActionForm):
        env.close()
        raise InputError(f"actions is {form!r}: it must be controller or world")
    return env if form == "controller" else OwnActions(env, bundle.actions)


class Single(gymnasium.Env[np.ndarray, Any]):
    """One lane of a vector environment, as an environment."""

    # gymnasium.make looks for the modes in the class
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30.0}  # noqa: RUF012

    def __init__(self, env: Lanes, render_mode: str | None) -> None:
        self.lanes, self.render_mode = env, render_mode
        self.metadata = {**self.metadata, "render_fps": env.metadata["render_fps"]}
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        observations, infos = self.lanes.reset(seed=None if seed is None else [seed])  # type: ignore[arg-type]
        return observations[0], infos

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observations, rewards, terminated, truncated, infos = self.lanes.step(
            np.asarray(action)[None]
        )
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), infos

    def render(self) -> np.ndarray:
        pictures: Any = self.lanes.render()
        return pictures[0]

    def close(self) -> None:
        self.lanes.close()


class SingleDream(Single):
    """`gymnasium.make("worldmodels/Dream-v0", bundle=)`: the dream with one lane."""

    def __init__(self, bundle: str | Path, render_mode: str | None = None, **options: Any) -> None:
        mode = AutoresetMode.DISABLED
        super().__init__(dreams(1, bundle=bundle, autoreset_mode=mode, **options), render_mode)


class SingleReality(Single):
    """`gymnasium.make("worldmodels/Real-v0", bundle=)`: reality with one lane."""

    def __init__(self, bundle: str | Path, render_mode: str | None = None, **options: Any) -> None:
        mode = AutoresetMode.DISABLED
        super().__init__(reality(1, bundle=bundle, autoreset_mode=mode, **options), render_mode)
