"""Evolve C: in the dream, in the real world, or in one after the other; kept by real validation."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from worldmodels.acting.arena import Evaluations, Limits, evaluations_of
from worldmodels.acting.evaluate import Returns
from worldmodels.acting.replay import check_dream
from worldmodels.acting.selection import choose, halving, measured_means, merits
from worldmodels.artifacts import check_dreams, check_evolved_in, load_controller
from worldmodels.data.dataset import latent_source
from worldmodels.envs.dream import DreamConfig
from worldmodels.errors import InputError, check_above_zero, check_at_least, check_share
from worldmodels.files import file_hash, replacing, save_tensors
from worldmodels.models.controller import ControllerConfig
from worldmodels.run import Metrics, Run, progress, say
from worldmodels.seeding import SPLIT_SIZE, environment_seeds, numpy_generator, seed_for
from worldmodels.stages.cmaes import CMAES, CMAConfig, load_state
from worldmodels.workers import WorkersConfig


@dataclass(frozen=True, kw_only=True)
class EvolveConfig:
    """Where and how long C is evolved, and how it is chosen."""

    generations: int = 1800
    """Generations in the dream; 0: none."""
    later_generations: int | None = None
    """Generations in the dream of later rounds; none: as many."""
    later_rounds: Literal["fresh", "warm"] = "fresh"
    """`fresh`: later rounds start from zeros; `warm`: from the best controller so far."""
    later_sigma0: float | None = None
    """First standard deviation of later rounds; none: cma.sigma0. Small keeps C near the driving
    that M has just seen."""
    real_generations: int = 0
    """Generations in the real world afterwards, from the dream's mean; the paper's CarRacing:
    1800 and none in the dream."""
    real_sigma0: float = 0.05
    """First standard deviation there, if a dream came before; else cma.sigma0."""
    dream_max_steps: int | None = None
    """Steps of a training dream; none: to dream.horizon. Long dreams stray from what C will see."""
    real_max_steps: int | None = None
    """Steps of a training episode in the real world; none: to its end."""
    rollouts_per_candidate: int = 16
    """Episodes per candidate and generation; the paper: 16."""
    screening_rollouts: int = 0
    """Only the better half of the candidates, by their first so many episodes, plays the rest of
    them; 0: everyone plays all."""
    patience: int | None = None
    """Training episodes end after so many steps without a new best of their return, 0 at first;
    none: never. Validation is never cut so."""
    validate_every: int = 25
    """Generations between real validations of the distribution's mean; the paper: 25."""
    validate_at: tuple[int, ...] = ()
    """Further generations after which it is validated."""
    validation_episodes: int = 16
    """Real episodes of each validation, always the same; 0: none, and the last mean is kept."""
    validation_max_steps: int | None = None
    """Steps of a validation episode; none: to its end."""
    finalists: int = 3
    """The best of the validated are measured again..."""
    final_episodes: int = 32
    """...on so many other validation episodes."""
    starts_new_share: float = 0.5
    """Share of dreams that start in the newest round's data, where there is older."""
    checkpoint_every: int = 5
    """Generations after which evolution can go on after a kill."""
    replay_tolerance: float = 0.5
    """Sanity: recorded actions replayed in the dream return what they did in reality, within so
    many standard deviations of the recorded returns."""

    def __post_init__(self) -> None:
        counts = "rollouts_per_candidate", "validate_every", "validate_at", "finalists"
        steps = "dream_max_steps", "real_max_steps", "validation_max_steps", "patience"
        zeros = "generations", "later_generations", "real_generations", "final_episodes"
        check_at_least("evolve", self, 1, *counts, *steps, "checkpoint_every")
        check_at_least("evolve", self, 0, *zeros, "screening_rollouts", "validation_episodes")
        if self.screening_rollouts >= self.rollouts_per_candidate:
            raise InputError(
                f"evolve.screening_rollouts is {self.screening_rollouts}: it must be below "
                f"evolve.rollouts_per_candidate, {self.rollouts_per_candidate}"
            )
        check_above_zero("evolve", self, "later_sigma0", "real_sigma0", "replay_tolerance")
        check_share("evolve", self, "starts_new_share")


