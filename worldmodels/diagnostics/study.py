"""A study: C evolved again in a run's dream with other temperatures, inputs and ablations."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
import torch

from worldmodels.acting.environments import Dreams, Reality
from worldmodels.acting.evaluate import Evaluation, evaluate_open_loop, interval
from worldmodels.acting.plans import Plan, carry_out, measure, side_by_side
from worldmodels.acting.policies import Baseline
from worldmodels.artifacts import check_dreams, link_all, load_controller, load_world
from worldmodels.command_line import keep, validated
from worldmodels.config import FREE, Config
from worldmodels.diagnostics.table import table_of
from worldmodels.errors import InputError
from worldmodels.files import file_hash, plain, save_json, save_tensors, save_text
from worldmodels.ranges import PositiveInt, Range
from worldmodels.run import Metrics, Run, say
from worldmodels.schema import load_like
from worldmodels.seeding import environment_seeds, seed_for
from worldmodels.stages.evolve import evolving
from worldmodels.stages.find_baselines import baselines_of
from worldmodels.stages.history import History, history_file
from worldmodels.versions import circumstances
from worldmodels.workers import WorkersConfig
from worldmodels.world import World


class Kept(TypedDict):
    """A measurement: how it was made, its numbers, and the circumstances."""

    about: dict[str, Any]
    mean: float
    returns: list[float]


class Study(TypedDict):
    """What study.json holds for a report."""

    command: str
    table: NotRequired[list[dict[str, Any]]]


LINKED = ("world.json", "vae", "mdnrnn", "latents", "starts.safetensors")
"""What an evolution takes from its source, as links: latents are thousands of files."""
SECTIONS = ("controller", "dream", "cma", "evolve")
"""Sections that rows may change."""
ABOUT = (
    "{environment}. In each row C is evolved from zeros in the dream, {evolutions} times: "
    "{generations} generations of {population_size} candidates with {rollouts_per_candidate} "
    "dreams each, unless the row says otherwise. Dream return: mean over {dream_episodes} dreams "
    "of each at the row's temperature. Real return: mean and standard deviation over "
    "{test_episodes} official test episodes of each, the same ones; ci95 is the bootstrapped 95% "
    "interval of that mean for these controllers, beside it the standard deviation of the "
    "evolutions' means."
)


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study: its rows, and the budget that is the same for all."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Changes of the run's config for each row: {cold: {dream: {temperature: 0.5}}, blind:
    {controller: {senses: blind}}}. `round: 0` uses V and M of that round."""
    changes: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"evolve": {"generations": 60, "validate_every": 10}}
    )
    """Changes for all rows. C is evolved from zeros in the dream."""
    published: dict[str, str] = field(default_factory=dict)
    """A last column of the table, by row: published returns, dream / real."""
    evolutions: PositiveInt = 3
    """Evolutions of each row, with different seeds."""
    test_episodes: Annotated[int, Range(2)] = 300
    """Test episodes for each evolution's controller."""
    dream_episodes: Annotated[int, Range(2)] = 256
    """Dreams for each evolution's controller, at the row's temperature."""


@dataclass(frozen=True, kw_only=True)
class StudySections:
    """What a study's YAML file may state; the rest is the run's own."""

    study: StudyConfig = field(default_factory=StudyConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)


@dataclass(frozen=True)
class Evolution:
    """One evolution of a row: a run of its own with another run's V, M and latents."""

    row: str
    number: int
    run: Run
    source: Run
    """Whose V, M and latents it has."""
    config: Config

    @property
    def name(self) -> str:
        """The name of its file in RUN/controllers."""
        return f"{self.row}_{self.number}"


def study(run: Run, config: Config, settings: StudyConfig) -> dict[str, Any]:
    """Evolves and measures what is missing; writes study/study.json and study/study.md.

    In the run's folder only study/ and controllers/ are changed.

    Returns:
        What study.json holds: the rows of this command, as far as they are measured.

    Raises:
        InputError: a row is wrong, V, M or latents are missing, or an evolution was made under
            other conditions.
    """
    evolutions, own = evolutions_of(run, config, settings), Run(run.folder / "study")
    for evolution in evolutions:
        _prepare(evolution)
    sections = StudySections(study=settings, workers=config.workers)
    keep(sections, own, free=("study", "workers"))
    with Metrics(own, "study") as metrics:
        report = _header(run, evolutions[0].config, settings)
        report["baselines"] = _baselines(own, load_world(run), config, settings)
        entries: dict[str, dict[str, Any]] = {}

        def finish(step: int, evolution: Evolution) -> Plan[None]:
            say(f"study, {step + 1} of {len(evolutions)}: {evolution.name}")
            yield from run_evolution(evolution)
            # only these can be ranked with the run's own, in the run's dream
            if evolution.source is run and evolution.config.controller == config.controller:
                _save_means(evolution, run.folder / "controllers")
            entry = entries[evolution.name] = yield from measured(evolution, settings, config.seed)
            done = [one for one in evolutions if one.name in entries]
            report["rows"] = _rows([(one, entries[one.name]) for one in done])
            report["table"] = table_rows(report)
            save_json(own.folder / "study.json", report)
            save_text(own.folder / "study.md", markdown(report))
            means = {name: entry[name]["mean"] for name in ("dream", "real")}
            metrics.log(step, evolution=evolution.name, **means)
            say("{}: dream {dream:.1f}, reality {real:.1f}".format(evolution.name, **means))

        plans = [finish(step, evolution) for step, evolution in enumerate(evolutions)]
        carry_out(side_by_side(plans, config.workers.at_once))
    return report


