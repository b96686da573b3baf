"""World models: learn an environment from its frames, evolve a controller in the dream, act.

Importing registers the environments by name and loads neither PyTorch nor an environment.
"""

import os
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import WrapperSpec

from worldmodels.errors import InputError

if TYPE_CHECKING:
    from worldmodels.acting.agent import load

__all__ = ["InputError", "__version__", "load"]
__version__ = "0.1.0"

# Read when torch loads: by default its threads wait in a busy loop, and any other program on the
# same cores then makes training ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

gymnasium.register(
    id="worldmodels/CarRacing-v3",
    entry_point="worldmodels.envs.fast_car_racing.env:CarRacing",
    max_episode_steps=1000,
    additional_wrappers=(
        WrapperSpec("Held", "worldmodels.envs.fast_car_racing.held:Held", kwargs={}),
    ),
)
gymnasium.register(
    id="worldmodels/Dream-v0",
    entry_point="worldmodels.envs.registered:SingleDream",
    vector_entry_point="worldmodels.envs.registered:dreams",
)
gymnasium.register(
    id="worldmodels/Real-v0",
    entry_point="worldmodels.envs.registered:SingleReality",
    vector_entry_point="worldmodels.envs.registered:reality",
)


def __getattr__(name: str) -> Any:
    if name == "load":
        from worldmodels.acting.agent import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