@dataclass
class Progress:
    """Where evolution stands: all that the next generation depends on."""

    mdnrnn: str
    """Hash of the M that is dreamt."""
    generation: int = 0
    cma: bytes = b""
    validated: list[tuple[int, np.ndarray, list[float]]] = field(default_factory=list)
    """(generation, mean, returns) of each validation."""
    real_steps: dict[str, int] = field(default_factory=lambda: {"validate": 0, "evolve": 0})
    """Steps taken in the real world."""


@dataclass(frozen=True)
class Setting:
    """What evolution is given."""

    run: Run
    evaluations: Evaluations
    metrics: Metrics
    config: EvolveConfig
    cma: CMAConfig
    seed: int

    @property
    def dream_generations(self) -> int:
        later = self.config.later_generations
        return later if self.run.earlier and later is not None else self.config.generations


def evolve(
    run: Run,
    controller: ControllerConfig,
    dream: DreamConfig,
    cma: CMAConfig,
    config: EvolveConfig,
    workers: WorkersConfig,
    seed: int,
    start: Run | None = None,
) -> None:
    """Evolves C, or goes on with it; writes controller/controller.safetensors.

    Args:
        run: has world.json, V, M, and latents or an unpacked bundle's starts.
        controller: C's inputs and size.
        dream: how M is dreamt.
        cma: the evolution strategy.
        config: generations, episodes, validation.
        workers: where real episodes run.
        seed: of everything drawn.
        start: a run from whose controller evolution starts (rounds with later_rounds: warm).

    Raises:
        InputError: V, M or latents are missing or don't belong together.
    """
    result = run.controller / "controller.safetensors"
    if result.exists():
        load_controller(run)
        say(f"{result} is there already")
        return
    with Metrics(run, "evolve") as metrics:
        check_dreams(run)
        limits = Limits(
            training=config.real_max_steps,
            validation=config.validation_max_steps,
            patience=config.patience,
        )
        horizon = min(dream.horizon, config.dream_max_steps or dream.horizon)
        dream = replace(dream, horizon=horizon)
        evaluations = evaluations_of(
            run, controller, dream, config.starts_new_share, workers, limits, seed
        )
        setting = Setting(run, evaluations, metrics, config, cma, seed)
        if setting.dream_generations and not run.starts.exists():
            source, tolerance = latent_source(run, config.starts_new_share), config.replay_tolerance
            check_dream(
                evaluations.make_dream, dream, source, evaluations.world, metrics, tolerance, seed
            )
        state = _restore(setting, start)
        _run(setting, state)
        parameters, score = _choose(setting, state)
        about = {
            "controller": asdict(controller),
            "mdnrnn": state.mdnrnn,
            "validation": score,
            "real_steps": state.real_steps,
        }
        metadata = {name: json.dumps(value, sort_keys=True) for name, value in about.items()}
        last = CMAES.from_bytes(state.cma).mean
        kept = {"best": parameters, "last": last}
        save_tensors(result, {k: torch.from_numpy(v).float() for k, v in kept.items()}, metadata)
    merit = f"{score:.1f} on real validation episodes" if np.isfinite(score) else "the last mean"
    say(f"C is {result}: {merit}")


def _restore(setting: Setting, start: Run | None) -> Progress:
    path = setting.run.controller / "state.pkl"
    if path.exists():
        state = load_state(path, Progress)
        check_evolved_in(setting.run, state.mdnrnn, path)
        return state
    mean = np.zeros(setting.evaluations.num_parameters)
    if start is not None:
        mean = load_controller(start).parameters["best"].double().numpy()
    sigma0 = setting.config.later_sigma0 if setting.run.earlier else None
    cma = replace(setting.cma, sigma0=sigma0 or setting.cma.sigma0)
    es = CMAES(cma, mean, seed_for(setting.seed, "evolve", setting.run.number))
    return Progress(file_hash(setting.run.mdnrnn / "mdnrnn.safetensors"), cma=es.to_bytes())


