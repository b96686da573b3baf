"""The networks that draw and write: M over the next offset of a pen and over its state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from worldmodels.gallery.drawings import DRAW, END, LIFT, Batch, Drawing, centred
from worldmodels.models.mdnrnn import MDNRNN, Head, MDNRNNConfig, Prediction, State
from worldmodels.models.mixture import Temperature
from worldmodels.models.sequence import masked_mean

DROPOUT = 0.1
"""Of h, in training. Differs: Ha & Eck 2017 has recurrent dropout inside the cell."""

Losses = tuple[Float[Tensor, ""], Float[Tensor, ""]]
"""Nats a point: of the offsets, and of the pen."""


class Pen(nn.Module):
    """M over the next offset, a correlated mixture of two dimensions, and over the pen's state.

    Its inputs are the last offset, the pen and a condition. Sources: Ha 2015; Ha & Eck 2017,
    section 3.2.
    """

    def __init__(self, hidden_size: int, num_mixtures: int, condition_size: int = 0) -> None:
        super().__init__()
        self.mdnrnn = _mdnrnn(hidden_size, num_mixtures, 3 + condition_size, 3)
        self.dropout = nn.Dropout(DROPOUT)

    def losses(
        self,
        batch: Batch,
        condition: Float[Tensor, "B C"] | None = None,
        state: State | None = None,
    ) -> Losses:
        """Nats a point: of the offsets, and the pen's cross-entropy."""
        inputs = functional.one_hot(batch.pens[:, :-1], 3).float()
        if condition is not None:
            repeated = condition[:, None].expand(-1, inputs.shape[1], -1)
            inputs = torch.cat([inputs, repeated], -1)
        h = self.mdnrnn(batch.offsets[:, :-1], inputs, None, state)[0].h
        predicted = self.mdnrnn.predict(self.dropout(h.float()))
        outputs, pens = predicted.outputs("pen").flatten(0, 1), batch.pens[:, 1:].flatten()
        pen = functional.cross_entropy(outputs, pens, reduction="none").view_as(batch.known)
        return _losses(batch, predicted, pen)

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

        The temperature scales the pen's logits as the mixture's. With `still` the first point is
        the start itself. Without a state, h and c are 0 at the start.
        """
        offset, pen = torch.zeros(count, 2), torch.full((count,), DRAW)
        state = self.mdnrnn.initial_state(count) if state is None else state
        points: list[Tensor] = []
        pens: list[Tensor] = []
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
            points.append(torch.cat([offset, (pen >= LIFT)[:, None]], -1))
            pens.append(pen)
        return _cut(torch.stack(points, 1), torch.stack(pens, 1) == END)


@dataclass
class Reading:
    """State of the writer's reading LSTM."""

    h: Float[Tensor, "B H"]
    c: Float[Tensor, "B H"]
    window: Float[Tensor, "B L"]
    """A weighted sum of the text's letters."""
    place: Float[Tensor, "B W"]
    """Position of each of the window's bumps; it never decreases."""
    weights: Float[Tensor, "B U"]
    """Of each letter in the window."""


