"""Evolve C in the dream, in the real environment, or in both in turn; real validation selects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from worldmodels.acting.environments import Dreams, Reality
from worldmodels.acting.evaluate import Evaluation, Returns, agreement
from worldmodels.acting.plans import Plan, carry_out, measure, side_by_side
from worldmodels.acting.selection import race
from worldmodels.artifacts import (
    SavedController,
    check_dreams,
    check_evolved_in,
    load_controller,
    load_world,
    save_controller,
)
from worldmodels.envs.dream import DreamConfig
from worldmodels.errors import InputError
from worldmodels.files import file_hash
from worldmodels.models.controller import ControllerConfig
from worldmodels.ranges import EpisodesOrNone, NonNegativeInt, PositiveInt
from worldmodels.run import Metrics, Run, progress, say
from worldmodels.seeding import SPLIT_SIZE, environment_seeds, numpy_generator, seed_for
from worldmodels.stages.carry import carried_from, carried_over
from worldmodels.stages.cmaes import CMAES, CMAConfig
from worldmodels.stages.history import History, Validated, history_file
from worldmodels.workers import WorkersConfig

AVERAGED = 20
"""Most generations whose means are averaged for a validation."""
JUDGED = 10
"""Fewest generations from which the agreement of episodes is judged."""
FINALISTS = 3
"""Averages, the best ones by validation, that are measured again before one is chosen."""
REAL_SIGMA0 = 0.05
"""First standard deviation in the real environment, where a dream came before."""


UNMEASURED = "nothing was measured in reality"
"""Said of results without a live environment."""


@dataclass(frozen=True, kw_only=True)
class EvolveConfig:
    """Where and how long C is evolved, and how it is selected."""

    generations: NonNegativeInt = 1800
    """Generations in the dream; 0: none."""
    start: Literal["fresh", "previous"] = "fresh"
    """In later rounds: `fresh` starts from zeros; `previous` from the controller of the round
    before, fitted to the new V and M. The fitted controller is validated too, and may be kept."""
    start_from: str | None = None
    """A run or a bundle whose controller evolution starts from, instead of zeros. It is fitted by
    least squares if V or M differ, is validated too, and may be kept."""
    evolutions: PositiveInt = 1
    """Evolutions of a round that differ only in their random numbers. Each has all generations;
    validation selects among the results of all. They run side by side if there are enough
    workers."""
    real_generations: NonNegativeInt = 0
    """Generations in the real environment after those in the dream, starting from their mean; the
    paper's CarRacing: 1800, and none in the dream."""
    dream_max_steps: PositiveInt | None = None
    """Maximum steps of a dream in evolution; null: dream.horizon. Long dreams drift from the
    data."""
    rollouts_per_candidate: PositiveInt = 16
    """Episodes per candidate and generation; the paper: 16."""
    patience: PositiveInt | None = None
    """Steps without a new highest return (at least 0) after which a training episode ends; null: no
    limit. A negative env.reward_per_frame is charged for the remaining steps. Validation does not
    use it."""
    validate_every: PositiveInt = 25
    """Generations between real validations; the paper: 25. A validation measures the average of
    CMA-ES's means over the last half of the generations so far (in the dream, or in the real
    environment), at most 20: single means vary by chance."""
    validation_episodes: EpisodesOrNone = 16
    """Real episodes of each validation, always the same ones; 0: no validation, the last average is
    kept."""
    final_episodes: EpisodesOrNone = 32
    """Further validation episodes that select among the three best averages; 0: none, the best
    average is kept."""

    def __post_init__(self) -> None:
        if not self.total:
            raise InputError(
                "evolve.generations and evolve.real_generations are both 0: set one of them"
            )
        if self.evolutions > 1 and not self.validation_episodes:
            raise InputError(
                f"evolve.evolutions is {self.evolutions}, but evolve.validation_episodes is 0: "
                "validation selects among evolutions; set it"
            )

    @property
    def total(self) -> int:
        """Generations in the dream and in the real environment."""
        return self.generations + self.real_generations


