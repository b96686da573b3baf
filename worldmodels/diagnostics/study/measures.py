"""What became of a study's evolutions: their chosen controllers, measured in both worlds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float64

from worldmodels.acting.environments import ModelFiles, models_of
from worldmodels.acting.evaluate import (
    Evaluations,
    Limits,
    RealEvaluation,
    evaluate_open_loop,
    interval,
)
from worldmodels.acting.policies import Baseline
from worldmodels.artifacts import load_controller, load_world
from worldmodels.diagnostics.study.evolutions import Evolution
from worldmodels.diagnostics.study.rows import StudyConfig
from worldmodels.files import file_hash
from worldmodels.models.controller import controller_for
from worldmodels.run import Metrics, cores
from worldmodels.seeding import environment_seeds, seed_for
from worldmodels.versions import package_versions
from worldmodels.workers import WorkersConfig
from worldmodels.world import World

Measured = dict[str, Any]
"""As study.json holds it: `about` says of what, then mean, std, ci95 and returns."""


def measured(evolution: Evolution, study: StudyConfig, seed: int, known: Measured) -> Measured:
    """What study.json says of an evolution.

    Args:
        evolution: is over.
        study: on how many episodes its controller is measured.
        seed: the studied run's: all rows meet the same starts and noise, where M is the same.
        known: what an earlier command found; of the same controller it is kept.
    """
    config = evolution.config
    made = file_hash(evolution.run.controller / "controller.safetensors")
    tests = environment_seeds("test", 0, study.test_episodes)
    base = seed_for(seed, "study dreams") % 2**40
    dreams = [base + i for i in range(study.dream_episodes)]
    real = {"controller": made, "seeds": [tests[0], len(tests)]}
    dream = {
        "controller": made,
        "seeds": [base, len(dreams)],
        "dream": asdict(config.dream.unweighted),
    }
    if known.get("real", {}).get("about") == real and known.get("dream", {}).get("about") == dream:
        return known
    with Metrics(evolution.run, "measure"):
        found = {
            "number": evolution.number,
            "seed": config.seed,
            "validation": load_controller(evolution.run).validation_return,
            "dream": _kept(known, "dream", dream, lambda: _in_dreams(evolution, dreams, seed)),
            "real": _kept(known, "real", real, lambda: _in_reality(evolution, tests)),
        }
    ends = Metrics.ends(evolution.run)
    return found | {
        "seconds": sum(line["seconds"] for line in ends),
        "cores": cores(),
        "command": " ".join(sys.argv),
        "versions": package_versions(),
    }


def measured_baselines(
    world: World, study: StudyConfig, workers: WorkersConfig, known: dict[str, Measured]
) -> dict[str, Measured]:
    """The policies without eyes on the same test episodes, by name."""
    seeds = environment_seeds("test", 0, study.test_episodes)
    found = {}
    for one in Baseline.of_world(world.config):
        about = {"policy": one.policy, "argument": one.argument, "seeds": [seeds[0], len(seeds)]}

        def play(one: Baseline = one) -> np.ndarray:
            return evaluate_open_loop(world, one, seeds, workers)[0]

        found[one.name] = _kept(known, one.name, about, play)
    return found


def _kept(
    known: Measured, name: str, about: dict[str, Any], measure: Callable[[], np.ndarray]
) -> Measured:
    """What is known under a name, if it is about the same; else what `measure` returns."""
    if known.get(name, {}).get("about") == about:
        return known[name]
    returns = measure()
    return {"about": about, **asdict(interval(returns)), "returns": returns.tolist()}


def _in_dreams(evolution: Evolution, seeds: Sequence[int], seed: int) -> Float64[np.ndarray, " R"]:
    config, source = evolution.config, evolution.source
    # lives are counted as in reality, however C's dreams were weighed
    settings = config.controller, config.dream.unweighted, config.workers, Limits(), seed
    return Evaluations.of_run(source, *settings).dream(_parameters(evolution), seeds)[0][0]


def _in_reality(evolution: Evolution, seeds: Sequence[int]) -> Float64[np.ndarray, " R"]:
    """Differs: V and M as they were trained, where a published agent's come from its bundle."""
    config, senses = evolution.config, ModelFiles.of_run(evolution.source)
    controller = controller_for(config.controller, models_of(senses)[1])
    measure = RealEvaluation(
        world=load_world(evolution.source),
        models=senses,
        controller=controller,
        workers=config.workers,
        official=True,
        label=evolution.name,
    )
    return measure(_parameters(evolution), seeds)[0][0]


def _parameters(evolution: Evolution) -> Float64[np.ndarray, "1 N"]:
    return load_controller(evolution.run).parameters["best"].double().numpy()[None]
