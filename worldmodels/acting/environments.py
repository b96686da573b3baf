"""The environments in which controllers act: a run's dreams, and real ones kept by a process."""

from __future__ import annotations

import atexit
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorWrapper
from gymnasium.vector.utils import batch_space
from jaxtyping import Int64

from worldmodels.acting.dream_batch import DreamBatch
from worldmodels.artifacts import Bundle, load_mdnrnn, load_starts, load_vae, load_world
from worldmodels.cluster import received, send_contents, send_once
from worldmodels.data.dataset import latent_source
from worldmodels.data.starts import Starts, sample_starts
from worldmodels.device import get_device
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
LANES, FAST_LANES, OFFICIAL_LANES = 16, 32, 4
"""Most real environments of a job. Many make good batches for V and M; few leave no worker idle at
the end, and need less memory. FAST_LANES is for an env.training_id, OFFICIAL_LANES for the official
environment. They are constants, because a job's bits depend on its lanes."""
DREAM_LANES = 512
"""Most lanes of a dream's job; fewer make smaller, slower matrix products."""


@dataclass(frozen=True)
class ModelFiles:
    """V and M of a run or of a bundle, by the files that hold them; sent to workers.

    To another machine V and M go along.
    """

    folder: str = field(compare=False)
    """Equal files in other folders are the same V and M."""
    kind: str
    """`run` or `bundle`."""
    hashes: tuple[str, ...]
    """Of the files: changed files are read again."""

    @classmethod
    def of_run(cls, run: Run) -> ModelFiles:
        files = (
            run.need(run.vae / "vae.safetensors", "worldmodels train-vae"),
            run.need(run.mdnrnn / "mdnrnn.safetensors", "worldmodels train-mdnrnn"),
        )
        return cls(str(run.folder.resolve()), "run", tuple(map(file_hash, files)))

    @classmethod
    def of_bundle(cls, folder: Path) -> ModelFiles:
        return cls(str(folder.resolve()), "bundle", (file_hash(folder / "weights.safetensors"),))


@lru_cache(maxsize=4)
def models_of(files: ModelFiles) -> tuple[VAE, MDNRNN]:
    """V and M, read once by each process; acting does not change them."""
    if (sent := received(files)) is not None:
        return sent
    if files.kind == "bundle":
        bundle = Bundle.load(files.folder)
        return bundle.vae, bundle.mdnrnn
    run = Run(files.folder)
    return load_vae(run), load_mdnrnn(run)


send_contents(ModelFiles, models_of)


class FrameEnv(VectorWrapper[Any, Any, Any, Any, Any]):
    """Real environments that take actions a, as dreams and `FeatureEnv` do."""

    def __init__(self, envs: RealEnvs) -> None:
        super().__init__(envs)
        self.envs, self.actions = envs, Actions.from_dict(envs.world.action)
        self.single_action_space = self.actions.space
        self.action_space = batch_space(self.single_action_space, envs.num_envs)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        return self.env.step(self.actions.to_environment(actions))


_kept: dict[tuple[str, int, bool], RealEnvs] = {}
"""By environment, lanes, and whether they are official."""


