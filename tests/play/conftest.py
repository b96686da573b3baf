"""A world that ends soon."""

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from worldmodels.models.action import Actions
from worldmodels.world import EnvConfig, RawPicture, World


class Dark(CartPoleEnv):
    """Falls within some ten steps, and shows no picture of the end, like ViZDoom."""

    def render(self):
        picture = super().render()
        return picture if self.steps_beyond_terminated is None else np.zeros_like(picture)


if "tests/Dark-v0" not in gymnasium.registry:
    gymnasium.register("tests/Dark-v0", Dark)


@pytest.fixture
def dark_bundle(make_bundle):
    """The folder of a tiny untrained bundle of it; it draws with pygame, as the window does."""
    config = EnvConfig(id="tests/Dark-v0", reward="constant", reward_per_frame=1.0)
    actions = Actions("discrete", counts=(2,)).to_dict()
    return make_bundle(World(config, actions, 50.0, {}, RawPicture((400, 600, 3), rendered=True)))
