"""Touch performances: M over some controls and the time between touches, and responses to a call.

Source: Martin & Torresen 2018, "RoboJam: A Musical Mixture Density Network for Collaborative
Touchscreen Interaction".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy.stats import ks_2samp, norm
from torch import Tensor

from worldmodels.errors import InputError
from worldmodels.figure import new_figure, save_figure
from worldmodels.files import read_bytes
from worldmodels.gallery.public_files import kept, load_npz, reading
from worldmodels.gallery.system import Numbers, System, falling
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.mixture import MIN_LOG_STD
from worldmodels.models.sequence import masked_mean
from worldmodels.ranges import PositiveFloat, PositiveInt, Range
from worldmodels.run import Metrics, say
from worldmodels.seeding import numpy_generator, torch_generator
from worldmodels.stages.fit import FitConfig

Performance = Float32[np.ndarray, "_ D"]
"""Controls from 0 to 1, such as x and y, and the seconds since the touch before, 0 to 5."""

LONGEST = 5.0
"""Seconds; longer pauses are shortened."""
OUTSIDE = 0.05
"""Data with a larger share of controls outside of 0 to 1 have another unit; fewer are clipped."""
FEWEST = 10
"""Performances that are needed; long ones are cut into so many."""
SHORTEST = 20
"""Touches of a part that is cut."""
NEW_TOUCH = 0.1
"""A touch after more than this many seconds begins a new stroke. Source: RoboJam."""
QUANTILES = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
WHERE = (
    "touch needs --data: TinyPerformanceArrays.npz of "
    "https://github.com/cpmpercussion/creative-prediction, an npz of points and offsets, or a "
    "folder of IMPSY logs or its npz (https://github.com/cpmpercussion/impsy)"
)


@dataclass(frozen=True, kw_only=True)
class Touch(System):
    """Touch performances: call and response."""

    free = frozenset({"seconds", "temperature", "compared"})
    float32 = True  # a touch moves by less than bfloat16 can tell

    data: str | None = None
    """npz of performances, IMPSY's too, or a folder of IMPSY logs; required."""
    time: Literal["auto", "first", "last"] = "auto"
    """Column of an npz that holds the seconds; auto: first in IMPSY's (`perfs`), last in one of
    x, y and seconds."""
    length: Annotated[int, Range(2.0)] = 120
    """Touches in a training sequence."""
    hidden_size: PositiveInt = 256
    """Units of the LSTM. Differs: the source has three layers of 512."""
    num_mixtures: PositiveInt = 16
    """Normals in the mixture."""
    train: FitConfig = falling(steps=4000, batch_size=64, learning_rate=2e-3, gradient_clip=1.0)
    seconds: PositiveFloat = 5.0
    """Of a response."""
    temperature: PositiveFloat = 1.0
    """Of a response."""
    compared: PositiveInt = 200
    """Held-out performances that are answered and compared."""

    def show(self, metrics: Metrics) -> Numbers:
        """Likelihoods, times between touches, taps; and a figure of calls and responses."""
        if self.data is None:
            raise InputError(WHERE)
        split = Split.of(read_performances(Path(self.data), self.time), self.seed)
        model = self.network(metrics, split)
        generator = torch_generator(self.seed, "responses")
        calls = split.test[: self.compared]
        played = [respond(model, split, call, self, generator) for call in calls]
        real = [split.restored(torch.from_numpy(call)) for call in split.test]
        times = [np.concatenate([p[:, -1] for p in group]) for group in (played, real)]
        _draw(metrics, real, played)
        return {
            "performances": {"train": len(split.train), "test": len(split.test)},
            "sigma_floor": (math.exp(MIN_LOG_STD) * split.std).tolist(),
            "nll": nats(model, split.test),
            **baselines(split),
            "quantiles": QUANTILES,
            "dt_played": np.quantile(times[0], QUANTILES).tolist(),
            "dt_real": np.quantile(times[1], QUANTILES).tolist(),
            "taps_played": float(np.mean([taps(p) for p in played])),
            "taps_real": float(np.mean([taps(p) for p in real])),
            "ks_dt": float(ks_2samp(*times).statistic),
        }

    def network(self, metrics: Metrics, split: Split) -> MDNRNN:
        """M trained on stretches, sampled in proportion to the performances' lengths."""
        sizes = MDNRNNConfig(
            hidden_size=self.hidden_size, num_mixtures=self.num_mixtures, mixture="joint"
        )
        lengths = np.array([len(p) for p in split.train], float)
        shares = lengths / lengths.sum()

        def loss(model: MDNRNN, step: int) -> Tensor:
            generator = numpy_generator(self.seed, "batch", step)
            rows = generator.choice(len(shares), self.train.batch_size, p=shares)
            some = [split.train[row] for row in rows]
            values, known = windows(some, self.length, generator)
            return masked_mean(-log_prob(model, values), known)

        return self.trained(metrics, lambda: MDNRNN(sizes, len(split.mean), 0), loss, "touch")


