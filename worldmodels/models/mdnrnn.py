"""M: the recurrent mixture density network that dreams the next z.

Source: Ha & Schmidhuber 2018, A.2 and its released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional

from worldmodels.errors import InputError
from worldmodels.models.action import Actions, choices_of
from worldmodels.models.dropout import dropout_mask
from worldmodels.models.mixture import Mixture, MixtureKind, mixture_size, split_mixture
from worldmodels.world import World

RISK_BOUND = 20.0
"""|log-odds| of risks are clamped here."""

State = tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]
"""(h, c) of the LSTM."""


@dataclass(frozen=True, kw_only=True)
class MDNRNNConfig:
    """M's sizes and heads. Defaults: the paper's CarRacing, 422,368 parameters."""

    hidden_size: int = 256
    """Numbers in h: 256 for CarRacing, 512 for Doom."""
    num_mixtures: int = 5
    """Normals per mixture."""
    mixture: MixtureKind = "per_dimension"
    """Weights for each z_i of its own (the paper), or one set for the whole z; `correlated` (joint,
    with correlations) is for the gallery."""
    reward_head: Literal["none", "world"] = "none"
    """Predict the reward, of the kind that world.json says; the paper: none."""
    termination_head: Literal["none", "world"] = "none"
    """Predict the end, where the world has one; the paper's Doom: world."""
    restart_input: bool = False
    """Feed a flag that is 1 on an episode's first step; the paper's Doom: true."""
    risk_horizons: tuple[int, ...] = ()
    """Predict for each choice of the next action the risk of damage (env.damage_redness) or of the
    end within so many steps, from z and h, for controllers that see `r`; the paper: none."""
    risk_hidden: tuple[int, ...] = ()
    """Units of the layers between; none: risks are linear in z and h."""
    risk_dropout: float = 0.0
    """Share of what the risks' layers see that is left out in training: hits are few."""

    def __post_init__(self) -> None:
        sizes = self.hidden_size, self.num_mixtures, *self.risk_horizons, *self.risk_hidden
        if min(sizes) < 1:
            raise InputError(
                "mdnrnn.hidden_size, mdnrnn.num_mixtures, all mdnrnn.risk_hidden and all "
                "mdnrnn.risk_horizons must be at least 1"
            )
        if not 0 <= self.risk_dropout < 1:
            raise InputError(f"mdnrnn.risk_dropout is {self.risk_dropout}: it must lie in [0, 1)")


@dataclass(frozen=True)
class Heads:
    """What M predicts beside z, and within which limit."""

    reward: Literal["none", "count", "real"] = "none"
    count_limit: float = 1.0
    """Most counts a step."""
    termination: bool = False
    choices: int = 0
    """Actions whose risks are predicted."""
    binary: int = 0
    """Further numbers that are 0 or 1, such as a pen that is lifted; the gallery's."""
    categories: int = 0
    """Values of a further number that is one of so many; 0: there is none."""

    @classmethod
    def of(cls, config: MDNRNNConfig, world: World) -> Heads:
        """The heads that the config asks for, as far as the world has something to predict.

        Raises:
            InputError: risks are asked for in a world that doesn't end or has no choices; or a
                mixture that no dream samples.
        """
        if config.mixture == "correlated":
            raise InputError(
                "mdnrnn.mixture is correlated, which no dream samples: use joint or per_dimension"
            )
        kind = world.config.reward if config.reward_head == "world" else "none"
        choices = Actions.from_dict(world.action).choices if config.risk_horizons else 0
        if config.risk_horizons and not (choices and world.config.terminates):
            raise InputError(
                "mdnrnn.risk_horizons needs a world that terminates and whose actions are choices "
                "(Discrete): set it to []"
            )
        return cls(
            "none" if kind == "constant" else kind,
            world.config.count_limit * world.config.action_repeat,
            world.config.terminates and config.termination_head == "world",
            choices,
        )


@dataclass(frozen=True)
class Prediction:
    """What M says of the next step."""

    mixture: Mixture
    """Of the next z."""
    reward: Float[Tensor, "*batch"] | None
    """Raw output of the reward head; see `expected_reward` and `reward_nll`."""
    termination: Float[Tensor, "*batch"] | None
    """Logit of the episode's end."""
    binary: Float[Tensor, "*batch N"] | None = None
    """Logits of the binary numbers."""
    category: Float[Tensor, "*batch C"] | None = None
    """Logits of the category's values."""


