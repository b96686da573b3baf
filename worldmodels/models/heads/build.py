"""The agent's M: its config, and the heads that the config and the environment need.

A further head needs a subclass of `Head`, a field in the config here, and a line in `heads_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.models.heads.returns import ReturnHead
from worldmodels.models.heads.reward import CountHead, RewardHead
from worldmodels.models.heads.risk import RiskHead
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.mdnrnn import MDNRNN, Head, MDNRNNConfig
from worldmodels.ranges import NonNegativeFloat, PositiveInt
from worldmodels.world import World


@dataclass(frozen=True, kw_only=True)
class WorldMDNRNNConfig(MDNRNNConfig):
    """M's sizes and heads. Defaults: the paper's CarRacing."""

    reward_head: Literal["none", "world"] = "none"
    """`world`: predict the reward, of the kind env.reward; the paper: none."""
    termination_head: Literal["none", "world"] = "none"
    """`world`: predict the end of the episode, if env.terminates; the paper's Doom: world."""
    positive_weight: NonNegativeFloat = 10.0
    """Weight of the steps that end an episode in the termination head's loss; the released code:
    10. With 1 the predicted probabilities are calibrated."""
    risk_horizons: tuple[PositiveInt, ...] = ()
    """Numbers of steps: predict the risk of damage, or of the end, within each of them after each
    discrete action. These risks are the controller's input `r`; the paper: none."""
    return_horizons: tuple[PositiveInt, ...] = ()
    """Numbers of steps: predict the sum of the rewards of so many steps after each discrete action.
    These returns are the controller's input `r` too; the paper: none."""

    @property
    def longest_horizon(self) -> int:
        """The longest of the heads' horizons, 0 without."""
        return max((*self.risk_horizons, *self.return_horizons), default=0)

    @property
    def weighers(self) -> list[str]:
        """The heads asked for that can weigh a dream's rewards."""
        asked = {"termination": self.termination_head != "none", "risk": self.risk_horizons}
        return [name for name, wanted in asked.items() if wanted]


def heads_of(config: WorldMDNRNNConfig, world: World) -> tuple[Head, ...]:
    """The heads that the config asks for, if the environment has something to predict.

    Raises:
        InputError: risks are asked for, but the environment does not terminate or has no choices;
            or returns, but it has no choices or no rewards of its own.
    """
    env, heads = world.config, list[Head]()
    if config.reward_head == "world" and env.reward != "constant":
        limit = env.count_limit * env.action_repeat
        count = CountHead(count_limit=limit, reward_per_count=env.reward_per_count)
        heads.append(count if env.reward == "count" else RewardHead())
    if config.termination_head == "world" and env.terminates:
        heads.append(TerminationHead(positive_weight=config.positive_weight))
    if not (config.risk_horizons or config.return_horizons):
        return tuple(heads)
    choices = Actions.from_dict(world.action).choices
    if config.risk_horizons:
        if not (choices and env.terminates):
            raise InputError(
                "mdnrnn.risk_horizons needs an environment that terminates and whose actions are "
                "choices (Discrete): set it to []"
            )
        heads.append(RiskHead(choices=choices, horizons=config.risk_horizons))
    if config.return_horizons:
        if not (choices and env.reward == "real"):
            raise InputError(
                "mdnrnn.return_horizons needs an environment whose actions are choices (Discrete), "
                "and env.reward: real: set it to []"
            )
        heads.append(ReturnHead(choices=choices, horizons=config.return_horizons))
    return tuple(heads)


def mdnrnn_for(config: WorldMDNRNNConfig, world: World, latent_size: int) -> MDNRNN:
    """M with fresh weights for a world.

    Raises:
        InputError: no dream samples the mixture, or the environment lacks what a head predicts.
    """
    if config.mixture == "correlated":
        raise InputError(
            "mdnrnn.mixture is correlated, which no dream samples: use joint or per_dimension"
        )
    action_size = Actions.from_dict(world.action).size
    return MDNRNN(config, latent_size, action_size, heads_of(config, world))
