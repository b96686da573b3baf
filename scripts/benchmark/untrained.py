"""Agents of the paper's sizes that have learned nothing: as fast as those that have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from worldmodels.artifacts import Bundle
from worldmodels.command_line import CONFIGS, read
from worldmodels.config import Config
from worldmodels.data.starts import Starts
from worldmodels.models.action import Actions
from worldmodels.models.controller import controller_for
from worldmodels.models.heads.build import mdnrnn_for
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.models.vae import VAE
from worldmodels.seeding import seed_for, torch_generator
from worldmodels.world import RawPicture, World

WINDOW = 16
"""Frames of a start window."""


@dataclass(frozen=True)
class Size:
    """One of the paper's two agents."""

    name: str
    world: World
    config: Config


def _size(name: str, file: str, actions: Actions, fps: float, *shape: int) -> Size:
    """The sizes of a shipped config, in its world, which need not be installed."""
    config = read(Config, CONFIGS / f"{file}.yaml")
    return Size(name, World(config.env, actions.to_dict(), fps, {}, RawPicture(shape)), config)


CAR_ACTIONS = Actions("box", (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (2,))
DOOM_ACTIONS = Actions("thirds", (-1.0,), (1.0,))
CAR_RACING = _size("CarRacing, h 256", "car_racing_paper", CAR_ACTIONS, 50.0, 96, 96, 3)
TAKE_COVER = _size("TakeCover, h 512", "take_cover_paper", DOOM_ACTIONS, 35.0, 240, 320, 3)
SIZES = (CAR_RACING, TAKE_COVER)


def untrained(size: Size, folder: Path, horizon: int = 1000) -> Path:
    """Writes a bundle whose dreams never end before their horizon; returns its folder."""
    actions = Actions.from_dict(size.world.action)
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(0, "untrained", size.name))
        vae = VAE(size.config.vae)
        mdnrnn = mdnrnn_for(size.config.mdnrnn, size.world, size.config.vae.latent_size)
    if mdnrnn.find(TerminationHead) is not None:
        mdnrnn.head.bias.data[-1] = -100.0
    generator = torch_generator(0, "untrained", size.name)
    controller = controller_for(size.config.controller, mdnrnn)
    parameters = 0.1 * torch.randn(controller.num_parameters, generator=generator)
    mu = torch.randn(64, WINDOW, size.config.vae.latent_size, generator=generator)
    starts = Starts(mu, torch.zeros(64, WINDOW, actions.size), torch.zeros(64))
    dream = {"temperature": 1.0, "horizon": horizon}
    Bundle(size.world, vae, mdnrnn, controller, parameters, starts, dream).save(folder)
    return folder
