"""Touch performances: M over x, y and the time between touches, and responses to a call.

Source: Martin & Torresen 2018, "RoboJam: A Musical Mixture Density Network for Collaborative
Touchscreen Interaction".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import ks_2samp, norm
from torch import Tensor

from worldmodels.errors import InputError
from worldmodels.figure import new_figure
from worldmodels.gallery.performances import Performance, Split, read_performances, windows
from worldmodels.gallery.system import Numbers, System, initialised, train
from worldmodels.models.masking import masked_mean
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.mixture import MIN_LOG_STD, Temperature
from worldmodels.ranges import PositiveFloat, PositiveInt, Range, Seed
from worldmodels.run import Metrics
from worldmodels.seeding import numpy_generator, torch_generator
from worldmodels.stages.fit import FitConfig

NEW_TOUCH = 0.1
"""A touch after more than this many seconds begins a new stroke. Source: RoboJam."""
WHERE = (
    "touch needs --data: TinyPerformanceArrays.npz of "
    "https://github.com/cpmpercussion/creative-prediction, an npz of points and offsets, or a "
    "folder of IMPSY logs (https://github.com/cpmpercussion/impsy)"
)


@dataclass(frozen=True, kw_only=True)
class TouchShowConfig:
    """What is played; may change without a new training."""

    seconds: PositiveFloat = 5.0
    """Of a response."""
    temperature: PositiveFloat = 1.0
    """Of a response."""
    compared: PositiveInt = 200
    """Held-out performances that are answered and compared."""


@dataclass(frozen=True, kw_only=True)
class TouchConfig:
    """Touch performances."""

    seed: Seed = 0
    """Of the split, initial weights, batches and responses."""
    data: str | None = None
    """npz of performances, or a folder of IMPSY logs; required."""
    length: Annotated[int, Range(2.0)] = 120
    """Touches in a training sequence."""
    hidden_size: PositiveInt = 256
    """Units of the LSTM. Differs: the source has three layers of 512."""
    num_mixtures: PositiveInt = 16
    """Normals in the mixture."""
    train: FitConfig = FitConfig(
        steps=4000, batch_size=64, learning_rate=2e-3, final_learning_rate=1e-5, gradient_clip=1.0
    )
    show: TouchShowConfig = TouchShowConfig()


def trained(metrics: Metrics, config: TouchConfig, split: Split) -> MDNRNN:
    """M trained on stretches, sampled in proportion to the performances' lengths."""
    sizes = MDNRNNConfig(
        hidden_size=config.hidden_size, num_mixtures=config.num_mixtures, mixture="joint"
    )
    model = initialised(config.seed, "touch", make=lambda: MDNRNN(sizes, 3, 0))
    lengths = np.array([len(p) for p in split.train], float)
    shares = lengths / lengths.sum()

    def loss(step: int) -> Tensor:
        generator = numpy_generator(config.seed, "batch", step)
        rows = generator.choice(len(shares), config.train.batch_size, p=shares).tolist()
        values, known = windows(split.train, rows, config.length, generator)
        return masked_mean(-log_prob(model, values), known)

    train(metrics, "touch", model, config.train, loss)
    return model


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
    model: MDNRNN,
    split: Split,
    call: Performance,
    config: TouchShowConfig,
    generator: torch.Generator,
) -> Performance:
    """M's continuation of a call: as long as the config says, at most 2,000 touches."""
    temperature = Temperature.world_models(config.temperature)
    _, state = model(torch.from_numpy(call[None, :-1]), None, None)
    touch, time = torch.from_numpy(call[-1:]), 0.0
    played: list[Tensor] = []
    while time < config.seconds and len(played) < 2000:
        state = model.step(touch, None, None, state)
        touch = model.predict(state[0]).mixture.sample(temperature, generator)
        touch = torch.from_numpy((split.restored(touch) - split.mean) / split.std)
        played.append(touch)
        time += float(split.restored(touch)[0, 2])
    return split.restored(torch.cat(played))


def taps(performance: Performance) -> float:
    """Share of strokes that are a single touch."""
    starts = np.append(performance[:, 2] > NEW_TOUCH, True)
    starts[0] = True
    return float((np.diff(np.flatnonzero(starts)) == 1).mean())


def show(metrics: Metrics, config: TouchConfig) -> Numbers:
    """Likelihoods, times between touches, taps; and a figure of calls and responses."""
    if config.data is None:
        raise InputError(WHERE)
    split = Split.of(read_performances(Path(config.data)), config.seed)
    model = trained(metrics, config, split)
    generator = torch_generator(config.seed, "responses")
    calls = split.test[: config.show.compared]
    played = [respond(model, split, call, config.show, generator) for call in calls]
    real = [split.restored(torch.from_numpy(call)) for call in split.test]
    times = [np.concatenate([p[:, 2] for p in group]) for group in (played, real)]
    quantiles = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
    _draw(metrics, real, played)
    return {
        "performances": {"train": len(split.train), "test": len(split.test)},
        "sigma_floor": (math.exp(MIN_LOG_STD) * split.std).tolist(),
        "nll": nats(model, split.test),
        **baselines(split),
        "quantiles": quantiles,
        "dt_played": np.quantile(times[0], quantiles).tolist(),
        "dt_real": np.quantile(times[1], quantiles).tolist(),
        "taps_played": float(np.mean([taps(p) for p in played])),
        "taps_real": float(np.mean([taps(p) for p in real])),
        "ks_dt": float(ks_2samp(*times).statistic),
    }


def _draw(metrics: Metrics, calls: list[Performance], responses: list[Performance]) -> None:
    figure = new_figure(11, 5.4)
    for axes, call, response in zip(figure.subplots(2, 4).ravel(), calls, responses, strict=False):
        for performance, color in ((call, "tab:blue"), (response, "tab:red")):
            starts = np.flatnonzero(performance[:, 2] > NEW_TOUCH)
            for touch in np.split(performance, starts[starts > 0]):
                axes.plot(touch[:, 0], 1 - touch[:, 1], ".-", color=color, markersize=3, lw=0.8)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], aspect="equal")
    figure.suptitle("call in blue, response in red", fontsize="small")
    figure.savefig(metrics.run.folder / "touch.png", dpi=80)


# a touch moves by less than bfloat16 can tell
SYSTEM = System("Touch performances: call and response.", TouchConfig, show, "float32")
