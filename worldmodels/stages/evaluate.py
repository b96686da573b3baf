"""Evaluate the bundle, as read back, on official test episodes, beside the baselines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
from gymnasium.vector import AutoresetMode

from worldmodels.acting.environments import ModelFiles, Reality
from worldmodels.acting.evaluate import Evaluation, Lengths, Returns, evaluate_open_loop, interval
from worldmodels.acting.policies import RANDOM, Baseline, Candidates, OpenLoop, Policy
from worldmodels.acting.rollout import rollout
from worldmodels.artifacts import (
    Bundle,
    bundle_folder,
    load_controller,
    load_mdnrnn,
    load_starts,
    load_vae,
    load_world,
)
from worldmodels.data.dataset import latent_source
from worldmodels.data.episode import steps_of
from worldmodels.data.starts import sample_starts
from worldmodels.envs.dream import DreamConfig, make_dream
from worldmodels.errors import InputError
from worldmodels.figure import new_figure, save_figure
from worldmodels.files import file_hash, save_json
from worldmodels.models.controller import controller_for
from worldmodels.ranges import Range
from worldmodels.run import Metrics, Run, say
from worldmodels.schema import load_like
from worldmodels.seeding import environment_seeds, numpy_generator
from worldmodels.stages.evolve import UNMEASURED
from worldmodels.stages.find_baselines import baselines_of, best_of, constant_actions
from worldmodels.stages.record import record
from worldmodels.stages.select_round import Selection
from worldmodels.versions import circumstances
from worldmodels.workers import WorkersConfig
from worldmodels.world import World

STARTS = 500
"""Start windows in a bundle."""
CHUNK = 32
"""Episodes after which an evaluation is saved, so that it can be resumed."""
HISTOGRAM = "histogram.png"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The real episodes on which C is evaluated."""

    episodes: Annotated[int, Range(2, 1_000_000)] = 100
    """Episodes; the paper: 100."""
    split: Literal["validation", "test", "final"] = "test"
    """Range of environment seeds: validation, test, or final (once per shipped bundle)."""


class Measured(TypedDict):
    """The numbers of one policy in evaluation.json."""

    mean: float
    std: float
    ci95: tuple[float, float]
    returns: list[float]


class MeasuredBaseline(Measured):
    """Those of an open-loop policy."""

    episodes: int
    paired_ci95: tuple[float, float]


class Report(Measured):
    """What evaluation.json holds; its own returns are the agent's."""

    environment: str
    split: str
    episodes: int
    seeds: tuple[int, int]
    baselines: dict[str, MeasuredBaseline]
    command: str
    cores: int
    versions: dict[str, str]
    bundle_sha256: str
    seconds: float
    real_frames: NotRequired[dict[str, int]]


class Partial(TypedDict):
    """The returns of an evaluation that is not finished, by first seed and number of seeds."""

    bundle: str
    chunks: dict[str, list[float]]


def evaluate(
    run: Run,
    dream: DreamConfig,
    config: EvaluateConfig,
    workers: WorkersConfig,
    seed: int,
) -> dict[str, Any]:
    """Writes bundle/, measures it as read back, writes evaluation.json and histogram.png.

    Args:
        run: has V, M, C.
        dream: what C was evolved in; goes into the bundle.
        config: which episodes.
        workers: where they run.
        seed: the run's, for the bundle's start windows.

    Returns:
        What evaluation.json holds. Without a live environment there is no such file: the bundle
        is measured in held-out dreams alone, and says so.
    """
    with Metrics(run, "evaluate") as metrics:
        _write_bundle(run, dream, seed)
        if not load_world(run).config.live:
            return _in_dreams(run.bundle, config, metrics)
        report = _report(run, run.bundle, config, workers, metrics, _makers(run))
        _sign(run, report)
    return report


