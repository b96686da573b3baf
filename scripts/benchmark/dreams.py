"""The dream's speed: steps of lanes a second, controller included, against plain ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn

from benchmark.timing import Row, Work, number, rate, side_by_side, target, timed
from benchmark.untrained import CAR_RACING, SIZES, TAKE_COVER, Size, untrained
from worldmodels.acting.environments import Dreams
from worldmodels.acting.evaluate import Evaluation
from worldmodels.acting.policies import Candidates
from worldmodels.artifacts import Bundle
from worldmodels.envs.dream import DreamConfig, make_dream
from worldmodels.models.controller import controller_for
from worldmodels.models.engine import ReferenceEngine, matrices
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.precision import name_of, product_dtype
from worldmodels.run import cores
from worldmodels.seeding import numpy_generator
from worldmodels.workers import WorkersConfig, one_thread

POPULATION, ROLLOUTS = 64, 16
LANES = POPULATION * ROLLOUTS


def dream_rows(folder: Path, quick: bool) -> Iterable[Row]:
    """All rows about the dream; untrained bundles are written in `folder`."""
    steps, rounds = (30, 3) if quick else (150, 7)
    targets = (target(0.5, 0.75), target(4.0, 2.1)), (target(0.6, 0.75), target(3.5, 1.4))
    for size, (bound, plain) in zip((CAR_RACING, TAKE_COVER), targets, strict=True):
        here = untrained(size, folder / f"h{size.config.mdnrnn.hidden_size}")
        bundle = Bundle.load(here)
        loop = plain_loop(bundle, max(3, steps // 6))
        yield side_by_side(
            f"dream and C, {POPULATION} x {ROLLOUTS} lanes, {size.name}",
            f"their matrix products alone, in {name_of(product_dtype())}, {cores()} threads",
            "steps/s",
            evolving(bundle, POPULATION, ROLLOUTS, steps),
            products(bundle, product_dtype(), steps),
            rounds=rounds,
            target=bound,
        )
        plain_float32 = "a loop over nn.LSTMCell in float32", loop
        against = [(ROLLOUTS, *plain_float32, plain), (LANES, *plain_float32, None)]
        if size is CAR_RACING:
            reference = "plain PyTorch in float32, 1 lane", one_lane(bundle, steps)
            against.append((ROLLOUTS, *reference, target(100.0, None)))
        for distinct, name, theirs, least in against:
            yield side_by_side(
                f"Dream-v0, {LANES} lanes, {distinct} distinct seeds, {size.name}",
                name,
                "steps/s",
                stepping(here, bundle, distinct, steps),
                theirs,
                rounds=rounds,
                target=least,
            )
    for size in SIZES:
        yield generation_row(folder, size, 100 if quick else 1000)


def generation_row(folder: Path, size: Size, steps: int) -> Row:
    """Seconds of a generation of the paper's size in the dream."""
    bundle = Bundle.load(untrained(size, folder / f"generation{size.config.mdnrnn.hidden_size}"))
    work = evolving(bundle, POPULATION, ROLLOUTS, steps)
    work()  # compiles
    lane_steps, seconds = timed(work)
    what = f"a generation in the dream, {POPULATION} x {ROLLOUTS} x 1000 steps, {size.name}"
    return number(what, seconds * LANES * 1000 / lane_steps, "s")


def evolving(
    bundle: Bundle, population: int, rollouts: int, steps: int, threads: int | None = None
) -> Work:
    """A generation as evolution dreams it."""
    dreams = Dreams.of_bundle(bundle, DreamConfig(horizon=steps))
    evaluate = Evaluation(place=dreams, workers=WorkersConfig(processes=threads or cores()))
    parameters = candidates(bundle, population)
    return lambda: float(evaluate(parameters, range(rollouts))[1].sum())


def stepping(folder: Path, bundle: Bundle, distinct: int, steps: int) -> Work:
    """The registered environment, NumPy at its border, with a population of controllers."""
    env = gymnasium.make_vec("worldmodels/Dream-v0", num_envs=LANES, bundle=folder, horizon=10**9)
    return _stepped(env, bundle, POPULATION, [lane % distinct for lane in range(LANES)], steps)


def one_lane(bundle: Bundle, steps: int) -> Work:
    """What the compiled engine must equal: PyTorch's operations one by one, for a single lane."""
    env = make_dream(bundle=bundle, horizon=10**9, autoreset_mode=AutoresetMode.DISABLED)
    env.engine = ReferenceEngine(bundle.mdnrnn)
    stepped = _stepped(env, bundle, 1, [0], steps)

    def work() -> float:
        with one_thread():  # a second one only slows so small a product down
            return stepped()

    return work


