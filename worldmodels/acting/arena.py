"""The worlds in which a run's controllers are measured: its dream, and reality twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gymnasium.vector import AutoresetMode

from worldmodels.acting.evaluate import DreamEvaluation, Evaluate, ModelFiles, RealEvaluation
from worldmodels.artifacts import load_mdnrnn, load_starts, load_vae, load_world
from worldmodels.data.dataset import latent_source
from worldmodels.data.starts import Starts, sample_starts
from worldmodels.envs.dream import DreamConfig, DreamEnv, SensedDream
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig, controller_for
from worldmodels.models.senses import senses_of
from worldmodels.run import Run
from worldmodels.seeding import seed_for
from worldmodels.workers import WorkersConfig
from worldmodels.world import World

NEW_SHARE = 0.5
"""Share of dreams that begin in the newest round's data, where there is older data."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Steps after which episodes end early; none: they don't."""

    validation: int | None = None
    """All of a validation episode."""
    patience: int | None = None
    """Those of a training episode, in the dream or in reality, without a new best return."""


@dataclass(frozen=True)
class Evaluations:
    """What evolution measures candidates with."""

    world: World
    make_dream: Callable[..., DreamEnv]
    """(num_envs, starts, settings) -> a dream; starts and settings are the run's by default."""
    dream: Evaluate
    real: Evaluate
    """For training episodes in the real world."""
    validation: Evaluate
    num_parameters: int
    """Of the controller."""


def evaluations_of(
    run: Run,
    controller: ControllerConfig,
    dream: DreamConfig,
    workers: WorkersConfig,
    limits: Limits,
    seed: int,
) -> Evaluations:
    """The arena of a run's V and M.

    Args:
        run: has world.json, V and M, and latents or an unpacked bundle's starts.
        controller: C's inputs and size.
        dream: how M is dreamt.
        workers: where real episodes run.
        limits: when episodes end early.
        seed: of the choice of start windows.

    Raises:
        InputError: V or M is missing or broken.
    """
    world = load_world(run)
    vae = load_vae(run.need(run.vae / "vae.safetensors", "worldmodels train-vae"))
    mdnrnn = load_mdnrnn(run.need(run.mdnrnn / "mdnrnn.safetensors", "worldmodels train-mdnrnn"))
    made = controller_for(controller, mdnrnn)
    actions = Actions.from_dict(world.action)
    windows = _starts(run, dream, seed)

    def make_dream(
        num_envs: int, starts: Starts = windows, settings: DreamConfig = dream
    ) -> DreamEnv:
        fixed = mdnrnn, starts, actions, world.config, settings, num_envs
        options: dict[str, Any] = {
            "inputs": controller.inputs,
            "autoreset_mode": AutoresetMode.DISABLED,
        }
        if controller.senses == "own":
            return DreamEnv(*fixed, **options)
        blind = controller.senses == "blind"
        return SensedDream(
            *fixed, senses=senses_of(controller, vae, mdnrnn)[1], blind=blind, **options
        )

    senses = ModelFiles.of_run(run)
    real, validation = (
        RealEvaluation(
            world, senses, made, workers, official=False, max_steps=steps, patience=patience
        )
        for steps, patience in ((None, limits.patience), (limits.validation, None))
    )
    dreamt = DreamEvaluation(make_dream, made, workers, limits.patience)
    return Evaluations(world, make_dream, dreamt, real, validation, made.num_parameters)


def _starts(run: Run, dream: DreamConfig, seed: int) -> Starts:
    """Where dreams begin: an unpacked bundle's windows, or windows of the latents."""
    if run.starts.exists():
        return load_starts(run.starts)
    return sample_starts(
        latent_source(run, NEW_SHARE),
        count=dream.num_starts,
        window=dream.window,
        kind=dream.starts,
        seed=seed_for(seed, "starts", run.number),
    )
