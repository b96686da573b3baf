"""Inspect a dream: numbers and figures of how it differs from reality, on held-out episodes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

import numpy as np
from jaxtyping import Float64
from scipy import stats

from worldmodels.acting.environments import Dreams, ModelFiles
from worldmodels.acting.evaluate import DreamEvaluation, Evaluations
from worldmodels.artifacts import (
    check_dreams,
    load_controller,
    load_mdnrnn,
    load_vae,
    load_world,
)
from worldmodels.config import Config
from worldmodels.data.dataset import EpisodeSource
from worldmodels.data.episode import LatentEpisode
from worldmodels.data.starts import sample_moments, sample_starts
from worldmodels.diagnostics.figures import draw_figures
from worldmodels.diagnostics.held_out import HeldOut, held_out_episodes
from worldmodels.diagnostics.prediction import (
    Predicted,
    calibration,
    nll_by_horizon,
    predict,
    sample_windows,
    uniformity,
    unweighted,
)
from worldmodels.diagnostics.ranking import (
    Candidate,
    load_candidates,
    measured,
    rank_correlation,
)
from worldmodels.diagnostics.reconstruction import measure_reconstruction
from worldmodels.diagnostics.side_by_side import (
    Controlled,
    FixedPolicy,
    SideBySide,
    is_repeatable,
    open_loop_policies,
)
from worldmodels.diagnostics.summary import summary
from worldmodels.errors import InputError
from worldmodels.files import load_json, save_json
from worldmodels.models.controller import controller_for
from worldmodels.models.heads.termination import TerminationHead
from worldmodels.ranges import PositiveFloat, PositiveInt, Range
from worldmodels.run import Metrics, Run, say
from worldmodels.seeding import environment_seeds, seed_for, torch_generator
from worldmodels.versions import circumstances
from worldmodels.workers import one_thread

Part = Literal["reconstruction", "likelihood", "termination", "pit", "survival", "ranking"]

FIRST_EPISODE = 1000
"""Number of the first validation episode that is used. Evolution and the choice among rounds use
those from 0 on."""
WINDOWS, HORIZONS, SAMPLES = 500, (1, 5, 15, 50), 16
"""Windows from which z is predicted, steps ahead, and M's sampled histories of each window."""
SURVIVAL_TOLERANCE, RETURN_TOLERANCE = 0.15, 0.5
"""Sanity bands of the collecting policy in the dream: its mean survival, as a share of reality's,
or where M predicts no end its mean return, in standard deviations of reality's."""


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """How the dream is compared with reality."""

    parts: tuple[Part, ...] = get_args(Part)
    """What is measured; other results of an earlier inspection of the same V and M are kept."""
    episodes: PositiveInt = 200
    """Held-out episodes of the collecting policy, and as many of the run's controller."""
    starts: PositiveInt = 200
    """Held-out moments from which each policy goes on, in the dream and in reality."""
    dreams: PositiveInt = 4
    """Dreams from each moment."""
    temperature: PositiveFloat = 1.0
    """Temperature of these dreams; M was trained at 1."""
    ranking_episodes: Annotated[int, Range(2.0)] = 100
    """Real episodes of each controller of RUN/controllers."""
    ranking_dreams: Annotated[int, Range(2.0)] = 256
    """Dreams of each."""


@dataclass(frozen=True, kw_only=True)
class InspectSections(Config):
    """A run's config, and how its dream is inspected."""

    inspect: InspectConfig = field(default_factory=InspectConfig)


def inspect_dream(run: Run, config: InspectSections) -> dict[str, Any]:
    """Writes inspection/inspection.json and a figure for each of its parts.

    Args:
        run: has V and M, and latents or an unpacked bundle's starts; perhaps C and controllers/.
        config: the run's, and what is measured.

    Returns:
        What inspection.json holds.

    Raises:
        InputError: V or M is missing, or they do not belong together.
    """
    with Metrics(run, "inspect_dream") as metrics, one_thread():
        inspection = Inspection(run, config)
        file, hashes = inspection.folder / "inspection.json", list(inspection.models.hashes)
        report = load_json(file) if file.exists() else {}
        if report.get("hashes") != hashes:  # of another V or M
            report = {"run": run.name, "hashes": hashes, "conditions": {}}
        for part in config.inspect.parts:
            report[part] = getattr(inspection, part)()
            report["conditions"][part] = {
                "config": asdict(config.inspect),
                "held_out": inspection.held_out_counts,
                "seconds": metrics.seconds,  # since the command began
                **circumstances(),
            }
            save_json(file, report)
        kept: dict[str, Any] = load_json(file)
        _check(metrics, kept)
    for line in summary(kept):
        say(line)
    try:
        draw_figures(kept, inspection.folder)
    except InputError as error:
        say(str(error))
    return kept


