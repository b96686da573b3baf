"""Make an environment: from Gymnasium's register, a module or a file, with the user's wrappers."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

import worldmodels  # noqa: F401  (registers the environments)
from worldmodels.envs.picture import SMALLEST, is_picture, picture_key
from worldmodels.envs.trust import check_trusted
from worldmodels.errors import InputError, install
from worldmodels.world import RECORDED, RENDER, EnvConfig

EXTRAS = {"vizdoom": "doom", "Box2D": "box2d", "ale_py": "atari"}
"""What installs a missing module."""
QUICKER = {"CarRacing-v3": "worldmodels.envs.fast_car_racing.official:CarRacing"}
"""Classes in place of registered ones: equal to the bit, but able to skip their drawing."""


def make_env(config: EnvConfig, *, official: bool) -> gymnasium.Env[Any, Any]:
    """One environment: the official one, or its faster version.

    Raises:
        InputError: it cannot be made, for whatever reason, or a module is not trusted.
    """
    if not config.live:
        raise InputError(
            f"env.id is {RECORDED}: this needs a live environment, and the run has only imported "
            "episodes"
        )
    name = config.id if official or config.training_id is None else config.training_id
    kwargs = dict(config.kwargs)
    if config.max_episode_steps is not None:
        kwargs["max_episode_steps"] = config.max_episode_steps
    _choose_gl()
    try:
        make = _maker(name)
        env = _wrapped(make(**kwargs), config)
        if not is_rendered(env, config) or env.render_mode == "rgb_array":
            return env
        env.close()
        kwargs |= {} if _refuses_modes(env) else {"render_mode": "rgb_array"}
        return _wrapped(make(**kwargs), config)
    except InputError:
        raise
    except Exception as error:  # constructors raise anything
        raise InputError(
            f"env.id {name} cannot be made ({reason(error)}): {_extra(error) or _cure(error)}"
        ) from error


def is_rendered(env: gymnasium.Env[Any, Any], config: EnvConfig) -> bool:
    """Whether V sees what `render()` returns, not the observation."""
    if config.screen is not None:
        return config.screen == RENDER
    space, renders = env.observation_space, "rgb_array" in (env.metadata.get("render_modes") or ())
    smallest = SMALLEST if renders else 1
    return picture_key(config, space) is None and not is_picture(space, smallest=smallest)


def _choose_gl() -> None:
    """Lets MuJoCo draw without a display: its own choice, GLFW, needs one."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("MUJOCO_GL", "egl")


def _refuses_modes(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether the constructor has no `render_mode`."""
    parameters = inspect.signature(type(env.unwrapped)).parameters.values()
    return not any(p.name == "render_mode" or p.kind == p.VAR_KEYWORD for p in parameters)


def reason(error: BaseException) -> str:
    """An exception on one line."""
    text = " ".join(str(error).split())[:200].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _maker(name: str) -> Callable[..., gymnasium.Env[Any, Any]]:
    """What makes an environment of a name: `Id`, `module:Id`, `module:Class` or `file.py:Class`."""
    check_trusted(name)
    home, _, id_ = name.rpartition(":")
    module = imported(home) if home else None
    found = getattr(module, id_, None)
    made: str | EnvSpec = EnvSpec(id=f"{id_}-v0", entry_point=found) if callable(found) else id_
    if id_ in QUICKER and not home:
        made = replace(gymnasium.spec(id_), entry_point=QUICKER[id_])
    if is_doom(id_):
        from worldmodels.envs.take_cover import make_doom

        return lambda **kwargs: make_doom(id_, **kwargs)
    return lambda **kwargs: gymnasium.make(made, disable_env_checker=True, **kwargs)


def is_doom(id_: str) -> bool:
    """Whether an environment is one of ViZDoom's, whose limit is env.kwargs.episode_timeout."""
    return id_.rpartition(":")[2].startswith("Vizdoom")


def imported(name: str, field: str = "env.id") -> Any:
    """A module by its import path or by the path of its file; the current folder is searched too.

    Raises:
        InputError: there is no such file.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    if not name.endswith(".py"):
        return importlib.import_module(name)
    file = Path(name).expanduser().resolve()
    if not file.is_file():
        raise InputError(f"{field} names the file {file}, which does not exist: check its path")
    return _imported_file(file)


@cache
def _imported_file(file: Path) -> Any:
    """The module of a file, whose folder is searched for the modules that it imports."""
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(re.sub(r"\W", "_", str(file)), file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _wrapped(env: gymnasium.Env[Any, Any], config: EnvConfig) -> gymnasium.Env[Any, Any]:
    for name in config.wrappers:
        check_trusted(name, "env.wrappers")
        home, _, wrapper = name.rpartition(":")
        found = getattr(imported(home), wrapper, None) if home else None
        if not callable(found):
            raise InputError(
                f"env.wrappers: {name} is not found: write module:Class or path/to/file.py:Class"
            )
        try:
            env = found(env)
        except Exception as error:
            raise InputError(
                f"env.wrappers: {name} fails ({reason(error)}): it is called with the environment "
                "only"
            ) from error
        if not isinstance(env, gymnasium.Env):
            raise InputError(
                f"env.wrappers: {name} returns a {type(env).__name__}: it must return an "
                "environment"
            )
    return env


def _extra(error: Exception) -> str:
    """The command that installs the missing module of an environment, if that is the error."""
    if not isinstance(error, ImportError | gymnasium.error.DependencyNotInstalled):
        return ""
    return next((install(EXTRAS[name]) for name in EXTRAS if name in str(error)), "")


def drawing_cure(error: Exception) -> str | None:
    """What helps where MuJoCo cannot draw: it fails when it is imported, made, or first drawn."""
    loaded = any(name.partition(".")[0] == "mujoco" for name in list(sys.modules))
    if not (loaded and re.search(r"\b(gl[A-Z]|E?GL|(?i:glfw|opengl|osmesa))", str(error))):
        return None
    return (
        f"MuJoCo cannot draw with MUJOCO_GL={os.environ.get('MUJOCO_GL', 'glfw')}; install libegl1 "
        "and set egl, or libosmesa6 and osmesa"
    )


def _cure(error: Exception) -> str:
    if cure := drawing_cure(error):
        return cure
    match error:
        case ModuleNotFoundError():
            return "install that module, or begin the command in its folder"
        case ImportError():
            return "install what is missing"
        case FileNotFoundError():
            return "check the paths in env.kwargs"
        case gymnasium.error.NamespaceNotFound():
            return "name the package that registers it too, as in ale_py:ALE/Pong-v5"
        case gymnasium.error.UnregisteredEnv():
            return "check env.id, or name the module that registers it, as in my_game:MyGame-v0"
        case TypeError() if "must inherit" in str(error):
            return "derive the class from gymnasium.Env"
    return "check env.id and env.kwargs"