def evolutions_of(run: Run, config: Config, settings: StudyConfig) -> list[Evolution]:
    """All evolutions of a study, the first of every row before the second of any.

    Raises:
        InputError: there are no rows, one is wrong, or its V, M or latents are missing.
    """
    if not settings.rows:
        raise InputError("study.rows is empty: name a file of rows: --config take_cover_study")
    budget = {"real_generations": 0, **settings.changes.get("evolve", {})}
    base = replace(config, rounds=1, later={})
    base = _changed(base, {**settings.changes, "evolve": budget}, "study.changes")
    rows = {}
    for name, row in settings.rows.items():
        where, changes = f"study.rows.{name}", dict(row or {})
        if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name, re.ASCII)):
            raise InputError(f"{where} is not a folder name: use letters and digits")
        index = changes.pop("round", None)
        changed = _changed(base, changes, where)
        rows[name] = _source(run, index, where), changed
    return [
        Evolution(
            name,
            number,
            Run(run.folder / "study" / "rows" / name / str(number)),
            source,
            replace(changed, seed=seed_for(config.seed, "study", name, number)),
        )
        for number in range(settings.evolutions)
        for name, (source, changed) in rows.items()
    ]


def _changed(config: Config, changes: Mapping[str, Any], where: str) -> Config:
    if fixed := sorted(set(changes) - set(SECTIONS)):
        raise InputError(f"{where}: {fixed[0]} cannot change: change one of {', '.join(SECTIONS)}")
    try:
        return validated(Config, changes, config)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _source(run: Run, index: Any, where: str) -> Run:
    """The run, or one of its rounds, whose V and M a row uses."""
    if index is not None and not (isinstance(index, int) and index >= 0):
        raise InputError(f"{where} needs round {index}, but round is not a number from 0 on")
    source = run
    # a run of one round is its own round 0; an unpacked bundle is no round
    several = (run.folder / "rounds").exists() or run.starts.exists()
    if index is not None and (index or several):
        source = run.round(index)
    if not source.folder.exists():
        raise InputError(
            f"{where} needs round {index}, but there is no {source.folder}: "
            "name another round or leave the row out"
        )
    check_dreams(source)
    source.need(source.mdnrnn / "mdnrnn.safetensors", "worldmodels train-mdnrnn")
    return source


def _prepare(evolution: Evolution) -> None:
    """Makes the evolution's folder, or checks that it was made under the same conditions."""
    run, source = evolution.run, evolution.source
    keep(evolution.config, run, FREE, fix=f"delete {run.folder}")
    for name in LINKED:
        if (source.folder / name).exists():
            _link(source.folder / name, run.folder / name)


def _link(source: Path, target: Path) -> None:
    if target.is_symlink():
        target.unlink()
    try:
        target.symlink_to(os.path.relpath(source.resolve(), target.parent.resolve()))
    except OSError:  # a file system or a user without symbolic links, now or when it was begun
        link_all(source, target)


def run_evolution(evolution: Evolution) -> Plan[None]:
    """The plan of an evolution: C from zeros, or further."""
    config = evolution.config
    settings = config.controller, config.dream, config.cma, config.evolve, config.workers
    return evolving(evolution.run, *settings, config.seed)


def _save_means(evolution: Evolution, folder: Path) -> None:
    """Writes the distribution's means at the validated generations, for `inspect_dream` to rank."""
    known = History.load(history_file(evolution.run)).validated
    tensors = {
        "means": torch.from_numpy(np.stack([one.mean for one in known])).float(),
        "generations": torch.tensor([one.generation for one in known]),
    }
    save_tensors(folder / f"{evolution.name}.safetensors", tensors)


