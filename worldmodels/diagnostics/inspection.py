"""A run under inspection: what is read, and what each part of the inspection measures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64

from worldmodels.acting.arena import Evaluations, Limits, evaluations_of
from worldmodels.acting.evaluate import ModelFiles
from worldmodels.acting.policies import ExploreConfig
from worldmodels.artifacts import (
    SavedController,
    check_dreams,
    load_controller,
    load_mdnrnn,
    load_vae,
    load_world,
)
from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import ENCODE, LatentEpisode, episode_files, numbers_of
from worldmodels.data.starts import sample_moments
from worldmodels.diagnostics.calibration import calibration, unweighted
from worldmodels.diagnostics.likelihood import Predicted, nll_by_horizon, predict, sample_windows
from worldmodels.diagnostics.policies import Driving, Exploring, policies_of
from worldmodels.diagnostics.ranking import rank_correlation
from worldmodels.diagnostics.reality import find_seeds, frames_file
from worldmodels.diagnostics.reconstruction import measure_reconstruction
from worldmodels.diagnostics.returns import Candidate, Ledger, load_candidates
from worldmodels.diagnostics.uniformity import uniformity
from worldmodels.diagnostics.worlds import Worlds, compare_policies, compare_recorded
from worldmodels.envs.dream import DreamConfig
from worldmodels.errors import InputError, check_above_zero, check_at_least
from worldmodels.models.controller import ControllerConfig, controller_for
from worldmodels.run import Run, say
from worldmodels.seeding import environment_seeds, seed_for, torch_generator
from worldmodels.workers import WorkersConfig

Part = Literal[
    "reconstruction", "likelihood", "termination", "pit", "survival", "recorded", "ranking"
]


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """How closely the dream is looked at."""

    parts: tuple[Part, ...] = get_args(Part)
    """What is measured; what an earlier inspection of the same V and M found of the rest stays."""
    episodes: int = 200
    """Last episodes of the newest round: V and M are measured on them, policies start there."""
    windows: int = 500
    """Windows of them from which z is predicted."""
    horizons: tuple[int, ...] = (1, 5, 15, 50)
    """Steps ahead."""
    samples: int = 16
    """Dreams of each window, whose mixtures are averaged."""
    temperature: float = 1.0
    """Of the dreams in which fixed policies are followed; only at 1 M speaks for itself."""
    horizon: int | None = None
    """Steps for which they are followed, in both worlds; none: dream.horizon."""
    starts: int = 100
    """Moments from which each policy is followed in both worlds."""
    dreams: int = 4
    """Dreams from each."""
    recorded_starts: int = 1000
    """Moments from which the collecting policy goes on in the dream, beside what was recorded."""
    tolerance: float = 0.15
    """Sanity: its mean survival in the dream is that of the record, within this share."""
    return_tolerance: float = 0.5
    """Sanity, where M predicts no end: its mean return is, within so many deviations."""
    real_episodes: int = 100
    """Validation episodes on which each controller of RUN/controllers is measured."""
    first_episode: int = 1000
    """The first of them; evolution uses those from 0 on."""
    dream_episodes: int = 256
    """Dreams in which it is measured, as it was evolved."""
    fireball_episodes: int = 40
    """Validation episodes of the collecting policy in which V's recall of Doom's fireballs is
    measured; they too begin with `first_episode`."""

    def __post_init__(self) -> None:
        counts = "episodes", "windows", "samples", "starts", "dreams", "recorded_starts", "horizon"
        check_at_least("inspect", self, 1, *counts, "fireball_episodes")
        check_at_least("inspect", self, 2, "real_episodes", "dream_episodes")
        check_at_least("inspect", self, 0, "first_episode")
        check_above_zero("inspect", self, "temperature", "tolerance", "return_tolerance")
        if not self.horizons or min(self.horizons) < 1:
            raise InputError(f"inspect.horizons is {self.horizons}: steps of at least 1 are needed")


@dataclass(frozen=True, kw_only=True)
class Made:
    """What an inspection must know of how the run was made."""

    seed: int
    explore: ExploreConfig
    """The policy that collected, in the first round all and later some of the episodes."""
    min_steps: int
    max_steps: int
    """Of a recorded episode; shorter ones were played anew, longer ones cut."""
    latent_noise: float
    """Of the z that M was trained on."""
    positive_weight: float
    """Of the steps that end an episode, in training."""
    controller: ControllerConfig
    dream: DreamConfig
    validation_max_steps: int | None


class Inspection:
    """A run under inspection; what several parts need is read or computed once."""

    def __init__(self, run: Run, made: Made, config: InspectConfig, workers: WorkersConfig) -> None:
        check_dreams(run)
        weights = run.need(run.mdnrnn / "mdnrnn.safetensors", "scripts/train_mdnrnn.py")
        self.run, self.made, self.config, self.workers = run, made, config, workers
        self.world, self.senses = load_world(run), ModelFiles.of_run(run)
        self.mdnrnn = load_mdnrnn(weights)
        self.seed = seed_for(made.seed, "inspect", run.number)
        self.folder = run.folder / "inspection"

    def measured(self, part: Part) -> Any:
        """What a part finds, as inspection.json holds it; none: it can't be measured here."""
        return getattr(self, part)()

    @cached_property
    def files(self) -> list[Path]:
        """Latents; an unpacked bundle has none."""
        return episode_files(self.run.latents, command=ENCODE)

    @cached_property
    def last_files(self) -> list[Path]:
        """The last latents of the newest round: none was held out, but no later V or C saw them."""
        return self._of_round(self.files[-1])[-self.config.episodes :]

    def _of_round(self, file: Path) -> list[Path]:
        return [path for path in self.files if numbers_of(path)[0] == numbers_of(file)[0]]

    @cached_property
    def episodes(self) -> list[LatentEpisode]:
        return [LatentEpisode.load(path) for path in self.last_files]

    @cached_property
    def predicted(self) -> Predicted:
        generator = torch_generator(self.seed, "predicted")
        return predict(self.mdnrnn, self.episodes, self.made.latent_noise, generator)

    @cached_property
    def saved(self) -> SavedController | None:
        made = self.run.controller / "controller.safetensors"
        return load_controller(self.run) if made.exists() else None

    @cached_property
    def evaluations(self) -> Evaluations:
        """As in evolution."""
        limits = Limits(validation=self.made.validation_max_steps)
        settings = self.made.controller, self.made.dream
        return evaluations_of(self.run, *settings, self.workers, limits, self.made.seed)

    @cached_property
    def worlds(self) -> Worlds:
        dream = replace(
            self.made.dream.unweighted,
            temperature=self.config.temperature,
            horizon=self.config.horizon or self.made.dream.horizon,
        )
        ends = self.mdnrnn.heads.termination
        return Worlds(self.evaluations, self.senses, dream, ends, self.workers, self.seed)

    def reconstruction(self) -> dict[str, Any] | None:
        """V's; writes a picture too."""
        found = [frames_file(self.run, path.name) for path in self.last_files]
        if not (files := [path for path in found if path is not None]):
            say("no recorded frames are left: V's reconstruction is not measured")
            return None
        vae = load_vae(self.run.vae / "vae.safetensors")
        first, count = self.config.first_episode, self.config.fireball_episodes
        seeds = environment_seeds("validation", first, count)
        fixed = self.made.explore, seeds, self.workers, self.folder
        return measure_reconstruction(vae, self.world, files, *fixed)

    def likelihood(self) -> list[dict[str, Any]]:
        warmup, horizons = self.made.dream.window, sorted(set(self.config.horizons))
        spans = {"count": self.config.windows, "warmup": warmup, "horizon": horizons[-1]}
        rows = nll_by_horizon(
            self.mdnrnn,
            sample_windows(self.episodes, seed=self.seed, **spans),
            warmup=warmup,
            horizons=horizons,
            samples=self.config.samples,
            latent_noise=self.made.latent_noise,
            generator=torch_generator(self.seed, "likelihood"),
        )
        return [asdict(row) for row in rows]

    def termination(self) -> dict[str, Any] | None:
        p, ended, weight = self.predicted.end, self.predicted.ended, self.made.positive_weight
        if p is None:
            return None
        raw, corrected = calibration(p, ended), calibration(unweighted(p, weight), ended)
        return {"positive_weight": weight, "raw": asdict(raw), "corrected": asdict(corrected)}

    def pit(self) -> dict[str, Any]:
        return asdict(uniformity(self.predicted.pit))

    def survival(self) -> dict[str, Any] | None:
        count, window = self.config.starts, self.made.dream.window
        moments = sample_moments(
            EpisodeSource(self.last_files), count=count, window=window, seed=self.seed
        )
        frames = [frames_file(self.run, moment.file.name) for moment in moments]
        there = [path for path in frames if path is not None]
        seeds = iter(find_seeds(self.world, there, self.made.seed, self.workers))
        found = [(m, next(seeds)) for m, path in zip(moments, frames, strict=True) if path]
        kept = [(moment, seed) for moment, seed in found if seed is not None]
        if not kept:
            say("no recorded moment could be replayed in reality: policies are not compared")
            return None
        policies = policies_of(self.world.config, self.made.explore, self._driving())
        rows = compare_policies(self.worlds, policies, kept, self.config.dreams)
        return self._about(len(kept), count - len(kept)) | {"policies": rows}

    def recorded(self) -> dict[str, Any] | None:
        if self.made.explore.policy == "random_network":
            say("random networks collected, which look at frames: the record is not compared")
            return None
        count, window = self.config.recorded_starts, self.made.dream.window
        # of the first round: controllers drive most of the later ones
        first = self._of_round(self.files[0])
        spans = {"count": count, "window": window, "first": self.made.min_steps}
        moments = sample_moments(EpisodeSource(first), seed=self.seed, **spans)
        if not moments:
            say("no recorded episode is long enough: the record is not compared")
            return None
        policy = Exploring("explorer", self.made.explore)
        row = compare_recorded(self.worlds, policy, moments, self.made.max_steps)
        return self._about(len(moments), count - len(moments)) | row

    def _about(self, starts: int, left_out: int) -> dict[str, Any]:
        worlds = self.worlds
        conditions = {"kind": worlds.kind, "horizon": worlds.dream.horizon}
        conditions |= {"temperature": worlds.dream.temperature, "starts": starts}
        return conditions | {"left_out": left_out}

    def _driving(self) -> Driving | None:
        if self.saved is None:
            return None
        controller = controller_for(self.saved.config, self.mdnrnn)
        return Driving("controller", controller, self.saved.parameters["best"].double().numpy())

    def ranking(self) -> dict[str, Any] | None:
        """Of the controllers that evolution left in RUN/controllers, if it did."""
        candidates = load_candidates(
            self.run.folder / "controllers", self.evaluations.num_parameters
        )
        if len(candidates) < 2:
            return None
        dream, real = self._dream_returns(candidates), self._real_returns(candidates)
        rows = [
            {"file": one.file, "generation": one.generation, **_means(dreamt, lived)}
            for one, dreamt, lived in zip(candidates, dream, real, strict=True)
        ]
        return asdict(rank_correlation(dream, real, self.seed)) | {"candidates": rows}

    def _dream_returns(self, candidates: list[Candidate]) -> Float64[np.ndarray, "C D"]:
        base, count = seed_for(self.seed, "dreams") % 2**40, self.config.dream_episodes
        about = {"dream": asdict(self.made.dream), "seeds": [base, count]}
        ledger = self._ledger("dream", about)
        seeds = [base + r for r in range(count)]
        return ledger.measure(candidates, self.evaluations.dream, seeds, "dream")

    def _real_returns(self, candidates: list[Candidate]) -> Float64[np.ndarray, "C E"]:
        first, count = self.config.first_episode, self.config.real_episodes
        ledger = self._ledger(
            "real", {"max_steps": self.made.validation_max_steps, "seeds": [first, count]}
        )
        seeds = environment_seeds("validation", first, count)
        return ledger.measure(candidates, self.evaluations.validation, seeds, "reality")

    def _ledger(self, world: str, about: dict[str, Any]) -> Ledger:
        models = {"hashes": list(self.senses.hashes), "controller": asdict(self.made.controller)}
        return Ledger(self.folder / f"ranking_{world}.json", models | about)


def _means(dream: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """A controller's means and their standard errors."""
    both = {"dream": dream, "real": real}
    errors = {f"{name}_error": v.std(ddof=1) / len(v) ** 0.5 for name, v in both.items()}
    return {name: float(values.mean()) for name, values in both.items()} | errors