class Writer(nn.Module):
    """An LSTM reads a text through a soft window, and M is above it.

    M predicts the next offset, and by two binary outputs whether the pen is lifted after it and
    whether it is the last.
    Differs: each text has an end, on which the window comes to rest. Source: Graves 2013,
    section 5.
    """

    def __init__(
        self, symbols: int, reading_size: int, hidden_size: int, num_mixtures: int, bumps: int
    ) -> None:
        super().__init__()
        self.bumps = bumps
        self.cell = nn.LSTMCell(3 + symbols, reading_size)
        self.bump = nn.Linear(reading_size, 3 * bumps)
        with torch.no_grad():  # some ten points a letter, from the start
            self.bump.bias.view(3, bumps)[2].fill_(-2.0)
        self.mdnrnn = _mdnrnn(hidden_size, num_mixtures, 1 + reading_size + symbols, 2)

    def begin(self, text: Float[Tensor, "B U L"]) -> Reading:
        """Before the first point, at the first letter."""
        zeros = text.new_zeros(len(text), self.cell.hidden_size)
        place = text.new_zeros(len(text), self.bumps)
        return Reading(zeros, zeros, text[:, 0], place, text.new_zeros(text.shape[:2]))

    def read(
        self,
        point: Float[Tensor, "B 3"],
        text: Float[Tensor, "B U L"],
        known: Float[Tensor, "B U"],
        reading: Reading,
    ) -> Reading:
        """One step. Source: Graves 2013, eqs. 46 to 51.

        φ(u) = Σ α exp(-β (κ - u)²),  κ' = κ + exp(κ̂): the window moves forward only.
        """
        h, c = self.cell(torch.cat([point, reading.window], -1), (reading.h, reading.c))
        alpha, beta, step = self.bump(h).clamp(max=6.0).exp().chunk(3, -1)
        place = reading.place + step
        letters = torch.arange(text.shape[1], device=text.device)
        distances = (place[..., None] - letters).square()
        weights = (alpha[..., None] * torch.exp(-beta[..., None] * distances)).sum(1) * known
        window = torch.bmm(weights[:, None], text)[:, 0]
        return Reading(h, c, window, place, weights)

    def losses(
        self, batch: Batch, text: Float[Tensor, "B U L"], known: Float[Tensor, "B U"]
    ) -> Losses:
        """Nats a point: of the offsets, and of the pen's two outputs."""
        lifted = (batch.pens != DRAW).float()[..., None]
        points = torch.cat([batch.offsets, lifted], -1)[:, :-1]
        reading, readings = self.begin(text), []
        for point in points.unbind(1):
            reading = self.read(point, text, known, reading)
            readings.append(torch.cat([reading.h, reading.window], -1))
        inputs = torch.cat([lifted[:, :-1], torch.stack(readings, 1)], -1)
        h = self.mdnrnn(batch.offsets[:, :-1], inputs, None)[0].h
        predicted = self.mdnrnn.predict(h.float())  # both gradients are added in float32
        does = torch.stack([lifted[:, 1:, 0], (batch.pens[:, 1:] == END).float()], -1)
        pen = functional.binary_cross_entropy_with_logits(
            predicted.outputs("pen"), does, reduction="none"
        )
        return _losses(batch, predicted, pen.sum(-1))

    @torch.inference_mode()
    def write(
        self,
        text: Float[Tensor, "B U L"],
        known: Float[Tensor, "B U"],
        most: int,
        temperature: Temperature,
        generator: torch.Generator,
    ) -> tuple[list[Drawing], list[np.ndarray], list[bool]]:
        """Writes texts until the pen ends them at their last letter, or for `most` points.

        The temperature applies to the offsets only (Graves 2013, section 5.4).

        Returns:
            The drawings; the window's weights at each of their points, (N, U); whether each ended
            before `most`.
        """
        point, reading = torch.zeros(len(text), 3), self.begin(text)
        state: State = self.mdnrnn.initial_state(len(text))
        points: list[Tensor] = []
        windows, lasts = [], []
        over = torch.zeros(len(text), dtype=torch.bool)
        while len(points) < most and not over.all():
            reading = self.read(point, text, known, reading)
            inputs = torch.cat([point[:, 2:], reading.h, reading.window], -1)
            state = self.mdnrnn.step(point[:, :2], inputs, None, state)
            predicted = self.mdnrnn.predict(state[0])
            offset = predicted.mixture.sample(temperature, generator)
            if not points:  # the start itself
                offset = torch.zeros_like(offset)
            does = torch.bernoulli(predicted.outputs("pen").sigmoid(), generator=generator)
            point = torch.cat([offset, does[:, :1]], -1)
            at_last = reading.weights.argmax(1) >= known.sum(1) - 2  # or beyond
            points.append(point)
            windows.append(reading.weights)
            lasts.append((does[:, 1] > 0.5) & at_last)
            over |= lasts[-1]
        drawings = _cut(torch.stack(points, 1), torch.stack(lasts, 1))
        weights = zip(torch.stack(windows, 1).numpy(), drawings, strict=True)
        return drawings, [rows[: len(drawing)] for rows, drawing in weights], over.tolist()


def _mdnrnn(hidden_size: int, num_mixtures: int, inputs: int, outputs: int) -> MDNRNN:
    config = MDNRNNConfig(hidden_size=hidden_size, num_mixtures=num_mixtures, mixture="correlated")
    return MDNRNN(config, 2, inputs, [Head("pen", outputs)])


def _losses(batch: Batch, predicted: Prediction, pen: Float[Tensor, "B T"]) -> Losses:
    log_prob = predicted.mixture.log_prob(batch.offsets[:, 1:])
    return masked_mean(-log_prob, batch.moved), masked_mean(pen, batch.known)


def _cut(points: Float[Tensor, "B T 3"], ends: Bool[Tensor, "B T"]) -> list[Drawing]:
    """Drawings up to their first end; the last point is lifted."""
    lengths = torch.where(ends.any(1), ends.int().argmax(1) + 1, ends.shape[1])
    drawings = [row[:length].numpy() for row, length in zip(points, lengths, strict=True)]
    for drawing in drawings:
        drawing[-1, 2] = 1.0
    return drawings


def nats_of(parts: Iterable[tuple[Batch, Losses]]) -> tuple[float, float]:
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
    drawings: Sequence[Drawing],
    columns: int,
    at: tuple[int | float, int | float] = (0, 0),
    color: str = "black",
    box: tuple[float, float] = (0.8, 0.8),
) -> None:
    """Draws drawings in rows of `columns`, from `at` on, each as large as fits into its box."""
    axes.set_aspect("equal")
    axes.axis("off")
    for place, drawing in enumerate(drawings):
        for stroke in centred(drawing, *box):
            x, y = stroke.T  # y points down
            x, y = at[0] + place % columns + x, at[1] - place // columns - y
            axes.plot(x, y, color=color, linewidth=0.9, solid_capstyle="round")