def _stepped(env: Any, bundle: Bundle, population: int, seeds: list[int], steps: int) -> Work:
    policy = Candidates(bundle.controller, candidates(bundle, population), bundle.actions)
    observations, _ = env.reset(seed=seeds)
    live = np.ones(len(seeds), bool)

    def work() -> float:
        nonlocal observations
        for _ in range(steps):
            observations = env.step(policy(observations, live))[0]
        return float(steps * len(seeds))

    return work


def products(bundle: Bundle, dtype: torch.dtype, steps: int) -> Work:
    """The bound: M's two products for all lanes and nothing else."""
    weights, outs = (matrix.to(dtype).contiguous() for matrix in matrices(bundle.mdnrnn))
    inputs, h = (torch.randn(LANES, w.shape[0]).to(dtype) for w in (weights, outs))
    gates, outputs = (torch.empty(LANES, w.shape[1], dtype=dtype) for w in (weights, outs))

    @torch.inference_mode()
    def work() -> float:
        for _ in range(steps):
            torch.mm(inputs, weights, out=gates)
            torch.mm(h, outs, out=outputs)
        return float(steps * LANES)

    return work


def plain_loop(bundle: Bundle, steps: int) -> Work:
    """The dream as one would write it first, float32, for all lanes and their controllers."""
    mdnrnn, actions = bundle.mdnrnn, bundle.actions
    inputs = mdnrnn.lstm.input_size
    cell = nn.LSTMCell(inputs, mdnrnn.config.hidden_size).requires_grad_(False)
    head = mdnrnn.head
    weights = torch.from_numpy(candidates(bundle, POPULATION)).float()
    flag = torch.zeros(LANES, inputs - mdnrnn.latent_size - actions.size)
    z = torch.zeros(LANES, mdnrnn.latent_size)
    h, c = mdnrnn.initial_state(LANES)

    @torch.inference_mode()
    def work() -> float:
        nonlocal z, h, c
        for _ in range(steps):
            parts = [z, c, h] if bundle.controller.config.inputs == "zch" else [z, h]
            features = torch.cat(parts, 1).view(POPULATION, ROLLOUTS, -1)
            action = actions.bound(bundle.controller.act(weights, features)).view(LANES, -1)
            h, c = cell(torch.cat([z, action, flag], 1), (h, c))
            z = _drawn(mdnrnn, head(h))
        return float(steps * LANES)

    return work


def _drawn(mdnrnn: MDNRNN, outputs: Tensor) -> Tensor:
    """z from the mixtures, with Gumbel noise for the choice."""
    K, Z = mdnrnn.config.num_mixtures, mdnrnn.latent_size
    logits, means, log_stds = outputs[:, : 3 * K * Z].view(-1, 3, K, Z).unbind(1)
    gumbel = -torch.log(-torch.log(torch.rand_like(logits)))
    k = (logits.log_softmax(1) + gumbel).argmax(1, keepdim=True)
    mean, log_std = means.gather(1, k).squeeze(1), log_stds.gather(1, k).squeeze(1)
    return mean + log_std.exp() * torch.randn_like(mean)


def dream_growth(folder: Path, quick: bool) -> dict[str, dict[str, float]]:
    """Dream steps a second by lanes, by rollouts, by hidden size and by threads."""
    steps = 20 if quick else 100
    bundle = Bundle.load(untrained(CAR_RACING, folder / "growth"))

    def by(values: Iterable[int], make: Callable[[int], Work]) -> dict[str, float]:
        return {str(value): rate(make(value)) for value in values}

    return {
        "dream steps/s by candidates (16 rollouts each)": by(
            (1, 4, 16, 64, 256), lambda p: evolving(bundle, p, ROLLOUTS, steps)
        ),
        "dream steps/s by rollouts (64 candidates)": by(
            (1, 4, 16, 64), lambda r: evolving(bundle, POPULATION, r, steps)
        ),
        "dream steps/s by hidden size (64 x 16 lanes)": by(
            (64, 128, 256, 512, 1024),
            lambda h: evolving(_of_hidden_size(bundle, h), POPULATION, ROLLOUTS, steps),
        ),
        "dream steps/s by cores (64 x 16 lanes)": by(
            range(1, cores() + 1), lambda n: evolving(bundle, POPULATION, ROLLOUTS, steps, n)
        ),
    }


def _of_hidden_size(bundle: Bundle, hidden_size: int) -> Bundle:
    config = replace(bundle.mdnrnn.config, hidden_size=hidden_size)
    sizes = bundle.mdnrnn.latent_size, bundle.actions.size
    mdnrnn = MDNRNN(config, *sizes, bundle.mdnrnn.heads).requires_grad_(False)
    controller = controller_for(bundle.controller.config, mdnrnn)
    return replace(bundle, mdnrnn=mdnrnn, controller=controller)


def candidates(bundle: Bundle, size: int) -> np.ndarray:
    generator = numpy_generator(0, "benchmark population")
    return 0.1 * generator.standard_normal((size, bundle.controller.num_parameters))
