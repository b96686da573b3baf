"""Figures of a run's training, from the metrics of its rounds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from worldmodels.acting.evaluate import interval
from worldmodels.diagnostics.figures import DREAM, GREY, REAL
from worldmodels.report.material import Round
from worldmodels.run import AFTERWARDS

COPY = "tab:orange"


def draw_returns(figure: Any, rounds: Sequence[Round]) -> None:
    """Validation in reality above, the dream's returns below, by generation over all rounds."""
    above, below = figure.subplots(2, 1, sharex=True)
    for one, begin in zip(rounds, _begins(rounds, "evolve"), strict=True):
        places = [begin + each.generation for each in one.validated]
        above.errorbar(places, *_intervals(one), fmt="o-", color=REAL, ms=3, lw=1, capsize=2)
        steps, means = one.logged("evolve", "mean")
        _, deviations = one.logged("evolve", "std")
        x, y, error = np.array(steps), np.array(means), np.array(deviations)
        parts = x // one.total * 2 + ~one.in_dream(x)  # of each evolution: dream, then reality
        for number in np.unique(parts):
            part, color = parts == number, REAL if number % 2 else DREAM
            below.plot(begin + x[part], y[part], color=color, lw=1)
            low, high = (y - error)[part], (y + error)[part]
            below.fill_between(begin + x[part], low, high, color=color, alpha=0.3, lw=0)
        if begin:
            for axes in (above, below):
                axes.axvline(begin, color=GREY, lw=0.5)
    above.set_ylabel("real return")
    below.set(ylabel="return in training", xlabel="generation, over all rounds")


def draw_dream_against_reality(figure: Any, rounds: Sequence[Round]) -> None:
    """A point for each validation after generations in the dream."""
    axes = figure.subplots()
    for one in rounds:
        points = dreamt_and_real(one)
        if points:
            x, y, low, high = np.array(points).T
            axes.errorbar(x, y, [y - low, high - y], fmt="o", color=DREAM, ms=4, lw=1, capsize=2)
            for place in zip(x, y, strict=True):
                shown = str(one.index) if len(rounds) > 1 else ""
                shift = {"xytext": (5, 4), "textcoords": "offset points", "fontsize": 9}
                axes.annotate(shown, place, **shift)
    axes.set(xlabel="mean return in the dream", ylabel="mean return in reality")


def dreamt_and_real(one: Round) -> list[tuple[float, float, float, float]]:
    """Of each validation: the dream's mean return then, the real one, and its interval."""
    means, found = dict(zip(*one.logged("evolve", "mean"), strict=True)), []
    for each in one.validated:
        dreamt = means.get(each.generation - 1)
        if dreamt is not None and one.in_dream(each.generation - 1):
            real = interval(each.returns)
            found.append((dreamt, real.mean, *real.ci95))
    return found


def draw_vae(figure: Any, rounds: Sequence[Round]) -> None:
    """V's two losses by training step."""
    from matplotlib import ticker

    above, below = figure.subplots(2, 1, sharex=True)
    _draw_logged(above, rounds, "train_vae", "reconstruction", REAL)
    _draw_logged(below, rounds, "train_vae", "kl", DREAM)
    above.set(yscale="log", ylabel="squared error")
    above.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    above.yaxis.set_major_formatter(ticker.ScalarFormatter())
    above.yaxis.set_minor_locator(ticker.NullLocator())
    below.set(ylabel="KL in nats", xlabel="training step, over all rounds")


def draw_mdnrnn(figure: Any, rounds: Sequence[Round]) -> None:
    """M's nats by training step, between the bounds that were checked at each round's end."""
    axes = figure.subplots()
    ends = _draw_logged(axes, rounds, "train_mdnrnn", "nll", DREAM, "M")
    bounds = (
        ("check_copy_z", "no change of z", COPY),
        ("check_floor", "the best possible (entropy of V's posterior)", REAL),
    )
    for name, label, color in bounds:
        values = [one.logged("train_mdnrnn", name)[1] for one in rounds]
        known = [(end, value[-1]) for end, value in zip(ends, values, strict=True) if value]
        if known:
            axes.plot(*zip(*known, strict=True), "o--", ms=3, color=color, label=label)
    axes.set(xlabel="training step, over all rounds", ylabel="nats per dimension")
    axes.legend(fontsize="small")


def draw_minutes(figure: Any, minutes: dict[str, float]) -> None:
    """A bar for each stage."""
    axes = figure.subplots()
    colors = [GREY if stage in AFTERWARDS else DREAM for stage in minutes]
    bars = axes.barh(list(minutes), list(minutes.values()), color=colors)
    axes.bar_label(bars, fmt=" %.1f", color=axes.xaxis.label.get_color())
    axes.invert_yaxis()
    axes.set_xlabel("minutes")


def _intervals(one: Round) -> tuple[list[float], np.ndarray]:
    """Means of the validations, and how far their intervals reach below and above."""
    found = [interval(each.returns) for each in one.validated]
    means = [each.mean for each in found]
    reach = [(each.mean - each.ci95[0], each.ci95[1] - each.mean) for each in found]
    return means, np.array(reach).reshape(-1, 2).T


def _draw_logged(
    axes: Any, rounds: Sequence[Round], stage: str, name: str, color: str, label: str | None = None
) -> list[int]:
    """Draws what was logged, one round after the other; returns where each round ends."""
    begins = _begins(rounds, stage)
    for one, begin in zip(rounds, begins, strict=True):
        steps, values = one.logged(stage, name)
        axes.plot([begin + step for step in steps], values, color=color, lw=1, label=label)
        label = None
        if begin:
            axes.axvline(begin, color=GREY, lw=0.5)
    return [begin + one.length(stage) for one, begin in zip(rounds, begins, strict=True)]


def _begins(rounds: Sequence[Round], stage: str) -> list[int]:
    """The step of all rounds together at which each begins."""
    return list(accumulate((one.length(stage) for one in rounds), initial=0))[:-1]
