"""The network that writes a text: an LSTM reads it through a soft window, and M is above it.

Source: Graves 2013, "Generating Sequences With Recurrent Neural Networks", section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from worldmodels.gallery.drawings import DRAW, END, Batch, Drawing
from worldmodels.models.mdnrnn import MDNRNN, Head, MDNRNNConfig, State
from worldmodels.models.mixture import Temperature
from worldmodels.models.sequence import masked_mean

LIFTED, LAST = 0, 1
"""Indices of the two binary outputs."""


@dataclass
class Reading:
    """State of the reading LSTM."""

    h: Float[Tensor, "B H"]
    c: Float[Tensor, "B H"]
    window: Float[Tensor, "B L"]
    """A weighted sum of the text's letters."""
    place: Float[Tensor, "B W"]
    """Position of each of the window's bumps; it never decreases."""
    weights: Float[Tensor, "B U"]
    """Of each letter in the window."""


class Writer(nn.Module):
    """Predicts the next offset, whether the pen is lifted after it, and whether it is the last.

    Differs: each text has an end, on which the window comes to rest.
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
        config = MDNRNNConfig(
            hidden_size=hidden_size, num_mixtures=num_mixtures, mixture="correlated"
        )
        self.mdnrnn = MDNRNN(config, 2, 1 + reading_size + symbols, [Head("pen", 2)])

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
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Nats a point: of the offsets, and of the pen."""
        offsets, lifted = batch.offsets, (batch.pens != DRAW).float()[..., None]
        points = torch.cat([offsets, lifted], -1)[:, :-1]
        reading, readings = self.begin(text), []
        for point in points.unbind(1):
            reading = self.read(point, text, known, reading)
            readings.append(torch.cat([reading.h, reading.window], -1))
        inputs = torch.cat([lifted[:, :-1], torch.stack(readings, 1)], -1)
        h = self.mdnrnn(offsets[:, :-1], inputs, None)[0].h
        predicted = self.mdnrnn.predict(h.float())  # both gradients are added in float32
        log_prob = predicted.mixture.log_prob(offsets[:, 1:])
        does = torch.stack([lifted[:, 1:, 0], (batch.pens[:, 1:] == END).float()], -1)
        pen = functional.binary_cross_entropy_with_logits(
            predicted.outputs("pen"), does, reduction="none"
        )
        return masked_mean(-log_prob, batch.moved), masked_mean(pen.sum(-1), batch.known)

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
        count = len(text)
        point, reading = torch.zeros(count, 3), self.begin(text)
        state: State = self.mdnrnn.initial_state(count)
        points: list[Tensor] = []
        windows, lasts = [], []
        over = torch.zeros(count, dtype=torch.bool)
        for _ in range(most):
            reading = self.read(point, text, known, reading)
            inputs = torch.cat([point[:, 2:], reading.h, reading.window], -1)
            state = self.mdnrnn.step(point[:, :2], inputs, None, state)
            predicted = self.mdnrnn.predict(state[0])
            offset = predicted.mixture.sample(temperature, generator)
            if not points:  # the start itself
                offset = torch.zeros_like(offset)
            does = torch.bernoulli(predicted.outputs("pen").sigmoid(), generator=generator)
            point = torch.cat([offset, does[:, LIFTED, None]], -1)
            points.append(point)
            windows.append(reading.weights)
            at_last = reading.weights.argmax(1) >= known.sum(1) - 2  # or beyond
            lasts.append((does[:, LAST] > 0.5) & at_last)
            over |= lasts[-1]
            if over.all():
                break
        return _cut(torch.stack(points, 1), torch.stack(windows, 1), torch.stack(lasts, 1))


def _cut(
    points: Tensor, windows: Tensor, lasts: Tensor
) -> tuple[list[Drawing], list[np.ndarray], list[bool]]:
    drawings, weights = [], []
    for row, ends in enumerate(lasts):
        length = int(ends.int().argmax()) + 1 if ends.any() else points.shape[1]
        drawing = points[row, :length].clone()
        drawing[-1, 2] = 1.0
        drawings.append(drawing.numpy())
        weights.append(windows[row, :length].numpy())
    return drawings, weights, lasts.any(1).tolist()


class Recogniser(nn.Module):
    """Reads a word from its points: a bidirectional LSTM, trained with CTC (Graves et al. 2006)."""

    def __init__(self, letters: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, hidden_size, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden_size, letters + 1)

    def forward(self, batch: Batch) -> Float[Tensor, "T B symbols"]:
        """Log probabilities; the last of each is the blank's."""
        lifted = (batch.pens[:, 1:] != DRAW).float()[..., None]
        points = torch.cat([batch.offsets[:, 1:], lifted], -1)
        lengths = batch.known.sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(
            points, lengths, batch_first=True, enforce_sorted=False
        )
        h, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(h).log_softmax(-1).transpose(0, 1)

    def loss(self, batch: Batch, texts: Sequence[str], letters: str) -> Tensor:
        """Nats a letter."""
        targets = torch.tensor([letters.index(letter) for text in texts for letter in text])
        lengths = torch.tensor([len(text) for text in texts])
        log_probs, blank = self(batch), len(letters)
        return functional.ctc_loss(
            log_probs, targets, batch.known.sum(1), lengths, blank, zero_infinity=True
        )

    @torch.inference_mode()
    def recognise(self, batch: Batch, letters: str) -> list[str]:
        """The best path, without repeated letters and blanks."""
        best, lengths = self(batch).argmax(-1).T, batch.known.sum(1)
        found = []
        for row, length in zip(best, lengths, strict=True):
            kept = torch.unique_consecutive(row[:length]).tolist()
            found.append("".join(letters[k] for k in kept if k < len(letters)))
        return found