def evaluate_bundle(
    name: str, run: Run, config: EvaluateConfig, workers: WorkersConfig
) -> dict[str, Any]:
    """Evaluates a finished bundle: a shipped one or any other.

    Args:
        name: of a shipped bundle, or a folder.
        run: where evaluation.json goes.
        config: which episodes.
        workers: where they run.

    Raises:
        InputError: there is no such bundle, or it is broken.
    """
    folder = bundle_folder(name)
    with Metrics(run, "evaluate") as metrics:
        if not Bundle.load(folder).world.config.live:
            return _in_dreams(folder, config, metrics)
        made_here = folder.resolve() == run.bundle.resolve()
        rounds = _makers(run) if made_here else ()
        return _report(run, folder, config, workers, metrics, rounds)


def _in_dreams(folder: Path, config: EvaluateConfig, metrics: Metrics) -> dict[str, Any]:
    """Measures a bundle and random actions in its dreams, on the same starts and noise."""
    bundle, seeds = Bundle.load(folder), environment_seeds(config.split, 0, config.episodes)
    dreamt = _Dreamt(bundle)
    constant = best_of(constant_actions(bundle.world), dreamt)["argument"]
    open_loop = {"random": RANDOM, "constant": Baseline("constant", "constant", constant)}
    returns, _ = dreamt.play(Candidates.of_bundle(bundle), seeds)
    played, _ = dreamt(list(open_loop.values()), seeds)
    agent = interval(returns)
    rows = {name: _beside(returns, one) for name, one in zip(open_loop, played, strict=True)}
    means = {f"dreamt_{name}_mean": row["mean"] for name, row in rows.items()}
    metrics.log(0, dreamt_mean=agent.mean, **means)
    others = ", ".join(f"{name} {row['mean']:.4g} ± {row['std']:.4g}" for name, row in rows.items())
    measured = (
        f"{agent.mean:.4g} ± {agent.std:.4g} in {len(seeds)} held-out dreams ({others}); "
        f"{UNMEASURED}"
    )
    say(f"{folder} holds the agent: {measured}")
    _check(rows, metrics)
    replace(bundle, about=bundle.about | {"measured": measured}).save(folder)
    return {"environment": bundle.world.config.id, "dreamt": {"agent": asdict(agent)}}