class MDNRNN(nn.Module):
    """LSTM, and one linear layer for the mixture and the heads.

    What it is told beside z, the action, is any condition in its relatives: a text's window, a
    latent vector, the pen. `action_size` may be 0, and then `actions` None.
    """

    def __init__(
        self, config: MDNRNNConfig, latent_size: int, action_size: int, heads: Heads
    ) -> None:
        super().__init__()
        self.config, self.heads = config, heads
        self.latent_size, self.action_size = latent_size, action_size
        # numbers in [0, 1) with which a dreamt z draws its components
        self.uniforms = 1 if config.mixture == "joint" else latent_size
        inputs = latent_size + action_size + config.restart_input
        self.lstm = nn.LSTM(inputs, config.hidden_size, batch_first=True)
        # nn.LSTM has two biases that are only ever added: the second stays zero, as in the paper.
        second: Tensor = self.lstm.get_parameter("bias_hh_l0")
        second.requires_grad_(False).zero_()
        mixture = mixture_size(latent_size, config.num_mixtures, config.mixture)
        flags = int(heads.reward != "none"), int(heads.termination)
        self._sizes = mixture, *flags, heads.binary, heads.categories
        self.head = nn.Linear(config.hidden_size, sum(self._sizes))
        self.num_risks = heads.choices * len(config.risk_horizons)
        if self.num_risks:
            sizes = latent_size + config.hidden_size, *config.risk_hidden, self.num_risks
            self.risk_layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))

    def forward(
        self,
        z: Float[Tensor, "B T Z"],
        actions: Float[Tensor, "B T A"] | None,
        first: Float[Tensor, "B T"] | None,
        state: State | None = None,
    ) -> tuple[Prediction, State]:
        """Predictions for T steps, and the state after them."""
        outputs, state = self.states(z, actions, first, state)
        return self.predict(outputs), state

    def states(
        self,
        z: Float[Tensor, "B T Z"],
        actions: Float[Tensor, "B T A"] | None,
        first: Float[Tensor, "B T"] | None,
        state: State | None = None,
    ) -> tuple[Float[Tensor, "B T H"], State]:
        """h after each of T steps, and the state after all."""
        packed = (
            None if state is None else (state[0][None].contiguous(), state[1][None].contiguous())
        )
        outputs, (h, c) = self.lstm(self.inputs(z, actions, first), packed)
        return outputs, (h[0], c[0])

    def step(
        self,
        z: Float[Tensor, "B Z"],
        actions: Float[Tensor, "B A"] | None,
        first: Float[Tensor, " B"] | None,
        state: State,
    ) -> State:
        """One step of the same LSTM, fused for many lanes.

        i, f, g, o = W x + U h + b;  c' = σ(f) c + σ(i) tanh(g);  h' = σ(o) tanh(c').
        """
        h, c = state
        weights = self.lstm.get_parameter
        inputs = self.inputs(z, actions, first)
        gates = torch.addmm(weights("bias_ih_l0"), inputs, weights("weight_ih_l0").T)
        gates.addmm_(h, weights("weight_hh_l0").T)
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f).mul_(c).add_(torch.sigmoid(i).mul_(torch.tanh(g)))
        return torch.sigmoid(o).mul_(torch.tanh(c)), c

    def predict(self, h: Float[Tensor, "*batch H"]) -> Prediction:
        """The mixture of the next z and the heads, from the state that has seen the present."""
        mixture, *heads = self.head(h).split(self._sizes, -1)
        reward, termination, binary, category = (p if p.shape[-1] else None for p in heads)
        config = self.config
        return Prediction(
            split_mixture(mixture, self.latent_size, config.num_mixtures, config.mixture),
            None if reward is None else reward.squeeze(-1),
            None if termination is None else termination.squeeze(-1),
            binary,
            category,
        )

    def risks(
        self,
        z: Float[Tensor, "*batch Z"],
        h: Float[Tensor, "*batch H"],
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "*batch risks"]:
        """Log-odds of a damage or the end within the horizons, choice by choice for each of them.

        From the present z and the h that has seen all before it. With a generator, in training,
        some of what the layers see is left out. The products are of `dtype`.
        """
        seen = torch.cat([z.to(dtype), h.to(dtype)], -1)
        for place, layer in enumerate(self.risk_layers):
            seen = seen if place == 0 else torch.relu(seen)
            weight: Tensor = layer.get_parameter("weight")
            if generator is not None and self.config.risk_dropout:
                mask, kept = dropout_mask(seen.shape, self.config.risk_dropout, generator)
                seen, weight = seen * mask.to(seen), weight / kept
            seen = functional.linear(seen, weight.to(dtype), layer.get_parameter("bias").to(dtype))
        return seen.float().clamp(-RISK_BOUND, RISK_BOUND)

    @torch.inference_mode()
    def no_damage(
        self,
        z: Float[Tensor, "B Z"],
        h: Float[Tensor, "B H"],
        actions: Float[Tensor, "B A"],
    ) -> Float64[Tensor, " B"]:
        """Probability that a step of these actions brings no damage.

        (1 - p)^(1/n) of the shortest horizon's risk p, the choice's, spread over its n steps.

        Raises:
            InputError: M predicts no risks.
        """
        horizons = self.config.risk_horizons
        if not self.num_risks:
            raise InputError("dream.weight risk needs mdnrnn.risk_horizons: train M with them")
        risks = self.risks(z, h).unflatten(-1, (len(horizons), -1))
        n = min(horizons)
        chosen = choices_of(actions, self.heads.choices)
        log_odds = (risks[:, horizons.index(n)] * chosen).sum(-1)
        return torch.exp(functional.logsigmoid(-log_odds.double()) / n)

    def initial_state(self, batch_size: int) -> State:
        """Zeros."""
        zeros = self.head.weight.new_zeros(batch_size, self.config.hidden_size)
        return zeros, zeros.clone()

    def expected_reward(self, raw: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """The reward head's mean: counts a step, or the reward itself."""
        if self.heads.reward == "count":
            return self.heads.count_limit * torch.sigmoid(raw)
        return symexp(raw)

    def inputs(
        self,
        z: Float[Tensor, "*batch Z"],
        actions: Float[Tensor, "*batch A"] | None,
        first: Float[Tensor, "*batch"] | None,
    ) -> Float[Tensor, "*batch inputs"]:
        """What the LSTM sees of a step; `first` may be None where there is no restart input."""
        parts = [z] if actions is None else [z, actions]
        if self.config.restart_input:
            assert first is not None, "restart_input is on, and needs `first`"
            parts.append(first[..., None])
        return torch.cat(parts, -1)


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|). Source: Hafner et al. 2023, eq. 9."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return torch.sign(x) * torch.expm1(x.abs())
