"""Agents of the paper's sizes that have learnt nothing: as fast as those that have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from worldmodels.artifacts import Bundle
from worldmodels.data.starts import WINDOW, Starts
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig, controller_for
from worldmodels.models.heads.build import WorldMDNRNNConfig, mdnrnn_for
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.vae import VAE, VAEConfig
from worldmodels.seeding import seed_for, torch_generator
from worldmodels.world import EnvConfig, RawPicture, World


@dataclass(frozen=True)
class Size:
    """One of the paper's two agents."""

    name: str
    world: World
    vae: VAEConfig
    mdnrnn: WorldMDNRNNConfig
    controller: ControllerConfig


CAR_RACING = Size(
    "CarRacing, h 256",
    World(
        EnvConfig(
            training_id="worldmodels/CarRacing-v3",
            crop=(0, 84, 0, 96),
            action_clip=(2,),
            reward="count",
            count_attribute="tile_visited_count",
            count_limit=0.6,
            reward_per_count=1000 / 300,
            reward_per_frame=-0.1,
            terminates=False,
        ),
        Actions("box", (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (2,)).to_dict(),
        50.0,
        {},
        RawPicture((96, 96, 3)),
    ),
    VAEConfig(),
    WorldMDNRNNConfig(reward_head="world"),
    ControllerConfig(),
)
TAKE_COVER = Size(
    "TakeCover, h 512",
    World(
        EnvConfig(
            id="VizdoomTakeCover-v1",
            kwargs={"doom_skill": 4, "episode_start_time": 14, "episode_timeout": 2100},
            screen="screen",
            action="thirds",
            reward="constant",
            reward_per_frame=1.0,
        ),
        Actions("thirds", (-1.0,), (1.0,)).to_dict(),
        35.0,
        {},
        RawPicture((240, 320, 3)),
    ),
    VAEConfig(latent_size=64),
    WorldMDNRNNConfig(hidden_size=512, termination_head="world", restart_input=True),
    ControllerConfig(inputs="zch", bias=False),
)
SIZES = (CAR_RACING, TAKE_COVER)


def untrained(size: Size, folder: Path, horizon: int = 1000) -> Path:
    """Writes a bundle whose dreams never end before their horizon; returns its folder."""
    actions = Actions.from_dict(size.world.action)
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(0, "untrained", size.name))
        vae = VAE(size.vae)
        mdnrnn = mdnrnn_for(size.mdnrnn, size.world, size.vae.latent_size)
    if mdnrnn.find(TerminationHead) is not None:
        mdnrnn.head.bias.data[-1] = -100.0
    generator = torch_generator(0, "untrained", size.name)
    controller = controller_for(size.controller, mdnrnn)
    parameters = 0.1 * torch.randn(controller.num_parameters, generator=generator)
    mu = torch.randn(64, WINDOW, size.vae.latent_size, generator=generator)
    starts = Starts(mu, torch.zeros(64, WINDOW, actions.size), torch.zeros(64))
    dream = {"temperature": 1.0, "horizon": horizon}
    Bundle(size.world, vae, mdnrnn, controller, parameters, starts, dream).save(folder)
    return folder
