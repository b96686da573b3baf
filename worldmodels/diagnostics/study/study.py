"""A study: C evolved anew in a run's dream, at other temperatures and with less to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from worldmodels.acting.environments import ModelFiles, models_of
from worldmodels.acting.evaluate import (
    Evaluations,
    RealEvaluation,
    evaluate_open_loop,
    interval,
)
from worldmodels.acting.policies import Baseline
from worldmodels.artifacts import load_controller, load_world
from worldmodels.command_line import keep
from worldmodels.config import Config
from worldmodels.diagnostics.study.evolutions import (
    Evolution,
    evolutions_of,
    prepare,
    run_evolution,
    save_means,
)
from worldmodels.diagnostics.study.rows import StudyConfig, StudySections
from worldmodels.diagnostics.study.table import (
    PAPER_RANDOM,
    is_take_cover,
    markdown,
    papers_numbers,
    summed_up,
)
from worldmodels.files import file_hash, load_json, save_json, save_text
from worldmodels.models.controller import controller_for
from worldmodels.run import Metrics, Run, say
from worldmodels.seeding import environment_seeds, seed_for
from worldmodels.versions import circumstances
from worldmodels.world import World


def study(run: Run, config: Config, settings: StudyConfig) -> dict[str, Any]:
    """Evolves and measures what is missing; writes study/study.json and study/study.md.

    In the run's folder only study/ and controllers/ are changed.

    Returns:
        What study.json holds: the rows of this command, as far as they are measured.

    Raises:
        InputError: V, M or latents are missing, or an evolution was made under other conditions.
    """
    evolutions, own = evolutions_of(run, config, settings), Run(run.folder / "study")
    for evolution in evolutions:
        prepare(evolution)
    keep(StudySections(study=settings), own, free=("study",))
    with Metrics(own, "study") as metrics:
        world = load_world(run)
        report = _header(run, world, evolutions[0].config, settings)
        report["baselines"] = _baselines(own.folder, world, config, settings)
        for step, evolution in enumerate(evolutions):
            say(f"study, {step + 1} of {len(evolutions)}: {evolution.name}")
            run_evolution(evolution)
            # only these can be ranked with the run's own, in the run's dream
            if evolution.row.round is None and evolution.config.controller == config.controller:
                save_means(evolution, run.folder / "controllers")
            entry = measured(evolution, settings, config.seed)
            _enter(report["rows"], evolution, entry, world)
            save_json(own.folder / "study.json", report)
            save_text(own.folder / "study.md", markdown(report))
            means = {name: entry[name]["mean"] for name in ("dream", "real")}
            metrics.log(step, evolution=evolution.name, **means)
            say("{}: dream {dream:.1f}, reality {real:.1f}".format(evolution.name, **means))
    return report


def _header(run: Run, world: World, config: Config, settings: StudyConfig) -> dict[str, Any]:
    """study.json without its results; `config` is that of an evolution."""
    return {
        "run": run.name,
        "environment": world.config.id,
        "config": asdict(settings),
        "budget": {
            "generations": config.evolve.generations,
            "population_size": config.cma.population_size,
            "rollouts_per_candidate": config.evolve.rollouts_per_candidate,
        },
        **circumstances(),
        "paper_random": PAPER_RANDOM if is_take_cover(world) else None,
        "rows": {},
    }


def _enter(rows: dict[str, Any], evolution: Evolution, entry: dict[str, Any], world: World) -> None:
    """Adds an evolution to its row of the report."""
    row, config = evolution.row, evolution.config
    every = [*rows.get(row.name, {}).get("evolutions", ()), entry]
    sections = ("controller", "dream", "cma", "evolve")
    rows[row.name] = {
        "row": asdict(row),
        "source": str(evolution.source.folder),
        "config": {name: asdict(getattr(config, name)) for name in sections},
        "paper": papers_numbers(world, row, config),
        "summary": summed_up(every),
        "evolutions": every,
    }


def measured(evolution: Evolution, study: StudyConfig, seed: int) -> dict[str, Any]:
    """What study.json says of an evolution; what was measured before is kept in its folder.

    `seed` is the studied run's: all rows have the same starts and noise where M is the same.
    """
    config, file = evolution.config, evolution.run.folder / "measured.json"
    made = file_hash(evolution.run.controller / "controller.safetensors")
    tests = environment_seeds("test", 0, study.test_episodes)
    base = seed_for(seed, "study dreams") % 2**40
    dreams = [base + i for i in range(study.dream_episodes)]
    real = {"controller": made, "seeds": [tests[0], len(tests)]}
    # survival is counted as in reality, whatever weighed the rewards of C's dreams
    unweighted = config.dream.unweighted
    dream = {"controller": made, "seeds": [base, len(dreams)], "dream": asdict(unweighted)}
    saved = load_controller(evolution.run)
    parameters = saved.best.double().numpy()[None]

    def in_dreams() -> np.ndarray:
        settings = config.controller, unweighted, config.workers, seed
        return Evaluations.of_run(evolution.source, *settings).dream(parameters, dreams)[0][0]

    def in_reality() -> np.ndarray:
        # Differs: V and M as they were trained; a published agent's come from its bundle
        models = ModelFiles.of_run(evolution.source)
        evaluation = RealEvaluation(
            world=load_world(evolution.source),
            models=models,
            controller=controller_for(config.controller, models_of(models)[1]),
            workers=config.workers,
            official=True,
            label=evolution.name,
        )
        return evaluation(parameters, tests)[0][0]

    known = load_json(file) if file.exists() else {}
    if known.get("real", {}).get("about") == real and known["dream"]["about"] == dream:
        return known
    with Metrics(evolution.run, "measure"):
        returns = {
            "dream": _kept(known, "dream", dream, in_dreams),
            "real": _kept(known, "real", real, in_reality),
        }
    found = {
        "number": evolution.number,
        "seed": config.seed,
        "validation": saved.validation_return,
        **returns,
        "seconds": sum(line["seconds"] for line in Metrics.ends(evolution.run)),
        **circumstances(),
    }
    save_json(file, found)
    return load_json(file)


def _baselines(
    folder: Path, world: World, config: Config, study: StudyConfig
) -> dict[str, dict[str, Any]]:
    """The open-loop policies on the same test episodes, by name."""
    file, seeds = folder / "baselines.json", environment_seeds("test", 0, study.test_episodes)
    known, found = load_json(file) if file.exists() else {}, {}
    for one in Baseline.of_world(world.config):
        about = {"policy": one.policy, "argument": one.argument, "seeds": [seeds[0], len(seeds)]}

        def play(one: Baseline = one) -> np.ndarray:
            return evaluate_open_loop(world, one, seeds, config.workers)[0]

        found[one.name] = _kept(known, one.name, about, play)
    save_json(file, found)
    return found


def _kept(
    known: dict[str, Any], name: str, about: dict[str, Any], measure: Callable[[], np.ndarray]
) -> dict[str, Any]:
    """The known result of that name if its `about` is the same, else what `measure` returns."""
    if known.get(name, {}).get("about") == about:
        return dict(known[name])
    returns = measure()
    return {"about": about, **asdict(interval(returns)), "returns": returns.tolist()}
