"""All stages and rounds, from collecting to the report; continues an interrupted run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from worldmodels.artifacts import has_film, link_all, load_controller, unlink_all
from worldmodels.config import Config
from worldmodels.envs.preflight import preflight
from worldmodels.errors import InputError
from worldmodels.estimate import LEAST, expected_minutes, minutes_left
from worldmodels.figure import new_figure
from worldmodels.files import save_text
from worldmodels.report.report import report, told_by
from worldmodels.run import Metrics, Run, say
from worldmodels.stages.collect import collect
from worldmodels.stages.encode import encode
from worldmodels.stages.evaluate import evaluate
from worldmodels.stages.evolve import evolve
from worldmodels.stages.explore import Evolved
from worldmodels.stages.select_round import select_round
from worldmodels.stages.train_mdnrnn import train_mdnrnn
from worldmodels.stages.train_vae import train_vae
from worldmodels.stages.watch import FILMS, watch

KEPT = ("world.json", "vae", "mdnrnn", "latents", "controller")
"""What the best round gives to the top level of a run of several rounds."""
FILM_KINDS = "webm", "webp"


def pipeline(run: Run, config: Config) -> None:
    """Runs what is missing of `config.rounds` rounds, evaluates the best, films it, reports.

    Source: the iterative procedure of Ha & Schmidhuber 2018, section 5.
    """
    with run.lock():
        rounds = [run] if config.rounds == 1 else [run.round(i) for i in range(config.rounds)]
        if not rounds[0].world_file.exists():
            _expected(config)
        for index, this in enumerate(rounds):
            one_round(this, config.of_round(index))
            validation = load_controller(this).validation_return
            if config.env.live:
                say(f"round {index}: {validation:.1f} on real validation episodes")
            left = minutes_left(rounds[: index + 1], config)
            if left is not None:
                say(f"the rounds that are left take about {left:.0f} minutes on this machine")
        if config.rounds > 1:
            first = config.evolve.validation_episodes + config.evolve.final_episodes
            best = select_round(run, rounds, config.select, config.workers, first)
            _copy(best, run)
        config = config.of_round(run.holds)
        evaluate(run, config.dream, config.evaluate, config.workers, config.seed)
        if config.controller.senses == "own" and not _filmed(run, config):
            watch(run, config.watch, config.seed)
        _minutes([*rounds, run] if config.rounds > 1 else [run])
        _report(run)


def one_round(run: Run, config: Config) -> None:
    """Collect, train V and M, evolve C.

    Of the episodes that controllers play, half go to the one that the round before chose, and half
    to the last mean of its evolution, to show M where its dream was wrong.
    """
    before = run.earlier[-1] if run.earlier else None
    controllers = [Evolved.of_run(before, which) for which in ("best", "last")] if before else []
    collect(run, config.env, config.collect, config.workers, config.seed, controllers)
    train_vae(run, config.vae, config.train_vae, config.seed)
    encode(run)
    train_mdnrnn(run, config.mdnrnn, config.train_mdnrnn, config.seed)
    start = before if config.evolve.start == "previous" else None
    evolve(
        run,
        config.controller,
        config.dream,
        config.cma,
        config.evolve,
        config.workers,
        config.seed,
        start,
    )


def _copy(best: Run, run: Run) -> None:
    """Links the best round's files at the top level, and says so last: a kill changes nothing.

    Those of another round are removed, and so are its agent's films.
    """
    done, number = run.best_round_file, f"{best.number}\n"
    if done.exists() and done.read_text() == number:
        return
    if done.exists():  # the best of fewer rounds
        for name in KEPT[1:]:
            unlink_all(run.round(run.holds).folder / name, run.folder / name)
        for film in _films(run, FILMS):
            film.unlink(missing_ok=True)
        done.unlink()
    for name in KEPT:
        link_all(best.folder / name, run.folder / name)
    save_text(done, number)


def _films(run: Run, names: Iterable[str]) -> list[Path]:
    """The files of films."""
    return [run.videos / f"{name}.{kind}" for name in names for kind in FILM_KINDS]


def _filmed(run: Run, config: Config) -> bool:
    if not all(film.exists() for film in _films(run, config.watch.films)):
        return False
    return "dream" not in config.watch.films or has_film(run.bundle)


def _report(run: Run) -> None:
    """Writes the report, unless it is that of the evaluation."""
    file = run.folder / "report.html"
    if file.exists() and told_by(run) in file.read_text(encoding="utf-8", errors="replace"):
        say(f"{file} already exists")
        return
    try:
        new_figure()
    except InputError as error:  # matplotlib is missing
        say(str(error))
    else:
        report(run)


def _expected(config: Config) -> None:
    """Says how long the run will take, unless that is a matter of seconds."""
    if config.env.live and config.train_vae.steps + config.train_mdnrnn.steps >= LEAST:
        world = preflight(config.env, config.workers).world
        minutes = _sum_of(expected_minutes(config, world))
        say(f"expected minutes, if dreams and episodes have their greatest length: {minutes}")


def _minutes(runs: list[Run]) -> None:
    spent = Metrics.spent(runs)
    say(f"minutes: {_sum_of({stage: seconds / 60 for stage, seconds in spent.items()})}")


def _sum_of(minutes: dict[str, float]) -> str:
    parts = ", ".join(f"{stage} {number:.1f}" for stage, number in minutes.items())
    return f"{parts}; all {sum(minutes.values()):.1f}"
