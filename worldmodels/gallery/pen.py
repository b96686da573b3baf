"""The network that draws: M over offsets and pen, its loss, and its samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from worldmodels.gallery.drawings import DRAW, END, LIFT, Batch, Drawing, strokes_of
from worldmodels.models.masking import masked_mean
from worldmodels.models.mdnrnn import MDNRNN, Head, MDNRNNConfig, State
from worldmodels.models.mixture import Temperature

DROPOUT = 0.1
"""Of h, in training. Differs: Ha & Eck 2017 has recurrent dropout inside the cell."""


class Pen(nn.Module):
    """M over the next offset, a correlated mixture of two dimensions, and over the pen's state.

    Its inputs are the last offset, the pen and a condition. Sources: Ha 2015; Ha & Eck 2017,
    section 3.2.
    """

    def __init__(self, hidden_size: int, num_mixtures: int, condition_size: int = 0) -> None:
        super().__init__()
        config = MDNRNNConfig(
            hidden_size=hidden_size, num_mixtures=num_mixtures, mixture="correlated"
        )
        self.mdnrnn = MDNRNN(config, 2, 3 + condition_size, [Head("pen", 3)])
        self.dropout = nn.Dropout(DROPOUT)

    def losses(
        self,
        batch: Batch,
        condition: Float[Tensor, "B C"] | None = None,
        state: State | None = None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Nats a point: of the offsets, and the pen's cross-entropy."""
        inputs = batch.pen_inputs
        if condition is not None:
            repeated = condition[:, None].expand(-1, inputs.shape[1], -1)
            inputs = torch.cat([inputs, repeated], -1)
        h = self.mdnrnn(batch.offsets[:, :-1], inputs, None, state)[0].h
        predicted = self.mdnrnn.predict(self.dropout(h.float()))
        log_prob = predicted.mixture.log_prob(batch.offsets[:, 1:])
        pen = functional.cross_entropy(
            predicted.outputs("pen").flatten(0, 1), batch.pens[:, 1:].flatten(), reduction="none"
        ).view_as(batch.known)
        return masked_mean(-log_prob, batch.moved), masked_mean(pen, batch.known)

    @torch.inference_mode()
    def draw(
        self,
        count: int,
        most: int,
        temperature: Temperature,
        generator: torch.Generator,
        still: bool,
        condition: Float[Tensor, "B C"] | None = None,
        state: State | None = None,
    ) -> list[Drawing]:
        """Samples drawings up to their END, or of `most` points.

        Args:
            count: number of drawings.
            most: points at most; a drawing that is cut there ends with a lift.
            temperature: of the offsets; the pen's logits are scaled as the mixture's are.
            generator: of all random numbers.
            still: whether the first point is the start itself, as in the data.
            condition: as in training.
            state: h and c at the start; none: zeros.
        """
        offset, pen = torch.zeros(count, 2), torch.full((count,), DRAW)
        state = self.mdnrnn.initial_state(count) if state is None else state
        offsets: list[Tensor] = []
        pens: list[Tensor] = []
        for _ in range(most):
            inputs = [functional.one_hot(pen, 3).float()]
            inputs += [] if condition is None else [condition]
            state = self.mdnrnn.step(offset, torch.cat(inputs, -1), None, state)
            predicted = self.mdnrnn.predict(state[0])
            offset = predicted.mixture.sample(temperature, generator)
            if still and not offsets:
                offset = torch.zeros_like(offset)
            weights = (predicted.outputs("pen") * temperature.logits).softmax(-1)
            pen = torch.multinomial(weights, 1, generator=generator)[:, 0]
            offsets.append(offset)
            pens.append(pen)
        return _ended(torch.stack(offsets, 1).numpy(), torch.stack(pens, 1).numpy())


def _ended(offsets: np.ndarray, pens: np.ndarray) -> list[Drawing]:
    found = []
    for points, does in zip(offsets, pens, strict=True):
        ends = np.flatnonzero(does == END)
        length = ends[0] + 1 if len(ends) else len(does)
        lifts = does[:length] >= LIFT
        lifts[-1] = True
        found.append(np.column_stack([points[:length], lifts]).astype(np.float32))
    return found


@dataclass(frozen=True)
class Statistics:
    """Counts by which sampled and real drawings are compared."""

    strokes: np.ndarray
    """Of each drawing."""
    points: np.ndarray
    """Of each stroke."""

    @classmethod
    def of(cls, drawings: Sequence[Drawing]) -> Statistics:
        """Of all drawings."""
        lifts = [np.flatnonzero(d[:, 2] > 0.5) for d in drawings]
        points = [np.diff(places, prepend=-1) for places in lifts]
        return cls(np.array([len(p) for p in points]), np.concatenate(points))


def nats_of(
    parts: Iterable[tuple[Batch, tuple[Float[Tensor, ""], Float[Tensor, ""]]]],
) -> tuple[float, float]:
    """Nats a point of the offsets and of the pen over several batches, from those of each."""
    totals, weights = np.zeros(2), np.zeros(2)
    for batch, losses in parts:
        counts = np.array([batch.moved.sum().item(), batch.known.sum().item()])
        totals += counts * [loss.item() for loss in losses]
        weights += counts
    xy, pen = (totals / weights).tolist()
    return xy, pen


def paint(
    axes: Any, drawing: Drawing, at: tuple[int | float, int | float], size: float, color: str
) -> None:
    """Draws a drawing around a point, its longer side `size` long; y points down."""
    strokes = strokes_of(drawing)
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = size / max(float((high - low).max()), 1e-6)
    for stroke in strokes:
        x, y = ((stroke - (low + high) / 2) * scale).T
        axes.plot(at[0] + x, at[1] - y, color=color, linewidth=0.9, solid_capstyle="round")
