"""The experiment: all sections of its config, each from the module that it configures."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Annotated, Any, TypeVar

from worldmodels.command_line import check_own, keep, parse, read, validated
from worldmodels.device import Device, set_device
from worldmodels.envs.dream import DreamConfig
from worldmodels.envs.preflight import preflight
from worldmodels.envs.trust import module_of, trust
from worldmodels.errors import InputError
from worldmodels.models.controller import ControllerConfig
from worldmodels.models.heads.build import WorldMDNRNNConfig
from worldmodels.models.vae import VAEConfig
from worldmodels.precision import Precision, set_precision
from worldmodels.ranges import Range, Seed
from worldmodels.run import Run, say
from worldmodels.stages.cmaes import CMAConfig
from worldmodels.stages.collect import CollectConfig
from worldmodels.stages.evaluate import EvaluateConfig
from worldmodels.stages.evolve import EvolveConfig
from worldmodels.stages.select_round import SelectConfig
from worldmodels.stages.train_mdnrnn import TrainMDNRNNConfig
from worldmodels.stages.train_vae import TrainVAEConfig
from worldmodels.stages.watch import WatchConfig
from worldmodels.workers import WorkersConfig
from worldmodels.world import RECORDED, EnvConfig

MAX_ROUNDS = 100

C = TypeVar("C", bound="Config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All sections of an experiment."""

    seed: Seed = 0
    """The random seed of everything."""
    rounds: Annotated[int, Range(1, MAX_ROUNDS)] = 1
    """Rounds of collecting, training and evolution; the best one is kept. The paper: section 5."""
    precision: Precision = "auto"
    """Number type of the operands of large matrix products. auto: bfloat16 if the processor, or the
    CUDA GPU, supports it natively, otherwise float32."""
    device: Device = "auto"
    """Trains V and M, encodes frames and dreams. auto: a CUDA GPU if there is one, otherwise the
    CPU. mps, the GPU of an Apple chip, only trains and encodes. A run may continue on another
    device."""
    later: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Fields that change from a round (counted from 0) on: {1: {train_vae: {steps: 200}}}."""
    env: EnvConfig = dataclasses.field(default_factory=EnvConfig)
    collect: CollectConfig = dataclasses.field(default_factory=CollectConfig)
    vae: VAEConfig = dataclasses.field(default_factory=VAEConfig)
    train_vae: TrainVAEConfig = dataclasses.field(default_factory=TrainVAEConfig)
    mdnrnn: WorldMDNRNNConfig = dataclasses.field(default_factory=WorldMDNRNNConfig)
    train_mdnrnn: TrainMDNRNNConfig = dataclasses.field(default_factory=TrainMDNRNNConfig)
    controller: ControllerConfig = dataclasses.field(default_factory=ControllerConfig)
    dream: DreamConfig = dataclasses.field(default_factory=DreamConfig)
    cma: CMAConfig = dataclasses.field(default_factory=CMAConfig)
    evolve: EvolveConfig = dataclasses.field(default_factory=EvolveConfig)
    select: SelectConfig = dataclasses.field(default_factory=SelectConfig)
    evaluate: EvaluateConfig = dataclasses.field(default_factory=EvaluateConfig)
    watch: WatchConfig = dataclasses.field(default_factory=WatchConfig)
    workers: WorkersConfig = dataclasses.field(default_factory=WorkersConfig)

    def __post_init__(self) -> None:
        if self.rounds > 1 and not self.evolve.validation_episodes:
            raise InputError(
                "evolve.validation_episodes is 0, but validation selects the best round: set it"
            )
        if not self.env.live and (self.rounds > 1 or self.evolve.real_generations):
            raise InputError(
                f"env.id is {RECORDED}: nothing new can be played; set rounds to 1 and "
                "evolve.real_generations to 0"
            )
        longest, length = self.mdnrnn.longest_horizon, self.train_mdnrnn.sequence_length
        if length <= longest:
            raise InputError(
                f"train_mdnrnn.sequence_length is {length}: make it longer than the longest of "
                f"mdnrnn.risk_horizons and mdnrnn.return_horizons, {longest}"
            )
        if "r" in self.controller.inputs and not longest:
            raise InputError(
                f"controller.inputs is {self.controller.inputs}: r needs mdnrnn.risk_horizons or "
                "mdnrnn.return_horizons"
            )
        if self.mdnrnn.return_horizons and self.env.reward != "real":
            raise InputError(
                f"env.reward is {self.env.reward}, but mdnrnn.return_horizons needs real rewards: "
                "set mdnrnn.return_horizons to []"
            )
        if self.dream.weight not in ("none", *self.mdnrnn.weighers):
            raise InputError(
                f"dream.weight is {self.dream.weight}: it must be none, termination (needs "
                "mdnrnn.termination_head) or risk (needs mdnrnn.risk_horizons)"
            )
        if self.later and min(self.later) < 1:
            raise InputError(f"later.{min(self.later)}: rounds are counted from 0; use 1 or more")
        self.of_round(max(self.later, default=0))  # mistakes are found before the first round

    def of_round(self: C, index: int) -> C:
        """The config of a round, counted from 0: `later` is applied as far as that round.

        Raises:
            InputError: names the field of `later` that is wrong.
        """
        config = dataclasses.replace(self, later={}) if index and self.later else self
        for first in sorted(first for first in self.later if first <= index):
            if fixed := sorted(set(self.later[first]) - set(LATER)):
                raise InputError(
                    f"later.{first}.{fixed[0]} cannot change: give sections with their fields, as "
                    f"{{train_vae: {{steps: 200}}}}; those of {', '.join(LATER)} can change"
                )
            try:
                config = validated(type(self), self.later[first], config)
            except InputError as error:
                raise InputError(f"later.{first}.{error}") from error
        return config


LATER = ("collect", "train_vae", "train_mdnrnn", "dream", "cma", "evolve")
"""Sections that later rounds may change; environments, networks and seeds stay."""


FREE = ("precision", "device", "workers", "evaluate", "watch")
"""What may differ between commands: only their own result depends on them."""


def begin(
    description: str,
    argv: Sequence[str],
    show: Collection[str] | None = None,
    first: bool = False,
) -> tuple[Config, Run]:
    """A command's config and run; the config is kept in the run, or must agree with it.

    Args:
        description, argv, show: as for `parse`.
        first: whether the command may begin a run.

    Raises:
        InputError: for a mistake in the file or on the command line, another config's run, or none;
            or a precision or device that this machine does not have.
    """
    config, run = parse(Config, description, argv, show, home="runs/default")
    set_precision(config.precision)
    set_device(config.device)
    if any(word.partition("=")[0] == "--config" for word in argv):  # a file that the user names
        rounds = (config.of_round(index) for index in (0, *config.later))
        policies = (one.collect.explore.policy for one in rounds)
        named = config.env.id, config.env.training_id, *config.env.wrappers, *policies
        trust(*(module_of(id_) for id_ in named if id_))
    if not first:
        run.need(run.config_file, "worldmodels collect")
    begun = run.world_file.exists() or run.round(0).world_file.exists()
    if first and not begun:
        check_own(run)
        if config.env.live and config.collect == CollectConfig():
            say("the sizes are the paper's, days of work: `--config quick` takes about an hour")
        if config.env.live:
            # a folder is claimed only for an environment that can be made
            preflight(config.env, config.workers)
    free = (*FREE, "rounds", "later") if _extends(config, run) else FREE
    # an earlier command may have stopped before it made anything
    keep(config, run, free, replace=first and not begun)
    return config.of_round(run.number), run


def _extends(config: Config, run: Run) -> bool:
    """Whether the config may have more rounds than the run: those begun stay as they are."""
    begun = sum(run.round(index).world_file.exists() for index in range(MAX_ROUNDS))
    if not (begun and run.config_file.exists() and config.rounds >= begun):
        return False
    old = read(Config, run.config_file)
    return all(_changed(old, index) == _changed(config, index) for index in range(begun))


def _changed(config: Config, index: int) -> list[Any]:
    """What a round's config has in the sections that rounds may change."""
    return [getattr(config.of_round(index), section) for section in LATER]