def _check(metrics: Metrics, report: dict[str, Any]) -> None:
    """The sanity band that says whether evolving in this dream makes sense."""
    row = (report.get("survival") or {"policies": {}})["policies"].get("explorer")
    if row is None:
        return
    name, scale, allowed = "return", "in standard deviations", RETURN_TOLERANCE
    value = row["returns"]["deviations"]
    if "survival" in row:
        name, scale, allowed = "survival", "as a share of it", SURVIVAL_TOLERANCE
        value = row["survival"]["ratio"] - 1
    metrics.check(
        f"the collecting policy's {name} in the dream, minus that in reality, {scale},",
        value,
        -allowed,
        allowed,
        "what evolves in this dream does not transfer: train V and M longer or collect more",
    )


class Inspection:
    """A run under inspection; what several parts need is read or computed once."""

    def __init__(self, run: Run, config: InspectSections) -> None:
        check_dreams(run)
        self.run, self.config, self.settings = run, config, config.inspect
        self.world, self.models = load_world(run), ModelFiles.of_run(run)
        self.mdnrnn = load_mdnrnn(run)
        self.seed = seed_for(config.seed, "inspect", run.number)
        self.folder = run.folder / "inspection"

    @cached_property
    def held_out(self) -> list[HeldOut]:
        return held_out_episodes(self.run, self.config, FIRST_EPISODE, self.settings.episodes)

    @property
    def held_out_counts(self) -> dict[str, Any]:
        """Episodes and first environment seed of each driver, for the report."""
        return {
            one.driver: {"episodes": len(one.files), "first_seed": one.seeds[0]}
            for one in self.held_out
        }

    @cached_property
    def predicted(self) -> Predicted:
        generator = torch_generator(self.seed, "predicted")
        return predict(self.mdnrnn, self.episodes, generator)

    @property
    def episodes(self) -> list[LatentEpisode]:
        return [LatentEpisode.load(path) for path in self.source.new]

    @property
    def source(self) -> EpisodeSource:
        return EpisodeSource([path for one in self.held_out for path in one.source.new])

    @cached_property
    def evaluations(self) -> Evaluations:
        """As in evolution."""
        config = self.config
        settings = config.controller, config.dream, config.workers, config.seed
        return Evaluations.of_run(self.run, *settings, config.evolve.validation_max_steps)

    @cached_property
    def dreams(self) -> Dreams:
        """The run's dreams, but they begin in held-out episodes."""
        dream = self.config.dream
        starts = sample_starts(
            self.source,
            kind=dream.starts,
            count=dream.num_starts,
            window=dream.warmup,
            seed=self.seed,
        )
        return replace(self.evaluations.dreams, starts=starts)

    def reconstruction(self) -> dict[str, Any]:
        """V's reconstruction error; writes a picture too."""
        vae = load_vae(self.run)
        files = [path for one in self.held_out for path in one.files]
        seeds = [seed for one in self.held_out for seed in one.seeds]
        workers = self.config.workers
        return measure_reconstruction(vae, self.world, files, seeds, workers, self.folder)

    def likelihood(self) -> list[dict[str, Any]]:
        warmup = self.config.dream.warmup
        rows = nll_by_horizon(
            self.mdnrnn,
            sample_windows(self.episodes, WINDOWS, warmup, HORIZONS[-1], self.seed),
            warmup=warmup,
            horizons=HORIZONS,
            samples=SAMPLES,
            generator=torch_generator(self.seed, "likelihood"),
        )
        return [asdict(row) for row in rows]

    def termination(self) -> dict[str, Any] | None:
        """Calibration of the end; None: M has no head for it."""
        p, ended, head = self.predicted.end, self.predicted.ended, self.mdnrnn.find(TerminationHead)
        if p is None or head is None:
            return None
        weight = head.positive_weight
        raw, corrected = calibration(p, ended), calibration(unweighted(p, weight), ended)
        return {"positive_weight": weight, "raw": asdict(raw), "corrected": asdict(corrected)}

    def pit(self) -> dict[str, Any]:
        return asdict(uniformity(self.predicted.pit))

    def survival(self) -> dict[str, Any] | None:
        """Open-loop policies go on from the collecting policy's moments, C from its own."""
        explorer, *controllers = self.held_out
        if not is_repeatable(self.world, explorer.files[0], explorer.seeds[0], self.config.workers):
            say("recorded actions do not give the recorded frames again: survival is not compared")
            return None
        policies = open_loop_policies(self.world.config, self.config.collect.explore)
        found = self._compare(explorer, policies)
        for one in controllers:
            found |= self._compare(one, [self._controlled()])
        if not found:
            return None
        return {
            "kind": "survival" if self.side_by_side.ends else "returns",
            "horizon": self.config.dream.horizon,
            "temperature": self.settings.temperature,
            "policies": found,
        }

    def _compare(self, held_out: HeldOut, policies: list[FixedPolicy]) -> dict[str, Any]:
        window = self.config.dream.warmup
        moments = sample_moments(
            held_out.source, count=self.settings.starts, window=window, seed=self.seed
        )
        if not moments:
            say(f"{held_out.driver}: all held-out episodes are shorter than dream.warmup")
            return {}
        return self.side_by_side.compare(policies, held_out, moments)

    @cached_property
    def side_by_side(self) -> SideBySide:
        dream = replace(self.config.dream.unweighted, temperature=self.settings.temperature)
        return SideBySide(
            world=self.world,
            models=self.models,
            make_dream=self.dreams.make,
            dream=dream,
            ends=self.mdnrnn.find(TerminationHead) is not None,
            dreams=self.settings.dreams,
            workers=self.config.workers,
            seed=self.seed,
        )

    def _controlled(self) -> Controlled:
        saved = load_controller(self.run)
        controller = controller_for(saved.config, self.mdnrnn)
        return Controlled("controller", controller, saved.best.double().numpy())

    def ranking(self) -> dict[str, Any] | None:
        """Ranks of the controllers of RUN/controllers; None: there are fewer than two."""
        count = self.evaluations.num_parameters
        candidates = load_candidates(self.run.folder / "controllers", count)
        if len(candidates) < 2:
            return None
        dream, real = self._dream_returns(candidates), self._real_returns(candidates)
        rows = [
            {"file": one.file, "generation": one.generation, **_means(dreamt, there)}
            for one, dreamt, there in zip(candidates, dream, real, strict=True)
        ]
        return asdict(rank_correlation(dream, real, self.seed)) | {"candidates": rows}

    def _dream_returns(self, candidates: list[Candidate]) -> Float64[np.ndarray, "C D"]:
        """In dreams as they were evolved in, but from held-out moments."""
        base, count = seed_for(self.seed, "dreams") % 2**40, self.settings.ranking_dreams
        about = {"dream": asdict(self.config.dream), "held_out": self.held_out_counts}
        evaluate = DreamEvaluation(self.dreams.make, self.dreams.controller, self.config.workers)
        seeds = [base + r for r in range(count)]
        return self._measured(
            "dream", about | {"seeds": [base, count]}, candidates, evaluate, seeds
        )

    def _real_returns(self, candidates: list[Candidate]) -> Float64[np.ndarray, "C E"]:
        count, limit = self.settings.ranking_episodes, self.config.evolve.validation_max_steps
        about = {"max_steps": limit, "seeds": [FIRST_EPISODE, count]}
        seeds = environment_seeds("validation", FIRST_EPISODE, count)
        return self._measured("real", about, candidates, self.evaluations.validation, seeds)

    def _measured(
        self, world: str, about: dict[str, Any], *rest: Any
    ) -> Float64[np.ndarray, "C R"]:
        made = {"hashes": list(self.models.hashes), "controller": asdict(self.config.controller)}
        return measured(self.folder / f"ranking_{world}.json", made | about, *rest)


def _means(dream: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """A controller's means and their standard errors."""
    return {
        "dream": float(dream.mean()),
        "real": float(real.mean()),
        "dream_error": stats.sem(dream),
        "real_error": stats.sem(real),
    }
