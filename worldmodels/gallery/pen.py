"""The network that draws: M over offsets and pen, its loss, and its samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from worldmodels.gallery.drawings import DRAW, END, LIFT, Batch, Drawing, centred
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
        points: list[tuple[Tensor, Tensor]] = []
        for _ in range(most):
            inputs = functional.one_hot(pen, 3).float()
            if condition is not None:
                inputs = torch.cat([inputs, condition], -1)
            state = self.mdnrnn.step(offset, inputs, None, state)
            predicted = self.mdnrnn.predict(state[0])
            offset = predicted.mixture.sample(temperature, generator)
            if still and not points:
                offset = torch.zeros_like(offset)
            weights = (predicted.outputs("pen") * temperature.logits).softmax(-1)
            pen = torch.multinomial(weights, 1, generator=generator)[:, 0]
            points.append((offset, pen))
        offsets, pens = (torch.stack(parts, 1).numpy() for parts in zip(*points, strict=True))
        return [_ended(*row) for row in zip(offsets, pens, strict=True)]


def _ended(offsets: np.ndarray, pens: np.ndarray) -> Drawing:
    ends = np.flatnonzero(pens == END)
    length = ends[0] + 1 if len(ends) else len(pens)
    lifts = pens[:length] >= LIFT
    lifts[-1] = True
    return np.column_stack([offsets[:length], lifts]).astype(np.float32)


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
    axes: Any,
    drawing: Drawing,
    at: tuple[int | float, int | float],
    color: str = "black",
    box: tuple[float, float] = (0.8, 0.8),
) -> None:
    """Draws a drawing around a point, as large as fits into the box; y points down."""
    axes.set_aspect("equal")
    axes.axis("off")
    for stroke in centred(drawing, *box):
        x, y = stroke.T
        axes.plot(at[0] + x, at[1] - y, color=color, linewidth=0.9, solid_capstyle="round")
