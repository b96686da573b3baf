"""A robot with several valid next positions: the MDN-RNN beside the exact distribution.

The robot walks along the edges of hexagons, with a little noise. At each corner it turns left, goes
straight or turns right, with probabilities that depend on its last turn: it never turns the same
way twice in a row. A position alone tells neither its direction nor its last turn; the history
does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from worldmodels.figure import new_figure, save_figure
from worldmodels.gallery.system import Numbers, System, falling
from worldmodels.models.mdnrnn import MDNRNN, MDNRNNConfig
from worldmodels.models.mixture import Mixture
from worldmodels.ranges import PositiveFloat, PositiveInt, Range
from worldmodels.run import Metrics
from worldmodels.seeding import torch_generator
from worldmodels.stages.fit import FitConfig

TURN = math.pi / 3
"""A turn, in radians."""
CHOICES = torch.tensor([[0.0, 0.7, 0.3], [0.25, 0.5, 0.25], [0.6, 0.4, 0.0]])
"""Probability of left, straight, right (columns) after left, straight, right (rows)."""
WARM_UP = 5
"""First steps, which are not measured: the last turn is unknown before two moves."""


@dataclass(frozen=True, kw_only=True)
class Walk(System):
    """Several valid next steps: M beside the exact distribution."""

    float32 = True

    walks: PositiveInt = 2000
    """Training walks."""
    test_walks: PositiveInt = 1000
    """New walks, on which everything is measured."""
    steps: Annotated[int, Range(WARM_UP + 2.0)] = 40
    """Of a walk."""
    noise: PositiveFloat = 0.1
    """Standard deviation, in each direction, of a step of length 1."""
    hidden_size: PositiveInt = 64
    """Units of the LSTM."""
    num_mixtures: PositiveInt = 6
    """Normals in its joint mixture."""
    train: FitConfig = falling(steps=4000, batch_size=64, learning_rate=3e-3, gradient_clip=1.0)

    def show(self, metrics: Metrics) -> Numbers:
        """NLL of the true distribution and of M, with the history and with a permuted one."""
        generator = torch_generator(self.seed, "walks")
        walks = sample(self.walks, self.steps, self.noise, generator)
        test = sample(self.test_walks, self.steps, self.noise, generator)
        model = self.network(metrics, walks.moves)
        with torch.inference_mode():
            shuffled, last = permuted(test.moves, generator), self.steps - 2
            exact = nll(exact_mixture(test, self.noise), test.moves, WARM_UP)
            found = nll(predicted(model, test.moves), test.moves, WARM_UP)
            _draw(metrics, self, model, test.moves)
            return {
                "exact_nll": exact,
                "nll": found,
                "last_nll": nll(predicted(model, test.moves), test.moves, last),
                "permuted_last_nll": nll(predicted(model, shuffled), shuffled, last),
                "excess": found - exact,
            }

    def network(self, metrics: Metrics, walks: Float[Tensor, "N T 2"]) -> MDNRNN:
        """The agent's M, whose only input is the last move."""
        sizes = MDNRNNConfig(
            hidden_size=self.hidden_size, num_mixtures=self.num_mixtures, mixture="joint"
        )

        def loss(model: MDNRNN, step: int) -> Tensor:
            generator = torch_generator(self.seed, "batch", step)
            moves = walks[torch.randint(len(walks), (self.train.batch_size,), generator=generator)]
            return -predicted(model, moves).log_prob(moves[:, 1:]).mean()

        return self.trained(metrics, lambda: MDNRNN(sizes, 2, 0), loss, "walk")


@dataclass(frozen=True)
class Walks:
    """Walks, and the choices in them."""

    moves: Float[Tensor, "N T 2"]
    """Differences of the positions."""
    headings: Float[Tensor, "N T"]
    """Directions of the moves without noise, in radians."""
    choices: Int64[Tensor, "N T"]
    """0 left, 1 straight, 2 right: the turn before each move."""


def sample(count: int, steps: int, noise: float, generator: torch.Generator) -> Walks:
    """Walks that begin in one of six directions."""
    heading = TURN * torch.randint(6, (count,), generator=generator)
    choice = torch.ones(count, dtype=torch.long)
    headings, choices = [], []
    for _ in range(steps):
        choice = torch.multinomial(CHOICES[choice], 1, generator=generator)[:, 0]
        heading = heading + TURN * (1 - choice)
        headings.append(heading)
        choices.append(choice)
    facing = torch.stack(headings, 1)
    moves = direction(facing) + noise * torch.randn(count, steps, 2, generator=generator)
    return Walks(moves, facing, torch.stack(choices, 1))


def direction(heading: Tensor) -> Tensor:
    """The unit vector of an angle, (..., 2)."""
    return torch.stack([heading.cos(), heading.sin()], -1)


def exact_mixture(walks: Walks, noise: float) -> Mixture:
    """The true distribution of each next move, (N, T - 1)."""
    means = direction(walks.headings[:, :-1, None] + TURN * (1 - torch.arange(3)))
    weights = CHOICES[walks.choices[:, :-1]].clamp(min=1e-30).log()[..., None]
    return Mixture(weights, means, torch.full_like(means, math.log(noise)))


def predicted(model: MDNRNN, moves: Float[Tensor, "N T 2"]) -> Mixture:
    """The mixture of each next move, (N, T - 1)."""
    return model(moves[:, :-1], None, None)[0].mixture


def nll(mixture: Mixture, moves: Float[Tensor, "N T 2"], warm_up: int) -> float:
    """Nats a move after the warm-up, both dimensions together."""
    return -float(mixture.log_prob(moves[:, 1:])[:, warm_up:].double().mean())


def permuted(moves: Float[Tensor, "N T 2"], generator: torch.Generator) -> Tensor:
    """Each walk with all but its last two moves in random order."""
    order = torch.rand(moves.shape[:2], generator=generator)
    order[:, -2:] = torch.tensor([2.0, 3.0])
    return moves.gather(1, order.argsort(1)[..., None].expand_as(moves))


def _draw(metrics: Metrics, config: Walk, model: MDNRNN, test: Float[Tensor, "N T 2"]) -> None:
    figure, generator = new_figure(12, 4), torch_generator(config.seed, "figure")
    for axes, moves in zip(figure.subplots(1, 3), test[:3, None], strict=False):
        path = torch.cat([torch.zeros(1, 2), moves[0].cumsum(0)])
        axes.plot(path[:, 0], path[:, 1], ".-", color="0.8", markersize=4)
        mixture = predicted(model, moves)
        for t in range(WARM_UP, moves.shape[1] - 1, 6):
            parts = Mixture(mixture.logits[0, t], mixture.means[0, t], mixture.log_stds[0, t])
            fan = torch.stack([parts.sample(generator=generator) for _ in range(40)])
            ends = path[t + 1] + fan
            axes.plot(ends[:, 0], ends[:, 1], ".", color="tab:purple", markersize=2)
            axes.plot(*path[t + 1], "o", color="black", markersize=4)
        axes.set_aspect("equal")
        axes.set_title("from ● samples of the next position", fontsize="small")
    save_figure(figure, metrics.run.folder / "walk.png", dpi=80)