@dataclass(frozen=True)
class Setting:
    """What evolution is given."""

    run: Run
    dream: Evaluation
    real: Evaluation
    """For training episodes in the real environment."""
    validation: Evaluation
    """In the real environment, or in held-out dreams where there is none."""
    metrics: Metrics
    config: EvolveConfig
    cma: CMAConfig
    seed: int
    evolution: int

    @property
    def live(self) -> bool:
        """Whether validation is real."""
        return isinstance(self.validation.place, Reality)

    @property
    def key(self) -> tuple[int, ...]:
        """Tells the random numbers of rounds and evolutions apart."""
        return (self.run.number, *([self.evolution] if self.evolution else []))

    def log(self, generation: int, **numbers: Any) -> None:
        """Records numbers of a generation. In metrics.jsonl evolutions follow one another."""
        curve = f"_{self.evolution}" if self.evolution else ""
        self.metrics.log(self.evolution * self.config.total + generation, curve, **numbers)


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
    """Evolves C, or continues its evolution; writes controller/controller.safetensors.

    The arguments are those of `evolving`.
    """
    carry_out(evolving(run, controller, dream, cma, config, workers, seed, start))


def evolving(
    run: Run,
    controller: ControllerConfig,
    dream: DreamConfig,
    cma: CMAConfig,
    config: EvolveConfig,
    workers: WorkersConfig,
    seed: int,
    start: Run | None = None,
) -> Plan[None]:
    """The plan of `evolve`.

    Args:
        run: has world.json, V, M, and latents or an unpacked bundle's starts.
        controller: C's inputs and size.
        dream: of the dreams.
        cma: the evolution strategy.
        config: generations, episodes, validation.
        workers: where real episodes run.
        seed: the experiment's.
        start: a run from whose best controller evolution starts, carried over to the run's V and
            M; none: from `config.start_from`, or zeros.

    Raises:
        InputError: V, M or latents are missing or do not belong together.
    """
    result = run.controller / "controller.safetensors"
    if result.exists():
        load_controller(run)
        say(f"{result} already exists")
        return
    with Metrics(run, "evolve") as metrics:
        check_dreams(run)
        place = _validation(run, controller, dream, seed)
        dream = replace(dream, horizon=min(dream.horizon, config.dream_max_steps or dream.horizon))
        dreams = Dreams.of_run(run, controller, dream, seed)
        validation = Evaluation(place=place, workers=workers)
        real = replace(validation, patience=config.patience)
        evaluations = replace(real, place=dreams), real, validation
        settings = [
            Setting(run, *evaluations, metrics, config, cma, seed, evolution)
            for evolution in range(config.evolutions)
        ]
        plans = [_evolution(setting, start) for setting in settings]
        histories = yield from side_by_side(plans, workers.at_once)
        real_steps = {
            name: sum(history.real_steps[name] for history in histories)
            for name in histories[0].real_steps
        }
        candidates = _best([one for history in histories for one in history.validated])
        best, score, steps = _race(settings[0], candidates)
        live = settings[0].live
        real_steps["validate"] += steps if live else 0
        last = _best([history.validated[-1] for history in histories])[0]
        chosen, newest = (torch.from_numpy(one.mean).float() for one in (best, last))
        measured = score if live else np.nan
        saved = SavedController(controller, chosen, newest, measured, real_steps)
        save_controller(result, saved, histories[0].mdnrnn)
    where = "on real validation episodes" if live else f"in held-out dreams, {UNMEASURED}"
    say(f"C is {result}: {f'{score:.1f} {where}' if np.isfinite(score) else 'not validated'}")


def _validation(
    run: Run, controller: ControllerConfig, dream: DreamConfig, seed: int
) -> Dreams | Reality:
    """Where averages are validated: in reality; without an environment in held-out dreams.

    Their noise is another, they begin in windows of the same episodes that are sampled anew, and
    they have the whole horizon and nothing that only evolution needs.
    """
    if load_world(run).config.live:
        return Reality.of_run(run, controller)
    return Dreams.of_run(run, controller, dream.plain, seed_for(seed, "held-out dreams"))


