"""Minutes that a run takes on this machine, from the pace of its stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from worldmodels.acting.environments import DREAM_LANES, OFFICIAL_LANES, Dreams, real_envs
from worldmodels.acting.evaluate import Evaluation
from worldmodels.config import Config
from worldmodels.data.dataset import FrameBatch, collate
from worldmodels.data.episode import LatentEpisode
from worldmodels.data.starts import Starts
from worldmodels.device import get_device
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.mirror import views_of
from worldmodels.envs.senses import senses_of
from worldmodels.models.action import Actions
from worldmodels.models.controller import ControllerConfig, controller_for
from worldmodels.models.heads.build import mdnrnn_for
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.run import Metrics, Run
from worldmodels.seeding import numpy_generator, torch_generator
from worldmodels.stages.collect import LANES
from worldmodels.stages.encode import BATCH as ENCODED
from worldmodels.stages.evolve import FINALISTS
from worldmodels.stages.select_round import FINALISTS as BEST_ROUNDS
from worldmodels.stages.train_mdnrnn import mdnrnn_loss
from worldmodels.stages.train_vae import frames_loss
from worldmodels.workers import run_jobs
from worldmodels.world import World

SECONDS = 0.5
"""Time for which each pace is measured, after a first call that is not."""
DREAM_STEPS = 64
"""Of the measured dreams, at most: the block for which noise is sampled."""
LEAST = 500
"""Steps of training V and M in the first round, together, below which there is no estimate: the run
is too short."""
POLICIES = 3
"""That `evaluate` plays: the agent and two open-loop policies."""


def minutes_left(done: Sequence[Run], config: Config) -> float | None:
    """Minutes of the remaining rounds, if each stage keeps its pace.

    None: no round is left, or one of them evolves in the real environment, whose pace is not known.
    """
    rounds = [config.of_round(index) for index in range(config.rounds)]
    if len(done) == len(rounds) or any(one.evolve.real_generations for one in rounds):
        return None
    spent, work = Metrics.spent(done), [_work(rounds, index) for index in range(len(rounds))]
    seconds = 0.0
    for stage in work[0]:
        behind, ahead = work[: len(done)], work[len(done) :]
        pace = spent.get(stage, 0.0) / sum(one[stage] for one in behind)
        seconds += pace * sum(one[stage] for one in ahead)
    return seconds / 60


def expected_minutes(config: Config, world: World) -> dict[str, float]:
    """Minutes of each stage of a run that has not begun.

    Each stage's work is measured for half a second, with random numbers. Dreams count with their
    greatest length, real episodes with the greatest one that is collected, or with the length at
    which the environment truncates. The search for the best constant action, films and the report
    come on top.

    Args:
        config: of all rounds.
        world: of the environment that is played.

    Raises:
        InputError: the environment fails.
    """
    rounds = [config.of_round(index) for index in range(config.rounds)]
    paces = _paces(config, world)
    real, official = paces.real, paces.official
    longest = max(one.collect.max_steps for one in rounds)
    minutes = dict.fromkeys(("collect", "train_vae", "encode", "train_mdnrnn", "evolve"), 0.0)
    for index, one in enumerate(rounds):
        for stage, amount in _work(rounds, index, real.truncated).items():
            minutes[stage] += amount * paces.of[stage] / 60
        minutes["collect"] += one.collect.episodes * real.reset / 60
        minutes["evolve"] += _real_episodes(one, index) * real.episode(longest)
    if config.rounds > 1:
        finalists = min(BEST_ROUNDS, config.rounds)
        minutes["select"] = finalists * config.select.episodes * real.episode(longest)
    minutes["evaluate"] = POLICIES * config.evaluate.episodes * official.episode(longest)
    return minutes


@dataclass(frozen=True)
class Acting:
    """A real environment, seen by V and M on all workers."""

    reset: float
    """Seconds."""
    step: float
    """Seconds."""
    truncated: int | None = None
    """Steps after which all its episodes were truncated, if they were."""

    def episode(self, steps: int) -> float:
        """Minutes of an episode."""
        return (self.reset + self.step * min(steps, self.truncated or steps)) / 60


@dataclass(frozen=True)
class Paces:
    """What work takes."""

    of: dict[str, float]
    """Seconds for each unit of `_work`, by stage."""
    real: Acting
    official: Acting


def _work(rounds: Sequence[Config], index: int, longest: int | None = None) -> dict[str, int]:
    """What the time of each stage of a round is proportional to; episodes end after `longest`."""
    config = rounds[index]
    vae, mdnrnn, evolve = config.train_vae, config.train_mdnrnn, config.evolve
    kept = index > 0 and vae.start == "keep"
    steps = [
        one.collect.episodes * min(one.collect.max_steps, longest or one.collect.max_steps)
        for one in rounds[: index + 1]
    ]
    candidates = evolve.generations * evolve.evolutions * config.cma.population_size
    return {
        "collect": steps[-1],
        "train_vae": 0 if kept else vae.steps * vae.batch_size,
        # a V that has changed sees all episodes again
        "encode": len(views_of(config.env)) * (steps[-1] if kept else sum(steps)),
        "train_mdnrnn": mdnrnn.steps * mdnrnn.batch_size * mdnrnn.sequence_length,
        "evolve": candidates * evolve.rollouts_per_candidate * _dream_steps(config),
    }


def _dream_steps(config: Config) -> int:
    return min(config.dream.horizon, config.evolve.dream_max_steps or config.dream.horizon)


def _real_episodes(config: Config, index: int) -> int:
    """Real episodes of a round's evolution: its generations, validations and last choice."""
    evolve = config.evolve
    validations = -(-evolve.total // evolve.validate_every) * evolve.evolutions
    validations += (index > 0 and evolve.start == "previous") or evolve.start_from is not None
    candidates = evolve.real_generations * evolve.evolutions * config.cma.population_size
    played = candidates * evolve.rollouts_per_candidate
    return played + validations * evolve.validation_episodes + FINALISTS * evolve.final_episodes


def _paces(config: Config, world: World) -> Paces:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = VAE(config.vae, world.config.size)
        mdnrnn = mdnrnn_for(config.mdnrnn, world, config.vae.latent_size)
    of = {
        "train_vae": _training_vae(config, vae),
        "encode": _encoding(vae.eval()),
        "train_mdnrnn": _training_mdnrnn(config, mdnrnn),
        "evolve": _dreaming(config, world, vae, mdnrnn.eval()),
    }
    # in workers, which outlive no environment that ends its process; this one does
    which = [False, True] if world.config.training_id else [False]
    jobs = [(world, vae, mdnrnn, config.controller, official, SECONDS) for official in which]
    count, measured = config.workers.count, run_jobs(_acting, jobs, config.workers, apart=True)
    real = [replace(one, reset=one.reset / count, step=one.step / count) for one in measured]
    return Paces({**of, "collect": real[0].step}, real[0], real[-1])


def _pace(work: Callable[[], int]) -> float:
    """Seconds for each unit that `work` says to have done; its first call is not measured."""
    work()
    amount, begun = 0, _now()
    while not amount or time.perf_counter() - begun < SECONDS:
        amount += work()
    return (_now() - begun) / amount


def _now() -> float:
    """The time at which the device has done what it was given."""
    if get_device().type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def _acting(
    world: World,
    vae: VAE,
    mdnrnn: MDNRNN,
    settings: ControllerConfig,
    official: bool,
    seconds: float,
) -> Acting:
    """One environment among those of a worker; acts at random for some seconds."""
    actions, generator = Actions.from_dict(world.action), numpy_generator(0, "pace")
    lanes = OFFICIAL_LANES if official else LANES
    with real_envs(world, lanes, official=official) as envs:
        env = FeatureEnv(envs, *senses_of(settings, vae, mdnrnn), actions, settings.inputs)
        _play(env, 0, actions, generator, seconds)  # the first episodes may compile
        return _play(env, lanes, actions, generator, seconds)


def _play(
    env: FeatureEnv, seed: int, actions: Actions, generator: np.random.Generator, seconds: float
) -> Acting:
    """Episodes of consecutive seeds, side by side, for some seconds."""
    lanes = env.num_envs
    begun = time.perf_counter()
    env.reset(seed=list(range(seed, seed + lanes)))
    reset = time.perf_counter() - begun
    over, truncated, steps = np.zeros(lanes, bool), np.zeros(lanes, bool), np.zeros(lanes, int)
    begun = time.perf_counter()
    while not over.all() and (not steps.any() or time.perf_counter() - begun < seconds):
        raw = torch.from_numpy(generator.normal(size=(lanes, actions.size))).float()
        steps += ~over
        _, _, terminated, truncated, _ = env.step(actions.bound(raw).numpy())
        over = terminated | truncated
    step = (time.perf_counter() - begun) / steps.sum()
    return Acting(reset / lanes, step, int(steps.max()) if truncated.all() else None)


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
    frames = torch.zeros(ENCODED, vae.size, vae.size, 3, dtype=torch.uint8, device=get_device())
    vae.to(get_device())

    def work() -> int:
        vae.encode(frames)
        return ENCODED

    pace = _pace(work)
    vae.cpu()
    return pace


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
    rollouts = config.evolve.rollouts_per_candidate
    candidates = min(
        config.cma.population_size, max(2, DREAM_LANES * config.workers.count // rollouts)
    )
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