def measured(evolution: Evolution, settings: StudyConfig, seed: int) -> Plan[dict[str, Any]]:
    """What study.json says of an evolution; what was measured before is kept in its folder.

    `seed` is the studied run's: all rows have the same starts and noise where M is the same.
    """
    run, config, saved = evolution.run, evolution.config, load_controller(evolution.run)
    parameters = saved.best.double().numpy()[None]
    tests = environment_seeds("test", 0, settings.test_episodes)
    base = seed_for(seed, "study dreams") % 2**40
    dreams = [base + i for i in range(settings.dream_episodes)]
    # survival is counted as in reality, whatever weighed the rewards of C's dreams
    plain = config.dream.plain

    def in_dreams() -> Plan[np.ndarray]:
        place = Dreams.of_run(evolution.source, config.controller, plain, seed)
        evaluation = Evaluation(place=place, workers=config.workers)
        returns, _ = yield from measure(evaluation, parameters, dreams)
        return returns[0]

    def in_reality() -> Plan[np.ndarray]:
        # Differs: V and M as they were trained; a published agent's come from its bundle
        place = Reality.of_run(evolution.source, config.controller, official=True)
        evaluation = Evaluation(place=place, workers=config.workers, label=evolution.name)
        returns, _ = yield from measure(evaluation, parameters, tests)
        return returns[0]

    about = {"controller": file_hash(run.controller / "controller.safetensors")}
    dream = about | {"seeds": [base, len(dreams)], "dream": asdict(plain)}
    real = about | {"seeds": [tests[0], len(tests)]}
    return {
        "number": evolution.number,
        "seed": config.seed,
        "validation": saved.validation_return,
        "dream": (yield from _kept(run.folder / "dream.json", dream, in_dreams())),
        "real": (yield from _kept(run.folder / "real.json", real, in_reality())),
        "seconds": sum(line["seconds"] for line in Metrics.ends(run)),
    }


def _baselines(
    own: Run, world: World, config: Config, settings: StudyConfig
) -> dict[str, dict[str, Any]]:
    """The open-loop policies on the same test episodes, by name."""
    seeds, found = environment_seeds("test", 0, settings.test_episodes), {}
    for one in baselines_of(world, config.workers, own):
        about = {"policy": one.policy, "argument": one.argument, "seeds": [seeds[0], len(seeds)]}

        def play(one: Baseline = one) -> Plan[np.ndarray]:
            yield from ()  # its jobs are its own
            return evaluate_open_loop(world, [one], seeds, config.workers)[0][0]

        file = own.folder / "baselines" / f"{one.name}.json"
        found[one.name] = carry_out(_kept(file, about, play()))
    return found


def _kept(file: Path, about: dict[str, Any], played: Plan[np.ndarray]) -> Plan[dict[str, Any]]:
    """Returns and their mean, as the file holds them if its `about` is the same, else measured."""
    if not file.exists() or load_like(file, Kept)["about"] != plain(about):
        returns = yield from played
        found = {"about": about, **asdict(interval(returns)), "returns": returns.tolist()}
        save_json(file, found | circumstances())
    return load_like(file, Kept)


def _header(run: Run, config: Config, settings: StudyConfig) -> dict[str, Any]:
    """study.json without its results; `config` is that of an evolution."""
    return {
        "run": run.name,
        "environment": config.env.id,
        "config": asdict(settings),
        "budget": {
            "generations": config.evolve.generations,
            "population_size": config.cma.population_size,
            "rollouts_per_candidate": config.evolve.rollouts_per_candidate,
            "validation_episodes": config.evolve.validation_episodes,
        },
        **circumstances(),
        "rows": {},
    }


def _rows(done: Sequence[tuple[Evolution, dict[str, Any]]]) -> dict[str, Any]:
    """The rows of the report."""
    rows: dict[str, Any] = {}
    for evolution, entry in done:
        config = evolution.config
        known = rows.setdefault(evolution.row, {"evolutions": []})
        known["source"] = str(evolution.source.folder)
        known["config"] = {name: asdict(getattr(config, name)) for name in SECTIONS}
        known["evolutions"].append(entry)
    return rows


def table_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each row over its evolutions, and the baselines."""
    published = report["config"]["published"]
    every = {name: row["evolutions"] for name, row in report["rows"].items()}
    every |= {name: [{"real": one}] for name, one in report["baselines"].items()}
    rows = []
    for name, entries in every.items():
        rows.append({"row": name, **_pooled(entries)})
        if published:
            rows[-1]["published: dream / real"] = published.get(name)
    return rows


def _pooled(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the episodes of all evolutions, and the deviation of the evolutions' means."""
    dreams = [one["dream"]["mean"] for one in entries if "dream" in one]
    means = np.array([one["real"]["mean"] for one in entries])
    real = interval(np.concatenate([one["real"]["returns"] for one in entries]))
    return {
        "evolutions": len(dreams) or None,
        "dream_return": float(np.mean(dreams)) if dreams else None,
        "real_return": real.mean,
        "std": real.std,
        "ci95": real.ci95,
        "std_between_evolutions": float(means.std(ddof=1)) if len(means) > 1 else None,
        "minutes": sum(one["seconds"] for one in entries) / 60 if dreams else None,
    }


def markdown(report: Mapping[str, Any]) -> str:
    """study.md of what study.json holds."""
    about = ABOUT.format(**report["budget"], **report["config"], environment=report["environment"])
    chosen = "real validation chooses the controller"
    if not report["budget"]["validation_episodes"]:
        chosen = "the last average of means is the controller, without validation"
    made = f"`{report['command']}`, {report['cores']} cores; {chosen}."
    parts = f"# Study of {report['run']}", about, made, table_of(report["table"])
    return "\n\n".join(parts) + "\n"