@contextmanager
def real_envs(
    world: World, lanes: int, *, official: bool = False, drawing: bool = True
) -> Iterator[RealEnvs]:
    """Real environments under AutoresetMode.DISABLED, for one job.

    Making environments takes long, so a process keeps them for its next job in the same
    environment.
    Nothing else of a job remains: all lanes are over until they are reset, and no other job has
    the environments at the same time. A job that fails closes them.

    Args:
        world: which environment.
        lanes: how many.
        official: the official environment, not its faster version.
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
    # the last function that is registered runs first: before MuJoCo's, which ends EGL
    atexit.unregister(close_kept)
    atexit.register(close_kept)
    while len(_kept) > MOST_KEPT:
        _kept.pop(next(iter(_kept))).close()


def close_kept() -> None:
    """Closes the environments that this process keeps."""
    while _kept:
        _kept.popitem()[1].close()


@contextmanager
def frame_env(world: World, lanes: int, *, drawing: bool = True) -> Iterator[FrameEnv]:
    """`real_envs` that take actions a."""
    with real_envs(world, lanes, drawing=drawing) as envs:
        yield FrameEnv(envs)


Jobs = list[tuple[Int64[np.ndarray, " C"], Int64[np.ndarray, " E"]]]
"""Indices of the candidates of each job, and of the seed of each of its lanes. Lanes of a candidate
are neighbours."""


@dataclass(frozen=True)
class Reality:
    """The real environment seen through V and M, in any number of lanes."""

    world: World
    models: ModelFiles
    controller: Controller
    """Its config says what the observations hold."""
    official: bool = False
    """The official environment, not its faster version."""

    threads: ClassVar[bool] = False

    @classmethod
    def of_run(cls, run: Run, controller: ControllerConfig, *, official: bool = False) -> Reality:
        """The environment of a run, seen through its V and M.

        Raises:
            InputError: V or M is missing or broken.
        """
        models = ModelFiles.of_run(run)
        made = controller_for(controller, models_of(models)[1])
        return cls(load_world(run), models, made, official)

    @contextmanager
    def open(self, lanes: int) -> Iterator[FeatureEnv]:
        """An environment under AutoresetMode.DISABLED, for one job."""
        config = self.controller.config
        vae, mdnrnn = senses_of(config, *models_of(self.models))
        with real_envs(self.world, lanes, official=self.official) as envs:
            actions = Actions.from_dict(self.world.action)
            yield FeatureEnv(envs, vae, mdnrnn, actions, config.inputs)

    def split(self, candidates: int, rollouts: int) -> Jobs:
        """Jobs of one candidate and seed per lane, so that an even number of jobs is equally long.

        Lanes are sorted by seed: a worker builds each track once.
        """
        lanes = candidates * rollouts
        fast = FAST_LANES if self.world.config.training_id else LANES
        most = OFFICIAL_LANES if self.official else fast
        size = math.ceil(lanes / (2 * math.ceil(lanes / (2 * most))))
        seeds, numbers = np.divmod(np.arange(lanes), candidates)
        return [(numbers[i : i + size], seeds[i : i + size]) for i in range(0, lanes, size)]


@dataclass(frozen=True, eq=False)
class Dreams:
    """Dreams of one M, in any number of lanes."""

    world: World
    vae: VAE
    mdnrnn: MDNRNN
    starts: Starts
    """Where dreams begin."""
    config: DreamConfig
    controller: Controller
    """Its config says what the observations hold."""
    _free: dict[int, list[DreamEnv]] = field(
        default_factory=lambda: defaultdict(list), init=False, repr=False
    )
    """Environments that no job uses, by their lanes."""
    _batches: dict[tuple[int, int, int | None], DreamBatch] = field(
        default_factory=dict, init=False, repr=False
    )

    threads: ClassVar[bool] = True

    def __getstate__(self) -> dict[str, Any]:
        """Without the environments."""
        return {**vars(self), "_free": defaultdict(list), "_batches": {}}

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
        vae, mdnrnn = models_of(ModelFiles.of_run(run))
        made = controller_for(controller, mdnrnn)
        return cls(load_world(run), vae, mdnrnn, _starts(run, config, seed), config, made)

    @classmethod
    def of_bundle(cls, bundle: Bundle, config: DreamConfig) -> Dreams:
        """The dreams of a bundle's M."""
        parts = bundle.world, bundle.vae, bundle.mdnrnn, bundle.starts
        return cls(*parts, config, bundle.controller)

    @contextmanager
    def open(self, lanes: int) -> Iterator[DreamEnv]:
        """An environment under AutoresetMode.DISABLED, for one job."""
        try:
            env = self._free[lanes].pop()
        except IndexError:
            env = self.make(lanes)
        yield env
        self._free[lanes].append(env)

    @property
    def gpu(self) -> torch.device | None:
        """The CUDA GPU on which all candidates are one batch; None: jobs share them on the CPU."""
        device = get_device()
        return device if device.type == "cuda" and self.controller.config.senses == "own" else None

    def batch(
        self, candidates: int, rollouts: int, patience: int | None, gpu: torch.device
    ) -> DreamBatch:
        """The dreams of a population as one batch; the last one is kept."""
        key = candidates, rollouts, patience
        if key not in self._batches:
            self._batches.clear()
            how = self.controller, candidates, patience, gpu
            self._batches[key] = DreamBatch(self.make(rollouts), *how)
        return self._batches[key]

    def split(self, candidates: int, rollouts: int) -> Jobs:
        """Jobs of some candidates on all seeds."""
        if self.gpu is not None:
            return [(np.arange(candidates), np.tile(np.arange(rollouts), candidates))]
        jobs = max(2, math.ceil(candidates * rollouts / DREAM_LANES))
        parts = np.array_split(np.arange(candidates), min(jobs, candidates))
        return [(part, np.tile(np.arange(rollouts), len(part))) for part in parts]

    def make(
        self, num_envs: int, starts: Starts | None = None, config: DreamConfig | None = None
    ) -> DreamEnv:
        """A dream under AutoresetMode.DISABLED; `starts` and `config` replace its own."""
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


for kind in (Dreams, VAE, MDNRNN):
    send_once(kind)


def _starts(run: Run, config: DreamConfig, seed: int) -> Starts:
    """An unpacked bundle's start windows, or windows of the run's latents."""
    if run.starts.exists():
        return load_starts(run.starts)
    return sample_starts(
        latent_source(run),
        window=config.warmup,
        kind=config.starts,
        seed=seed_for(seed, "starts", run.number),
    )