@dataclass(frozen=True)
class _Dreamt:
    """Returns and lengths in a bundle's dreams, of open-loop policies or of any one policy."""

    bundle: Bundle

    def __call__(
        self, baselines: Sequence[Baseline], seeds: Sequence[int]
    ) -> tuple[Returns, Lengths]:
        actions, played = self.bundle.actions, []
        for one in baselines:
            generators = [numpy_generator(seed, "random policy") for seed in seeds]
            policy = OpenLoop(one, actions, generators, space=actions.own_space)
            played.append(self.play(policy, seeds))
        returns, lengths = (np.stack(rows) for rows in zip(*played, strict=True))
        return returns, lengths

    def play(self, policy: Policy, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Of one policy, each lane on a seed of its own."""
        env = make_dream(len(seeds), bundle=self.bundle, autoreset_mode=AutoresetMode.DISABLED)
        return rollout(env, policy, seeds)


def _makers(run: Run) -> list[Run]:
    """The rounds of a run and the run itself, which have made its bundle."""
    return [*map(Run, sorted((run.folder / "rounds").glob("[0-9][0-9]"))), run]


def _report(
    run: Run,
    folder: Path,
    config: EvaluateConfig,
    workers: WorkersConfig,
    metrics: Metrics,
    rounds: Sequence[Run] = (),
) -> dict[str, Any]:
    """What evaluation.json holds, or a new one; `rounds` made the bundle."""
    if (known := _known(run, folder, config)) is not None:
        if not (run.folder / HISTOGRAM).exists():
            _histogram(run, known, metrics)
        return known
    bundle = Bundle.load(folder)
    seeds = environment_seeds(config.split, 0, config.episodes)
    returns = _play(run, folder, bundle, seeds, workers)
    baselines = baselines_of(bundle.world, workers, run)
    played, _ = evaluate_open_loop(bundle.world, baselines, seeds, workers, label="baselines")
    report = {
        "environment": bundle.world.config.id,
        "split": config.split,
        "episodes": len(seeds),
        **asdict(interval(returns)),
        "returns": returns,
        "seeds": [seeds[0], len(seeds)],
        "baselines": {
            one.name: {"argument": one.argument, **_beside(returns, theirs)}
            for one, theirs in zip(baselines, played, strict=True)
        },
        **circumstances(),
        "bundle_sha256": file_hash(folder / "weights.safetensors"),
        **({"real_frames": _real_frames(rounds, bundle.world)} if rounds else {}),
        "seconds": Metrics.making(rounds) + metrics.seconds,
    }
    save_json(run.evaluation_file, report)
    means = {f"{name}_mean": row["mean"] for name, row in report["baselines"].items()}
    metrics.log(0, mean=report["mean"], low=report["ci95"][0], high=report["ci95"][1], **means)
    _histogram(run, report, metrics)
    _print(report, run, folder)
    _check(report["baselines"], metrics)
    return report


def _sign(run: Run, report: dict[str, Any]) -> None:
    """Writes the scores into the bundle's description and card; the weights stay the same.

    The command there is the one that evolved C, in whichever round.
    """
    bundle = Bundle.load(run.bundle)
    names = "split", "episodes", "seeds", "mean", "std", "ci95"
    scores = {name: report[name] for name in names}
    scores |= {name: row["mean"] for name, row in report["baselines"].items()}
    ends = (line for one in _makers(run) for line in Metrics.ends(one))
    evolved = [line["command"] for line in ends if line["stage"] == "evolve" and "command" in line]
    command = (evolved or [report["command"]])[-1]
    command = re.sub(r" --run[ =]\S+", "", command)  # the folder is this machine's
    made = {"command": command, "licence": "MIT", "scores": scores}
    replace(bundle, about=bundle.about | made).save(run.bundle)


def _known(run: Run, folder: Path, config: EvaluateConfig) -> dict[str, Any] | None:
    """The contents of evaluation.json, if it holds this bundle on these episodes."""
    if not run.evaluation_file.exists():
        return None
    report = load_like(run.evaluation_file, Report)
    first = environment_seeds(config.split, 0, 1)[0]
    wanted = [first, config.episodes], file_hash(folder / "weights.safetensors")
    if (report.get("seeds"), report.get("bundle_sha256")) != wanted:
        return None
    if len(report["baselines"]) < 2:  # older files may have random actions only
        return None
    say(f"{run.evaluation_file} already exists")
    return report


def _write_bundle(run: Run, dream: DreamConfig, seed: int) -> None:
    vae = load_vae(run)
    mdnrnn = load_mdnrnn(run)
    saved = load_controller(run)
    if run.starts.exists():  # of an unpacked bundle
        starts = load_starts(run.starts)
    else:
        how: Any = {"window": dream.warmup, "kind": dream.starts, "seed": seed}
        starts = sample_starts(latent_source(run), count=STARTS, **how)
    made = {"seed": seed, "validation": saved.validation_return}
    bundle = Bundle(
        load_world(run),
        vae,
        mdnrnn,
        controller_for(saved.config, mdnrnn),
        saved.best,
        starts,
        asdict(dream.plain),
        made,
    )
    replace(bundle, recordings=record(bundle)).save(run.bundle)


def _play(
    run: Run, folder: Path, bundle: Bundle, seeds: list[int], workers: WorkersConfig
) -> np.ndarray:
    """The agent's returns, in chunks; chunks that this bundle has played already are kept."""
    models = ModelFiles.of_bundle(folder)
    reality = Reality(bundle.world, models, bundle.controller, official=True)
    measure = Evaluation(place=reality, workers=workers, label="evaluate")
    partial = run.folder / "evaluation.partial.json"
    known = load_like(partial, Partial) if partial.exists() else {}
    if known.get("bundle") != models.hashes[0]:
        known = {"bundle": models.hashes[0], "chunks": {}}
    parameters = bundle.parameters.double().numpy()[None]
    returns: list[float] = []
    for start in range(0, len(seeds), CHUNK):
        chunk = seeds[start : start + CHUNK]
        key = f"{chunk[0]}+{len(chunk)}"
        if key not in known["chunks"]:
            known["chunks"][key] = measure(parameters, chunk)[0][0].tolist()
            save_json(partial, known)
        returns += known["chunks"][key]
    return np.array(returns)


def _beside(returns: np.ndarray, baseline: np.ndarray) -> dict[str, Any]:
    """A baseline's numbers, and the agent's lead over it on the same episodes."""
    return {
        **asdict(interval(baseline)),
        "episodes": len(baseline),
        "returns": baseline,
        "paired_ci95": interval(returns - baseline).ci95,
    }


def _real_frames(runs: Iterable[Run], world: World) -> dict[str, int]:
    steps = {"collect": 0, "validate": 0, "evolve": 0}
    for run in runs:
        steps["collect"] += steps_of(run.episodes)
        if run.episodes.exists() and run.controller.exists():
            for name, count in load_controller(run).real_steps.items():
                steps[name] += count
        if (run.folder / "selection.json").exists():
            steps["validate"] += load_like(run.folder / "selection.json", Selection)["steps"]
    return {name: count * world.config.action_repeat for name, count in steps.items()}


def _histogram(run: Run, report: dict[str, Any], metrics: Metrics) -> None:
    try:
        figure = new_figure(6, 3.5)
    except InputError as error:
        say(str(error))
        return
    draw_histogram(figure, report)
    save_figure(figure, run.folder / HISTOGRAM, dpi=120)
    metrics.picture("test_episodes", 0, run.folder / HISTOGRAM)


def draw_histogram(figure: Any, report: dict[str, Any]) -> None:
    """The episode returns of an evaluation.json: the agent's and those of the baselines."""
    axes = figure.subplots()
    rows = {"agent": report, **report["baselines"]}
    bins = np.histogram_bin_edges(np.concatenate([row["returns"] for row in rows.values()]), 30)
    for name, row in rows.items():
        label = f"{name}: {row['mean']:.0f} ± {row['std']:.0f}"
        axes.hist(row["returns"], list(bins), alpha=0.6, label=label)
    axes.set_xlabel("episode return")
    axes.set_ylabel("episodes")
    axes.legend()


def _print(report: dict[str, Any], run: Run, folder: Path) -> None:
    rows = {"agent": report, **report["baselines"]}
    say(f"{report['environment']}, {report['episodes']} {report['split']} episodes:")
    for name, row in rows.items():
        low, high = row["ci95"]
        line = f"  {name:10} {row['mean']:8.1f} ± {row['std']:.1f}   95% [{low:.1f}, {high:.1f}]"
        if "paired_ci95" in row:
            line += "   agent's lead: [{:.1f}, {:.1f}]".format(*row["paired_ci95"])
        say(line)
    say(f"{run.evaluation_file} holds the numbers, {folder} the agent")


def _check(baselines: dict[str, Any], metrics: Metrics) -> None:
    """Sanity bands: the agent is better than every policy that sees nothing."""
    for name, row in baselines.items():
        low, high = row["paired_ci95"]
        same = "its returns are the same: it acts like this policy; " if low == high == 0 else ""
        metrics.check(
            f"the agent's lead over {name}, low end of its 95% interval,",
            low,
            0.0,
            np.inf,
            f"{same}C makes no use of its inputs: `worldmodels inspect-dream RUN` shows whether "
            "the dream is like reality; if it is, raise evolve.generations",
            above=True,
        )
