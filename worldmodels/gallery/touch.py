"""Touch performances: M over x, y and the time between touches, and responses to a call.

Source: Martin & Torresen 2018, "RoboJam: A Musical Mixture Density Network for Collaborative
Touchscreen Interaction".
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy.stats import ks_2samp, norm
from torch import Tensor

from worldmodels.errors import InputError
from worldmodels.figure import new_figure, save_figure
from worldmodels.gallery.public_files import load_npz, reading
from worldmodels.gallery.system import Numbers, System, falling
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.mixture import MIN_LOG_STD
from worldmodels.models.sequence import masked_mean
from worldmodels.ranges import PositiveFloat, PositiveInt, Range
from worldmodels.run import Metrics
from worldmodels.seeding import numpy_generator, torch_generator
from worldmodels.stages.fit import FitConfig

Performance = Float32[np.ndarray, "_ 3"]
"""x and y from 0 to 1, and the seconds since the touch before, 0 to 5."""

LIMITS = np.array([1, 1, 5.0])
"""Largest x, y and seconds; longer pauses are shortened."""
NEW_TOUCH = 0.1
"""A touch after more than this many seconds begins a new stroke. Source: RoboJam."""
QUANTILES = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
WHERE = (
    "touch needs --data: TinyPerformanceArrays.npz of "
    "https://github.com/cpmpercussion/creative-prediction, an npz of points and offsets, or a "
    "folder of IMPSY logs (https://github.com/cpmpercussion/impsy)"
)


@dataclass(frozen=True, kw_only=True)
class Touch(System):
    """Touch performances: call and response."""

    free = frozenset({"seconds", "temperature", "compared"})
    float32 = True  # a touch moves by less than bfloat16 can tell

    data: str | None = None
    """npz of performances, or a folder of IMPSY logs; required."""
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
        split = Split.of(read_performances(Path(self.data)), self.seed)
        model = self.network(metrics, split)
        generator = torch_generator(self.seed, "responses")
        calls = split.test[: self.compared]
        played = [respond(model, split, call, self, generator) for call in calls]
        real = [split.restored(torch.from_numpy(call)) for call in split.test]
        times = [np.concatenate([p[:, 2] for p in group]) for group in (played, real)]
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

        return self.trained(metrics, lambda: MDNRNN(sizes, 3, 0), loss, "touch")


def read_performances(path: Path) -> list[Performance]:
    """Performances of an npz, an IMPSY log or a folder of logs, clipped to their ranges.

    One of a single touch is left out.

    Raises:
        InputError: there are none, or a file is broken or of another kind.
    """
    with reading(path, "a file of performances"):
        if path.is_dir() or path.suffix == ".log":
            raw = [_log(file) for file in (sorted(path.glob("*.log")) if path.is_dir() else [path])]
        else:
            raw = next((found for found in load_npz(path).values() if isinstance(found, list)), [])
        kept = [np.asarray(p, np.float32)[:, :3] for p in raw if p.ndim == 2 and p.shape[1] >= 3]
        kept = [np.clip(p, 0, LIMITS).astype(np.float32) for p in kept if len(p) > 1]
    if len(kept) < 10:
        raise InputError(f"{path} has {len(kept)} performances of x, y, dt: 10 are needed")
    if not all(np.isfinite(p).all() for p in kept):
        raise InputError(f"{path} has performances that are not finite: use another file")
    return kept


def _log(path: Path) -> np.ndarray:
    """A performance of lines of time, source, x, y..."""
    with reading(path, "an IMPSY log"), open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if len(row) >= 4 and row[1] == "interface"]
        times = np.array([datetime.fromisoformat(row[0]).timestamp() for row in rows])
        places = np.array([[float(value) for value in row[2:4]] for row in rows]).reshape(-1, 2)
    return np.column_stack([places, np.diff(times, prepend=times[:1])])


@dataclass(frozen=True)
class Split:
    """Performances, normalised by the training set's mean and standard deviation."""

    train: list[Performance]
    test: list[Performance]
    mean: Float32[np.ndarray, " 3"]
    std: Float32[np.ndarray, " 3"]

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
        """Values in shares of a screen and in seconds, within their ranges."""
        return np.clip(values.numpy() * self.std + self.mean, 0, LIMITS).astype(np.float32)


def windows(
    performances: Sequence[Performance], length: int, generator: np.random.Generator
) -> tuple[Float[Tensor, "B T 3"], Bool[Tensor, "B T-1"]]:
    """A stretch of each performance, and which of its next touches are known."""
    values = torch.zeros(len(performances), length, 3)
    known = torch.zeros(len(performances), length - 1, dtype=torch.bool)
    for row, performance in enumerate(performances):
        start = int(generator.integers(max(1, len(performance) - length + 1)))
        stretch = torch.from_numpy(performance[start : start + length])
        values[row, : len(stretch)] = stretch
        known[row, : len(stretch) - 1] = True
    return values, known


def log_prob(model: MDNRNN, values: Float[Tensor, "B T 3"]) -> Float[Tensor, "B T-1"]:
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
        time += float(played[-1][0, 2])
    return np.concatenate(played)


def taps(performance: Performance) -> float:
    """Share of strokes that are a single touch."""
    starts = np.append(performance[:, 2] > NEW_TOUCH, True)
    starts[0] = True
    return float((np.diff(np.flatnonzero(starts)) == 1).mean())


def _draw(metrics: Metrics, calls: list[Performance], responses: list[Performance]) -> None:
    figure = new_figure(11, 5.4)
    for axes, call, response in zip(figure.subplots(2, 4).ravel(), calls, responses, strict=False):
        for performance, color in ((call, "tab:blue"), (response, "tab:red")):
            starts = np.flatnonzero(performance[:, 2] > NEW_TOUCH)
            for touch in np.split(performance, starts[starts > 0]):
                axes.plot(touch[:, 0], 1 - touch[:, 1], ".-", color=color, markersize=3, lw=0.8)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], aspect="equal")
    figure.suptitle("call in blue, response in red", fontsize="small")
    save_figure(figure, metrics.run.folder / "touch.png", dpi=80)