def _evolution(setting: Setting, start: Run | None) -> Plan[History]:
    """One of the evolutions. What was carried over is validated by the first alone."""
    history = _history(setting, start)
    carried = start is not None or setting.config.start_from is not None
    yield from _run_generations(setting, history, carried and not setting.evolution)
    return history


def _history(setting: Setting, start: Run | None) -> History:
    """The history so far, or a new one."""
    path = history_file(setting.run, setting.evolution)
    size = setting.dream.place.controller.num_parameters
    if path.exists():
        history = History.load(path)
        check_evolved_in(setting.run, history.mdnrnn, path)
        history.check(path, size, setting.cma.population_size)
        return history
    mean, controller = np.zeros(size), setting.dream.place.controller
    if start is not None:
        mean = carried_over(start, setting.run, controller)
    elif setting.config.start_from is not None:
        mean = carried_from(setting.config.start_from, setting.run, controller)
    return History(file_hash(setting.run.mdnrnn / "mdnrnn.safetensors"), mean, mean)


def _run_generations(setting: Setting, history: History, carried: bool) -> Plan[None]:
    """Runs the generations that are left, those in the dream first.

    A C that was carried over is validated before the first.
    """
    config, total = setting.config, setting.config.total
    es, means = _replay(setting, history)
    first = len(history.told)
    if carried and not history.validated:
        yield from _validate(setting, history, history.start, 0)
    agreements = list[float]()
    bar = progress(range(first, total), "evolve", initial=first, total=total)
    for generation in bar:
        es = _strategy(setting, generation, es)
        evaluation, seeds = _episodes(setting, generation)
        returns, lengths = yield from measure(evaluation, es.ask(), seeds)
        history.told.append(returns.mean(axis=1))
        es.tell(history.told[-1])
        means.append(es.mean)
        history.mean, steps = es.mean, int(lengths.sum())
        history.real_steps["evolve"] += steps if generation >= config.generations else 0
        agreements.append(agreement(returns))
        _log(setting, es, generation, returns, steps, agreements[-1])
        done = generation + 1
        if done % config.validate_every == 0 or done == total:
            here = done if done <= config.generations else done - config.generations
            average = np.mean(means[-min((here + 1) // 2, AVERAGED) :], axis=0)
            score = yield from _validate(setting, history, average, done)
            bar.set_postfix(dream=f"{returns.mean():.1f}", real=f"{score:.1f}")
        history.save(history_file(setting.run, setting.evolution))
    _check_agreement(setting, agreements[-AVERAGED:])


def _check_agreement(setting: Setting, agreements: Sequence[float]) -> None:
    """Checks that more than chance tells candidates apart, if there are enough generations."""
    known = [one for one in agreements if not math.isnan(one)]
    if len(known) >= JUDGED:
        setting.metrics.check(
            "agreement of a candidate's episodes",
            float(np.mean(known)),
            0.05,
            1.0,
            "chance decides which candidates are best: raise evolve.rollouts_per_candidate or "
            "cma.sigma0; if C is as good as it can be, lower evolve.generations",
        )


def _replay(setting: Setting, history: History) -> tuple[CMAES, list[np.ndarray]]:
    """The strategy after the generations of the history, and its mean after each.

    Raises:
        InputError: they lead elsewhere than they did.
    """
    es = CMAES(setting.cma, history.start, seed_for(setting.seed, "evolve", *setting.key))
    means = []
    for generation, told in enumerate(history.told):
        es = _strategy(setting, generation, es)
        es.ask()
        es.tell(told)
        means.append(es.mean)
    # on another machine the last bits may differ, which does not matter; but a full covariance may
    # have other eigenvectors there, and then its candidates were not those that were told
    if history.told and not np.allclose(es.mean, history.mean, rtol=0, atol=0.01 * es.sigma):
        path = history_file(setting.run, setting.evolution)
        raise InputError(
            f"{path} does not lead to the mean that it holds: it was made with other settings or "
            "on another kind of machine; go on there, or delete it and evolve again"
        )
    return es, means


def _strategy(setting: Setting, generation: int, es: CMAES) -> CMAES:
    """The strategy of a generation: the first real one begins anew, at the dream's mean."""
    if generation == 0 or generation != setting.config.generations:
        return es
    config = replace(setting.cma, sigma0=REAL_SIGMA0)
    return CMAES(config, es.mean, seed_for(setting.seed, "evolve real", *setting.key))


def _episodes(setting: Setting, generation: int) -> tuple[Evaluation, list[int]]:
    """Where a generation is evaluated, and on which seeds (new ones, shared by all candidates)."""
    config = setting.config
    count = config.rollouts_per_candidate
    if generation < config.generations:
        base = seed_for(setting.seed, "dreams", *setting.key, generation) % 2**40
        return setting.dream, [base + r for r in range(count)]
    generator = numpy_generator(setting.seed, "real training", *setting.key, generation)
    return setting.real, generator.integers(SPLIT_SIZE, size=count).tolist()


def _log(
    setting: Setting,
    es: CMAES,
    generation: int,
    returns: Returns,
    steps: int,
    agreed: float,
) -> None:
    means = returns.mean(axis=1)
    dead = 1.0 - len(np.unique(means)) / len(means)
    setting.log(
        generation,
        mean=means.mean(),
        best=means.max(),
        std=means.std(),
        sigma=es.sigma,
        dead=dead,
        steps=steps,
        **({} if math.isnan(agreed) else {"agreement": agreed}),
    )
    if generation == 0:
        setting.metrics.check(
            "share of candidates with equal returns",
            dead,
            0.0,
            0.5,
            "the dream does not react to actions, always gives the same reward, or ends at once: "
            "check env.reward and env.terminates, and train M longer",
        )


def _validate(setting: Setting, history: History, mean: np.ndarray, generation: int) -> Plan[float]:
    """Measures an average of means on validation episodes, always the same; its score."""
    seeds = environment_seeds("validation", 0, setting.config.validation_episodes)
    validated = Validated(generation, mean, np.zeros(0))
    if seeds:
        returns, lengths = yield from measure(setting.validation, mean[None], seeds)
        validated = Validated(generation, mean, returns[0])
        history.real_steps["validate"] += int(lengths.sum()) if setting.live else 0
        name, numbers = (
            "validation" if setting.live else "held_out",
            (validated.score, returns.std()),
        )
        setting.log(generation, **{name: numbers[0], f"{name}_std": numbers[1]})
    history.validated.append(validated)
    return validated.score


def _best(validated: Sequence[Validated]) -> list[Validated]:
    """The best averages first; without validation the last one."""
    if not np.isfinite([one.score for one in validated]).any():
        return list(validated[-1:])
    return sorted(validated, key=lambda one: -np.nan_to_num(one.score, nan=-np.inf))[:FINALISTS]


def _race(setting: Setting, candidates: list[Validated]) -> tuple[Validated, float, int]:
    """The best candidate, its score, and the real steps that it took to find it.

    Several are measured on further validation episodes, and these alone decide: the luck of the
    first ones is not in them.
    """
    count, first = setting.config.final_episodes, setting.config.validation_episodes
    best, score, steps = candidates[0], candidates[0].score, 0
    if len(candidates) > 1 and count:
        means, seeds = np.stack([one.mean for one in candidates]), ("validation", first, count)
        raced = race(setting.validation, means, environment_seeds(*seeds), [(count, 1)])
        best, score = candidates[raced.kept[0]], float(raced.returns.mean())
        steps = raced.steps
    setting.metrics.log(best.generation, chosen=score)
    return best, score, steps
