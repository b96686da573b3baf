"""Minutes that a run takes on this machine, from the pace of its stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from worldmodels.acting.environments import OFFICIAL_LANES, Dreams, real_envs
from worldmodels.acting.evaluate import Evaluation
from worldmodels.config import Config
from worldmodels.data.dataset import FrameBatch, collate
from worldmodels.data.episode import LatentEpisode
from worldmodels.data.starts import Starts
from worldmodels.device import get_device
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.senses import senses_of
from worldmodels.models.action import Actions
from worldmodels.models.controller import controller_for
from worldmodels.models.heads.build import mdnrnn_for
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.run import Metrics, Run
from worldmodels.seeding import numpy_generator, torch_generator
from worldmodels.stages.train_mdnrnn import mdnrnn_loss
from worldmodels.stages.train_vae import frames_loss
from worldmodels.world import World

LANES = 8
"""Real environments of a measurement, as those of a job that collects."""
SECONDS = 0.5
"""Time for which each pace is measured, after a first call that is not."""
DREAM_LANES, DREAM_STEPS = 1024, 16
"""Size of the measured dreams, at most."""
ENCODED = 256
"""Frames of the measured encoding."""
LEAST = 500
"""Training steps of V and M below which a run is too short for an estimate."""


def minutes_left(done: Sequence[Run], config: Config) -> float | None:
    """Minutes of the remaining rounds, if each stage keeps its pace.

    None: no round is left, or one of them evolves in the real environment, whose pace is not known.
    """
    rounds = [config.of_round(index) for index in range(config.rounds)]
    if len(done) == len(rounds) or any(one.evolve.real_generations for one in rounds):
        return None
    spent, work = Metrics.spent(done), [_work(one, index) for index, one in enumerate(rounds)]
    seconds = 0.0
    for stage in work[0]:
        behind, ahead = work[: len(done)], work[len(done) :]
        pace = spent.get(stage, 0.0) / sum(one[stage] for one in behind)
        seconds += pace * sum(one[stage] for one in ahead)
    return seconds / 60


def expected_minutes(config: Config, world: World) -> dict[str, float]:
    """Minutes of each stage of a run that has not begun, without those of films and reports.

    Every stage works for some seconds, with random numbers. Episodes and dreams count with their
    greatest length; real episodes with the longest that is collected.

    Args:
        config: of all rounds.
        world: of the environment that is played.
    """
    rounds = [config.of_round(index) for index in range(config.rounds)]
    paces = _paces(config, world)
    minutes = dict.fromkeys(("collect", "train_vae", "encode", "train_mdnrnn", "evolve"), 0.0)
    for index, one in enumerate(rounds):
        for stage, amount in _work(one, index).items():
            minutes[stage] += amount * paces[stage] / 60
    longest = max(one.collect.max_steps for one in rounds)
    real = paces["collect"] * longest / 60  # minutes of an episode
    minutes["evolve"] += real * sum(_real_episodes(one) for one in rounds)
    if config.rounds > 1:
        minutes["select"] = real * 3 * config.select.episodes
    official = paces["official"] * longest / 60
    minutes["evaluate"] = official * config.evaluate.episodes
    return minutes


def _work(config: Config, index: int) -> dict[str, int]:
    """What the time of each stage of a round is proportional to."""
    vae, mdnrnn, evolve = config.train_vae, config.train_mdnrnn, config.evolve
    candidates = evolve.generations * evolve.evolutions * config.cma.population_size
    return {
        "collect": config.collect.episodes * config.collect.max_steps,
        "train_vae": 0 if index and vae.start == "keep" else vae.steps * vae.batch_size,
        "encode": config.collect.episodes * config.collect.max_steps,
        "train_mdnrnn": mdnrnn.steps * mdnrnn.batch_size * mdnrnn.sequence_length,
        "evolve": candidates * evolve.rollouts_per_candidate * _dream_steps(config),
    }


def _dream_steps(config: Config) -> int:
    return min(config.dream.horizon, config.evolve.dream_max_steps or config.dream.horizon)


def _real_episodes(config: Config) -> int:
    """Real episodes of a round's evolution: its generations, validations and last choice."""
    evolve = config.evolve
    validated = -(-evolve.total // evolve.validate_every) * evolve.validation_episodes
    chosen = evolve.evolutions * (validated + 3 * evolve.final_episodes)
    candidates = evolve.real_generations * config.cma.population_size
    return chosen + candidates * evolve.rollouts_per_candidate


def _paces(config: Config, world: World) -> dict[str, float]:
    """Seconds for each unit of `_work`, and for a step in the official environment."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = VAE(config.vae, world.config.size)
        mdnrnn = mdnrnn_for(config.mdnrnn, world, config.vae.latent_size)
    acting = _acting(config, world, vae, mdnrnn, official=False)
    return {
        "collect": acting,
        "official": _acting(config, world, vae, mdnrnn, official=True)
        if world.config.training_id
        else acting,
        "train_vae": _training_vae(config, vae),
        "encode": _encoding(vae),
        "train_mdnrnn": _training_mdnrnn(config, mdnrnn),
        "evolve": _dreaming(config, world, vae.eval(), mdnrnn.eval()),
    }


def _pace(work: Callable[[], int]) -> float:
    """Seconds for each unit that `work` says to have done; its first call is not measured."""
    work()
    amount, begun = 0, time.perf_counter()
    while not amount or time.perf_counter() - begun < SECONDS:
        amount += work()
    return (time.perf_counter() - begun) / amount


def _acting(config: Config, world: World, vae: VAE, mdnrnn: MDNRNN, *, official: bool) -> float:
    """Of a step of the real environment, with V, M and resets, on all workers."""
    lanes = OFFICIAL_LANES if official else LANES
    actions, settings = Actions.from_dict(world.action), config.controller
    senses = senses_of(settings, vae.eval(), mdnrnn.eval())
    generator, seeds = numpy_generator(0, "pace"), iter(range(10**9))
    with real_envs(world, lanes, official=official) as envs:
        env = FeatureEnv(envs, *senses, actions, settings.inputs)
        over = np.ones(lanes, bool)

        def work() -> int:
            nonlocal over
            if over.any():
                env.reset(seed=[next(seeds) for _ in over], options={"reset_mask": over})
            raw = torch.from_numpy(generator.normal(size=(lanes, actions.size))).float()
            _, _, terminated, truncated, _ = env.step(actions.bound(raw).numpy())
            over = terminated | truncated
            return lanes

        return _pace(work) / config.workers.count


def _training_vae(config: Config, vae: VAE) -> float:
    """Of an image."""
    size, device = config.train_vae.batch_size, get_device()
    pixels = numpy_generator(0, "pace").integers(0, 256, (size, vae.size, vae.size, 3), np.uint8)
    frames = torch.from_numpy(pixels)
    batch = FrameBatch(frames, frames if config.train_vae.motion_weight else None).to(device)
    noise = torch.zeros(size, vae.config.latent_size, device=device)
    vae.train().to(device)

    def work() -> int:
        frames_loss(vae, batch, noise, config.train_vae)[0].backward()
        return size

    pace = _pace(work)
    vae.cpu()
    return pace


def _encoding(vae: VAE) -> float:
    """Of a frame."""
    frames = torch.zeros(ENCODED, vae.size, vae.size, 3, dtype=torch.uint8)

    def work() -> int:
        vae.encode(frames)
        return ENCODED

    with torch.inference_mode():
        return _pace(work)


def _training_mdnrnn(config: Config, mdnrnn: MDNRNN) -> float:
    """Of a step of a sequence."""
    train, device = config.train_mdnrnn, get_device()
    length, size = train.sequence_length, train.batch_size
    flat, none = np.zeros(length, np.float32), np.zeros(length, bool)
    latents = np.zeros((length + 1, mdnrnn.latent_size), np.float16)
    actions = np.zeros((length, mdnrnn.action_size), np.float32)
    episode = LatentEpisode(latents, latents, actions, flat, flat, none, none, none)
    batch = collate([(episode, 0, length)] * size, length).to(device)
    mdnrnn.train().to(device)

    def work() -> int:
        mdnrnn_loss(mdnrnn, batch, train, torch_generator(0, "pace"))[0].backward()
        return size * length

    pace = _pace(work)
    mdnrnn.cpu()
    return pace


def _dreaming(config: Config, world: World, vae: VAE, mdnrnn: MDNRNN) -> float:
    """Of a dreamt step of a lane; no lane ends."""
    rollouts = min(config.evolve.rollouts_per_candidate, DREAM_LANES)
    candidates = min(config.cma.population_size, max(1, DREAM_LANES // rollouts))
    steps, window = min(DREAM_STEPS, _dream_steps(config)), config.dream.warmup
    mu = torch.zeros(1, window, mdnrnn.latent_size)
    starts = Starts(mu, torch.zeros(1, window, mdnrnn.action_size), torch.zeros(1))
    dream = replace(config.dream, horizon=steps, goal=None, ends="none", weight="none")
    controller = controller_for(config.controller, mdnrnn)
    dreams = Dreams(world, vae, mdnrnn, starts, dream, controller)
    evaluate = Evaluation(place=dreams, workers=config.workers)
    parameters = np.zeros((candidates, controller.num_parameters))

    def work() -> int:
        return int(evaluate(parameters, range(rollouts))[1].sum())

    return _pace(work)