def read_performances(path: Path, time: str = "auto") -> list[Performance]:
    """Performances of an npz, an IMPSY log or a folder of logs, clipped to their ranges.

    One of a single touch is left out. Where there are only a few, long ones are cut into parts.

    Raises:
        InputError: there are too few, their columns are unknown, or the data are of another kind.
    """
    with reading(path, "a file of performances"):
        if path.is_dir() or path.suffix == ".log":
            files = sorted(path.glob("*.log")) if path.is_dir() else [path]
            if not files:
                raise InputError(f"{path} has no IMPSY log (*.log): name another --data")
            raw = kept(path, ((file.name, partial(_log, file)) for file in files))
        else:
            raw = _arrays(path, time)
        if len(sizes := {part.shape[1] for part in raw}) > 1:
            raise InputError(f"{path} has performances of {sorted(sizes)} columns: use another")
        found = [part.astype(np.float32) for part in raw if len(part) > 1]
        _check_units(path, found)
        every = np.concatenate(found) if found else np.zeros((0, 2), np.float32)
        if count := int((_clipped(every) != every).any(1).sum()):
            limits = f"0 to 1, and times to 0 to {LONGEST:g} seconds"
            say(f"{path}: {count} of {len(every)} touches are clipped: controls to {limits}")
        return [_clipped(part) for part in _enough(path, found)]


def _clipped(performance: np.ndarray) -> Performance:
    """Within its ranges."""
    return np.clip(performance, 0, _limits(performance.shape[1])).astype(np.float32)


def _limits(columns: int) -> np.ndarray:
    """The largest controls and seconds."""
    return np.append(np.ones(columns - 1), LONGEST)


def _arrays(path: Path, time: str) -> list[np.ndarray]:
    """The arrays of an npz, time last."""
    lists = {name: part for name, part in load_npz(path).items() if isinstance(part, list)}
    if len(lists) != 1:
        raise InputError(f"{path} has {len(lists)} lists of performances: one is needed")
    ((name, parts),) = lists.items()
    found = kept(path, ((f"performance {n}", partial(_table, p)) for n, p in enumerate(parts, 1)))
    if time == "auto" and name != "perfs" and not _looks_last(found):
        raise InputError(
            f"{path} does not say which column holds the seconds: add --time first or --time last"
        )
    first = time == "first" or (time == "auto" and name == "perfs")
    return [np.roll(part, -1, axis=1) for part in found] if first else found


def _table(part: np.ndarray) -> np.ndarray:
    if part.ndim != 2 or part.shape[1] < 2 or part.dtype.kind == "b":
        raise ValueError(f"{part.dtype} of {part.shape} is not (touches, controls and seconds)")
    with np.errstate(over="ignore"):
        found = part.astype(np.float32)
    if not np.isfinite(found).all():
        raise ValueError("it is not finite")
    return found


def _looks_last(parts: Sequence[np.ndarray]) -> bool:
    """Whether these are x, y and seconds: most begin with 0 seconds, and seconds are uneven.

    The 99th percentile of seconds is many times their median, that of a control is not.
    """
    if {part.shape[1] for part in parts} != {3}:
        return False
    begins = np.mean([part[0, -1] == 0 for part in parts if len(part)])
    median, most = np.quantile(np.concatenate(parts), [0.5, 0.99], axis=0)
    uneven = most / np.maximum(median, 1e-6)
    return bool(begins > 0.5 and uneven[-1] > uneven[0])


