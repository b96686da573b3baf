"""The worlds in which controllers act: a run's dreams, and real environments kept by a process."""

from __future__ import annotations

import atexit
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorWrapper
from gymnasium.vector.utils import batch_space

from worldmodels.artifacts import Bundle, load_mdnrnn, load_starts, load_vae, load_world
from worldmodels.data.dataset import latent_source
from worldmodels.data.starts import Starts, sample_starts
from worldmodels.envs.dream import DreamConfig, DreamEnv
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.real import RealEnvs
from worldmodels.envs.senses import SensedDream, senses_of
from worldmodels.files import file_hash
from worldmodels.models.action import Actions
from worldmodels.models.controller import Controller, ControllerConfig, controller_for
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.run import Run
from worldmodels.seeding import seed_for
from worldmodels.world import World

MOST_KEPT = 3
"""Most vector environments that a process keeps: jobs of one stage differ in their lanes."""


@dataclass(frozen=True)
class ModelFiles:
    """V and M of a run or of a bundle, by the files that hold them."""

    folder: str
    kind: str
    """`run` or `bundle`."""
    hashes: tuple[str, ...]
    """Of the files: changed files are read again."""

    @classmethod
    def of_run(cls, run: Run) -> ModelFiles:
        files = run.vae / "vae.safetensors", run.mdnrnn / "mdnrnn.safetensors"
        return cls(str(run.folder.resolve()), "run", tuple(map(file_hash, files)))

    @classmethod
    def of_bundle(cls, folder: Path) -> ModelFiles:
        return cls(str(folder.resolve()), "bundle", (file_hash(folder / "weights.safetensors"),))


@lru_cache(maxsize=2)
def models_of(files: ModelFiles) -> tuple[VAE, MDNRNN]:
    """V and M, read once by each process; acting does not change them."""
    if files.kind == "bundle":
        bundle = Bundle.load(files.folder)
        return bundle.vae, bundle.mdnrnn
    run = Run(files.folder)
    return load_vae(run), load_mdnrnn(run)


class FrameEnv(VectorWrapper[Any, Any, Any, Any, Any]):
    """Real environments that take actions a, as dreams and `FeatureEnv` do."""

    def __init__(self, envs: RealEnvs) -> None:
        super().__init__(envs)
        self.envs, self.actions = envs, Actions.from_dict(envs.world.action)
        self.single_action_space = self.actions.space
        self.action_space = batch_space(self.single_action_space, envs.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        return self.envs.reset(seed=seed, options=options)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        return self.envs.step(self.actions.to_environment(actions))

    def retire(self, lanes: np.ndarray) -> None:
        """Freezes the lanes of a mask until they are reset, as if truncated."""
        self.envs.retire(lanes)


_kept: dict[tuple[str, int, bool], RealEnvs] = {}
"""By world, lanes, and whether they are official."""


@contextmanager
def real_envs(
    world: World, lanes: int, *, official: bool = False, drawing: bool = True
) -> Iterator[RealEnvs]:
    """Real environments under AutoresetMode.DISABLED, for one job.

    Making environments takes long, so a process keeps them for its next job in the same world.
    Nothing else of a job remains: all lanes are over until they are reset, and no other job has
    the environments at the same time. A job that fails closes them.

    Args:
        world: which environment.
        lanes: how many.
        official: the official environment, not its faster twin.
        drawing: False for policies that do not look: frames are then black.
    """
    key = (json.dumps(world.to_dict(), sort_keys=True), lanes, official)
    for other in [k for k in _kept if (k[0], k[2]) != (key[0], key[2])]:
        _kept.pop(other).close()
    envs = _kept.pop(key, None)
    if envs is None:
        envs = RealEnvs(world, lanes, official=official, autoreset_mode=AutoresetMode.DISABLED)
    envs.drawing = drawing
    envs.retire(np.ones(lanes, bool))
    try:
        yield envs
    except BaseException:
        envs.close()
        raise
    _kept[key] = envs
    while len(_kept) > MOST_KEPT:
        _kept.pop(next(iter(_kept))).close()


@atexit.register
def close_kept() -> None:
    """Closes the environments that this process keeps."""
    while _kept:
        _kept.popitem()[1].close()


@contextmanager
def frame_env(world: World, lanes: int, *, drawing: bool = True) -> Iterator[FrameEnv]:
    """`real_envs` that take actions a."""
    with real_envs(world, lanes, drawing=drawing) as envs:
        yield FrameEnv(envs)


@contextmanager
def feature_env(
    world: World,
    files: ModelFiles,
    controller: ControllerConfig,
    lanes: int,
    *,
    official: bool = False,
) -> Iterator[FeatureEnv]:
    """`real_envs` seen through V and M, as a controller sees them."""
    vae, mdnrnn = senses_of(controller, *models_of(files))
    with real_envs(world, lanes, official=official) as envs:
        actions = Actions.from_dict(world.action)
        yield FeatureEnv(envs, vae, mdnrnn, actions, controller.inputs)


@dataclass(frozen=True)
class Dreams:
    """A run's dreams, in any number of lanes."""

    world: World
    vae: VAE
    mdnrnn: MDNRNN
    starts: Starts
    """Where dreams begin."""
    config: DreamConfig
    controller: Controller
    """Its config says what the observations hold."""

    @classmethod
    def of_run(
        cls, run: Run, controller: ControllerConfig, config: DreamConfig, seed: int
    ) -> Dreams:
        """The dreams of a run's M.

        Args:
            run: has world.json, V and M, and latents or an unpacked bundle's starts.
            controller: C's inputs and size.
            config: of the dreams.
            seed: of the choice of start windows.

        Raises:
            InputError: V or M is missing or broken.
        """
        vae, mdnrnn = load_vae(run), load_mdnrnn(run)
        made = controller_for(controller, mdnrnn)
        return cls(load_world(run), vae, mdnrnn, _starts(run, config, seed), config, made)

    def make(
        self, num_envs: int, starts: Starts | None = None, config: DreamConfig | None = None
    ) -> DreamEnv:
        """A dream under AutoresetMode.DISABLED; `starts` and `config` replace the run's."""
        settings = self.controller.config
        shared = (
            self.mdnrnn,
            self.starts if starts is None else starts,
            self.world,
            self.config if config is None else config,
            num_envs,
        )
        inputs, mode = settings.inputs, AutoresetMode.DISABLED
        if settings.senses == "own":
            return DreamEnv(*shared, inputs=inputs, autoreset_mode=mode)
        senses, blind = senses_of(settings, self.vae, self.mdnrnn)[1], settings.senses == "blind"
        return SensedDream(*shared, inputs=inputs, autoreset_mode=mode, senses=senses, blind=blind)


def _starts(run: Run, config: DreamConfig, seed: int) -> Starts:
    """An unpacked bundle's start windows, or windows of the run's latents."""
    if run.starts.exists():
        return load_starts(run.starts)
    return sample_starts(
        latent_source(run),
        count=config.num_starts,
        window=config.warmup,
        kind=config.starts,
        seed=seed_for(seed, "starts", run.number),
    )
