"""The dreams of a population as one batch on one device, from the first step to the last."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from worldmodels.envs.dream import DreamEnv, Outcome
from worldmodels.envs.noise import NOISE_BLOCK
from worldmodels.models.controller import Controller, features
from worldmodels.models.engine import DreamState, dreamt

WARM_UP = 3
"""Steps before one is captured: PyTorch's libraries allocate memory in the first ones."""


class DreamBatch:
    """What `rollout` does with `DreamEnv` and `Candidates`, on one device and without a border.

    Each candidate has the same starts and noise, which are those of every other dream with these
    seeds. A step is the same operations whatever happens: lanes that have ended go on unseen. So
    on CUDA it is captured once, as a graph, and replayed. Products are float32, or TF32 on CUDA.

    Attributes:
        state: z, h, c and restart flag of each lane; lane p * R + r is candidate p's rollout r.
        live: lanes that go on, (E,).
        returns, lengths: of each lane so far, (E,).
    """

    def __init__(
        self,
        env: DreamEnv,
        controller: Controller,
        candidates: int,
        patience: int | None,
        device: torch.device,
    ) -> None:
        """Allocates all lanes.

        Args:
            env: dreams of one candidate, on the CPU: its starts, noise and rules are everyone's.
            controller: acts.
            candidates: of the population.
            patience: as for `rollout`.
            device: where M dreams.
        """
        self.env, self.controller, self.candidates = env, controller, candidates
        self.patience, self.mdnrnn = patience, copy.deepcopy(env.mdnrnn).to(device)

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        rollouts = env.num_envs
        lanes = candidates * rollouts
        self.parameters = zeros(candidates, controller.num_parameters)
        self.noise = zeros(NOISE_BLOCK, rollouts, env.noise.tape.shape[1])
        self.thresholds = zeros(NOISE_BLOCK, rollouts)
        self.state, self.live = DreamState.empty(self.mdnrnn, lanes), zeros(lanes, dtype=torch.bool)
        self.returns, self.best, self.weights, self.earned = (
            zeros(lanes, dtype=torch.float64) for _ in range(4)
        )
        self.lengths, self.idle = (zeros(lanes, dtype=torch.int64) for _ in range(2))
        self.steps = zeros(1, dtype=torch.int64)
        self._advance = captured(self.step, device)

    def play(
        self, parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]
    ) -> tuple[Float64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
        """Returns and lengths of an episode of each candidate on each seed."""
        self.begin(parameters, seeds)
        horizon = self.env.config.horizon
        noise = self._noise_from(0)
        for first in range(0, horizon, NOISE_BLOCK):
            for held, new in zip((self.noise, self.thresholds), noise, strict=True):
                held.copy_(torch.from_numpy(new))
            for _ in range(min(NOISE_BLOCK, horizon - first)):
                self._advance()
            if first + NOISE_BLOCK < horizon:  # the CPU samples while the device dreams
                noise = self._noise_from(first + NOISE_BLOCK)
            if not self.live.any():
                break
        return self.returns.cpu().numpy().copy(), self.lengths.cpu().numpy().copy()

    def begin(self, parameters: Float64[np.ndarray, "P N"], seeds: Sequence[int]) -> None:
        """Begins all dreams: each candidate has these parameters, and each of its lanes a seed."""
        self.env.reset(seed=list(seeds))
        for mine, start in zip(self.state.parts, self.env.state.parts, strict=True):
            mine.unflatten(0, (self.candidates, -1)).copy_(start.to(mine.device))
        self.parameters.copy_(torch.from_numpy(np.ascontiguousarray(parameters, np.float32)))
        counted = self.returns, self.best, self.earned, self.lengths, self.idle, self.steps
        for numbers in counted:
            numbers.zero_()
        self.weights.fill_(1.0)
        self.live.fill_(True)

    def _noise_from(
        self, step: int
    ) -> tuple[Float32[np.ndarray, "T R noise"], Float32[np.ndarray, "T R"]]:
        """The noise, and the thresholds of ends, of a block of steps."""
        noise, rollouts = self.env.noise, self.env.num_envs
        first = noise.rows(np.arange(rollouts), np.full(rollouts, step))
        rows = first + np.arange(NOISE_BLOCK)[:, None]
        return noise.tape[rows], noise.thresholds(rows)

    @torch.inference_mode()
    def step(self) -> None:
        """Dreams a step of all lanes."""
        env, state, P = self.env, self.state, self.candidates
        seen = features(self.mdnrnn, state.z, state.h, state.c, env.inputs).unflatten(0, (P, -1))
        actions = env.actions.bound(self.controller.act(self.parameters, seen)).flatten(0, 1)
        place = self.steps % NOISE_BLOCK
        noise, thresholds = (x.index_select(0, place)[0] for x in (self.noise, self.thresholds))
        given = actions, noise.repeat(P, 1), env.config.temperature
        z, (h, c), outputs = dreamt(self.mdnrnn, state, *given)
        outcome = env.rules(
            self.mdnrnn,
            (state.z, state.h, actions),
            outputs,
            thresholds.repeat(P),
            self.weights,
            self.earned,
        )
        self.steps += 1
        self._count(outcome)
        old = state.z, state.h, state.c, self.weights, self.earned
        for held, new in zip(old, (z, h, c, outcome.weights, outcome.earned), strict=True):
            held.copy_(new)
        state.first.zero_()

    def _count(self, outcome: Outcome) -> None:
        """Adds a step to the returns and lengths of the lanes that took it, and ends lanes."""
        horizon, reward = self.env.config.horizon, self.env.rules.reward
        self.returns += outcome.rewards.masked_fill(~self.live, 0.0)
        self.lengths += self.live
        self.live &= ~outcome.ended & (self.steps < horizon)
        if self.patience is not None:
            better = self.returns > self.best
            self.idle.add_(1).masked_fill_(better, 0)
            self.best.copy_(torch.maximum(self.best, self.returns))
            hopeless = self.live & (self.idle >= self.patience)
            cost = (horizon - self.steps).double() * min(reward, 0.0)
            self.returns += hopeless * cost
            self.live &= ~hopeless


def captured(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """On CUDA the work as a graph of its operations: replaying it takes a single call.

    The work runs a few times first. It must use the same tensors whenever it runs, and must not
    wait for the device.
    """
    if device.type != "cuda":
        return work
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