def _run(setting: Setting, state: Progress) -> None:
    """All generations that are left, dream first."""
    config, dreamt = setting.config, setting.dream_generations
    total = dreamt + config.real_generations
    es = CMAES.from_bytes(state.cma)
    bar = progress(range(state.generation, total), "evolve", initial=state.generation, total=total)
    for generation in bar:
        if generation == dreamt and dreamt > 0:
            es = _awake(setting, es)
        returns, steps = _measure(setting, es.ask(), generation)
        es.tell(merits(returns))
        state.real_steps["evolve"] += steps if generation >= dreamt else 0
        _log(setting, es, generation, returns, steps)
        done = generation + 1
        if done % config.validate_every == 0 or done in (*config.validate_at, total):
            score = _validate(setting, state, es, done)
            bar.set_postfix(dream=f"{measured_means(returns).mean():.1f}", real=f"{score:.1f}")
        if done % config.checkpoint_every == 0 or done == total:
            state.generation, state.cma = done, es.to_bytes()
            with replacing(setting.run.controller / "state.pkl") as temporary:
                temporary.write_bytes(pickle.dumps(state))


def _measure(setting: Setting, candidates: np.ndarray, generation: int) -> tuple[Returns, int]:
    """Returns of a generation, NaN for episodes that were spared; the steps it took."""
    if generation < setting.dream_generations:
        evaluate, seeds = setting.evaluations.dream, _dream_seeds(setting, generation)
    else:
        evaluate, seeds = setting.evaluations.real, _train_seeds(setting, generation)
    returns, lengths = halving(evaluate, setting.config.screening_rollouts)(candidates, seeds)
    return returns, int(lengths.sum())


def _awake(setting: Setting, es: CMAES) -> CMAES:
    """A new strategy about the dream's mean, for the real world."""
    config = replace(setting.cma, sigma0=setting.config.real_sigma0)
    return CMAES(config, es.mean, seed_for(setting.seed, "evolve real", setting.run.number))


def _dream_seeds(setting: Setting, generation: int) -> list[int]:
    """New ones each generation, the same for all candidates."""
    base = seed_for(setting.seed, "dreams", setting.run.number, generation) % 2**40
    return [base + r for r in range(setting.config.rollouts_per_candidate)]


def _train_seeds(setting: Setting, generation: int) -> list[int]:
    generator = numpy_generator(setting.seed, "real training", setting.run.number, generation)
    return generator.integers(SPLIT_SIZE, size=setting.config.rollouts_per_candidate).tolist()


def _log(setting: Setting, es: CMAES, generation: int, returns: Returns, steps: int) -> None:
    means = measured_means(returns)
    dead = 1.0 - len(np.unique(means[np.isfinite(means)])) / len(means)
    setting.metrics.log(
        generation,
        mean=means.mean(),
        best=merits(returns).max(),
        std=means.std(),
        sigma=es.sigma,
        dead=dead,
        steps=steps,
    )
    if generation == 0:
        setting.metrics.check(
            "share of dead candidates",
            dead,
            0.0,
            0.5,
            "many candidates return exactly the same: the dream doesn't react to actions, or ends "
            "at once; raise cma.sigma0 or look at M with scripts/watch.py",
        )


def _validate(setting: Setting, state: Progress, es: CMAES, generation: int) -> float:
    if not (count := setting.config.validation_episodes):
        state.validated.append((generation, es.mean, []))
        return np.nan
    seeds = environment_seeds("validation", 0, count)
    returns, lengths = setting.evaluations.validation(es.mean[None], seeds)
    state.validated.append((generation, es.mean, returns[0].tolist()))
    state.real_steps["validate"] += int(lengths.sum())
    score = float(returns.mean())
    setting.metrics.log(generation, validation=score, validation_std=returns.std())
    return score


def _choose(setting: Setting, state: Progress) -> tuple[np.ndarray, float]:
    config = setting.config
    if not state.validated:
        raise InputError("evolve.generations and evolve.real_generations are both 0: nothing to do")
    seeds = environment_seeds("validation", config.validation_episodes, config.final_episodes)
    chosen = choose(state.validated, setting.evaluations.validation, config.finalists, seeds)
    state.real_steps["validate"] += chosen.steps
    setting.metrics.log(chosen.generation, chosen=chosen.score)
    return chosen.parameters, chosen.score