def _check_units(path: Path, parts: Sequence[np.ndarray]) -> None:
    """Raises where controls are not shares, or times are not seconds."""
    every = np.concatenate([part for part in parts if len(part)] or [np.zeros((1, 2))])
    outside = ((every[:, :-1] < 0) | (every[:, :-1] > 1)).mean(0)
    if (outside > OUTSIDE).any():
        raise InputError(
            f"{path}: {outside.max():.0%} of control {outside.argmax() + 1} lie outside of 0 to 1: "
            "divide it by its largest value"
        )
    if np.median(every[:, -1]) > LONGEST or (every[:, -1] < 0).mean() > OUTSIDE:
        raise InputError(f"{path}: times are not seconds since the touch before: use another file")


def _enough(path: Path, parts: list[np.ndarray]) -> list[np.ndarray]:
    """At least `FEWEST` performances; the longest are cut in halves until there are so many."""
    found = list(parts)
    while found and len(found) < FEWEST and max(map(len, found)) >= 2 * SHORTEST:
        longest = found.pop(int(np.argmax([*map(len, found)])))
        found += np.array_split(longest, 2)
    if len(found) < FEWEST:
        raise InputError(f"{path} has {len(found)} performances: {FEWEST} are needed")
    if len(found) > len(parts):
        say(f"{path} has {len(parts)} performances: they are cut into {len(found)}")
    return found


def _log(path: Path) -> np.ndarray:
    """A performance of lines of time, source, and any number of controls."""
    with reading(path, "an IMPSY log"):
        text = read_bytes(path).decode("utf-8-sig", errors="replace")
        lines = [(f"line {n}", line) for n, line in enumerate(text.split("\n"), 1)]
        if not lines[-1][1]:  # after the last line
            lines.pop()
        touches = kept(path, ((place, partial(_touch, line)) for place, line in lines))
    return _in_order(path, [touch for touch in touches if touch is not None])


def _touch(line: str) -> tuple[datetime, list[float]] | None:
    """Time and controls of a line; None: M played it."""
    time, source, *controls = line.strip().split(",")
    if source != "interface":
        return None
    values = [float(value) for value in controls]
    if not values or not all(map(math.isfinite, values)):
        raise ValueError("it has no finite controls")
    return datetime.fromisoformat(time), values


def _in_order(path: Path, touches: Sequence[tuple[datetime, list[float]]]) -> np.ndarray:
    """Controls and the seconds since the touch before.

    Raises:
        InputError: touches have different numbers of controls, or the clock goes back.
    """
    if not touches:
        raise InputError(f"{path} has no touch of `interface`")
    if len({len(values) for _, values in touches}) > 1:
        raise InputError(f"{path} has touches with different numbers of controls")
    times = [time for time, _ in touches]
    seconds = [0.0, *((b - a).total_seconds() for a, b in pairwise(times))]
    if min(seconds) < 0:
        raise InputError(f"{path}: touch {int(np.argmin(seconds)) + 1} is before the one before it")
    return np.column_stack([[values for _, values in touches], seconds])


@dataclass(frozen=True)
class Split:
    """Performances, normalised by the training set's mean and standard deviation."""

    train: list[Performance]
    test: list[Performance]
    mean: Float32[np.ndarray, " D"]
    std: Float32[np.ndarray, " D"]

    @classmethod
    def of(cls, performances: Sequence[Performance], seed: int) -> Split:
        """Nine in ten performances are for training: windows of one performance are too similar."""
        order = numpy_generator(seed, "touch split").permutation(len(performances))
        first, rest = np.split(order, [len(order) * 9 // 10])
        together = np.concatenate([performances[i] for i in first])
        mean, std = together.mean(0), together.std(0).clip(1e-6)
        train, test = ([(performances[i] - mean) / std for i in part] for part in (first, rest))
        return cls(train, test, mean, std)

    def restored(self, values: Tensor) -> Performance:
        """Controls and seconds, within their ranges."""
        found = values.numpy() * self.std + self.mean
        return np.clip(found, 0, _limits(len(self.mean))).astype(np.float32)


def windows(
    performances: Sequence[Performance], length: int, generator: np.random.Generator
) -> tuple[Float[Tensor, "B T D"], Bool[Tensor, "B T-1"]]:
    """A stretch of each performance, and which of its next touches are known."""
    values = torch.zeros(len(performances), length, performances[0].shape[1])
    known = torch.zeros(len(performances), length - 1, dtype=torch.bool)
    for row, performance in enumerate(performances):
        start = int(generator.integers(max(1, len(performance) - length + 1)))
        stretch = torch.from_numpy(performance[start : start + length])
        values[row, : len(stretch)] = stretch
        known[row, : len(stretch) - 1] = True
    return values, known


def log_prob(model: MDNRNN, values: Float[Tensor, "B T D"]) -> Float[Tensor, "B T-1"]:
    """Of each next touch."""
    return model(values[:, :-1], None, None)[0].mixture.log_prob(values[:, 1:])


@torch.inference_mode()
def nats(model: MDNRNN, performances: Sequence[Performance]) -> float:
    """Nats a touch, given its whole past."""
    found = [log_prob(model, torch.from_numpy(each)[None])[0].double() for each in performances]
    return -float(torch.cat(found).mean())


def baselines(split: Split) -> dict[str, float]:
    """Nats a touch of one normal, and of a normal around the last touch; both with M's least σ."""
    floor, parts = math.exp(MIN_LOG_STD), (split.train, split.test)
    touches, test = (np.concatenate([p[1:] for p in part]) for part in parts)
    steps, test_steps = (np.concatenate([np.diff(p, axis=0) for p in part]) for part in parts)
    normal = norm(touches.mean(0), touches.std(0).clip(floor)).logpdf(test)
    persistence = norm(0, steps.std(0).clip(floor)).logpdf(test_steps)
    return {
        "normal": -float(normal.sum(1).mean()),
        "persistence": -float(persistence.sum(1).mean()),
    }


@torch.inference_mode()
def respond(
    model: MDNRNN, split: Split, call: Performance, config: Touch, generator: torch.Generator
) -> Performance:
    """M's continuation of a call: as long as the config says, at most 2,000 touches."""
    _, state = model(torch.from_numpy(call[None, :-1]), None, None)
    touch, played, time = torch.from_numpy(call[-1:]), list[Performance](), 0.0
    while time < config.seconds and len(played) < 2000:
        state = model.step(touch, None, None, state)
        sample = model.predict(state[0]).mixture.sample(config.temperature, generator)
        played.append(split.restored(sample))
        touch = torch.from_numpy((played[-1] - split.mean) / split.std)
        time += float(played[-1][0, -1])
    return np.concatenate(played)


def taps(performance: Performance) -> float:
    """Share of strokes that are a single touch."""
    starts = np.append(performance[:, -1] > NEW_TOUCH, True)
    starts[0] = True
    return float((np.diff(np.flatnonzero(starts)) == 1).mean())


def _draw(metrics: Metrics, calls: list[Performance], responses: list[Performance]) -> None:
    figure = new_figure(11, 5.4)
    paint = _paint_places if calls[0].shape[1] == 3 else _paint_controls
    every = figure.subplots(2, 4).ravel()
    for axes, call, response in zip(every, calls, responses, strict=False):
        paint(axes, call, response)
    for axes in every[min(len(calls), len(responses)) :]:
        axes.axis("off")
    figure.suptitle("call in blue, response in red", fontsize="small")
    save_figure(figure, metrics.run.folder / "touch.png", dpi=80)


def _paint_places(axes: Any, call: Performance, response: Performance) -> None:
    """Strokes of x and y on the screen."""
    for performance, color in ((call, "tab:blue"), (response, "tab:red")):
        starts = np.flatnonzero(performance[:, -1] > NEW_TOUCH)
        for touch in np.split(performance, starts[starts > 0]):
            axes.plot(touch[:, 0], 1 - touch[:, 1], ".-", color=color, markersize=3, lw=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], aspect="equal")


def _paint_controls(axes: Any, call: Performance, response: Performance) -> None:
    """Controls over time, one above the other: the end of the call, and the response."""
    call = call[-len(response) :]
    times = np.concatenate([call, response])[:, -1].cumsum()
    for number in range(call.shape[1] - 1):
        before, after = call[:, number] + 1.1 * number, response[:, number] + 1.1 * number
        axes.step(times[: len(call)], before, where="post", color="tab:blue", lw=0.8)
        axes.step(times[len(call) :], after, where="post", color="tab:red", lw=0.8)
    axes.set(yticks=[])
    axes.set_xlabel("seconds", fontsize="small")
