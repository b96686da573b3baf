"""Whether the dream ranks controllers as reality does, as far as noisy returns can tell."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float32, Float64
from scipy import stats

from worldmodels.acting.evaluate import Evaluate, Evaluation
from worldmodels.artifacts import controller_file, load_controller
from worldmodels.diagnostics.inspection import FIRST_EPISODE, Inspection, Rows
from worldmodels.diagnostics.survival import bootstrapped
from worldmodels.errors import InputError
from worldmodels.files import load_tensors, plain, save_json
from worldmodels.run import progress
from worldmodels.schema import load_like
from worldmodels.seeding import environment_seeds, numpy_generator, seed_for


class Ranked(TypedDict):
    """Returns by controller, and the conditions under which they were measured."""

    about: dict[str, Any]
    returns: dict[str, list[float]]


HALVINGS = 1000
TOGETHER = 4
"""Controllers that are measured side by side, and lost if the command is killed."""


def ranking(inspection: Inspection) -> Rows:
    """Ranks of the controllers of RUN/controllers, unless there are fewer than two."""
    count = inspection.run_dreams.controller.num_parameters
    candidates = load_candidates(inspection.run.folder / "controllers", count)
    return [_ranked(inspection, "ranking", candidates)] if len(candidates) >= 2 else []


def neighbours(inspection: Inspection) -> Rows:
    """Ranks of controllers about the run's own, as evolution draws them, unless there are none.

    `of_rollouts` is the reliability of a generation: that of as many dreams as evolution plays.
    """
    count, sigma0 = inspection.settings.neighbours, inspection.config.cma.sigma0
    if count < 2 or controller_file(inspection.run) is None:
        return []
    best = load_controller(inspection.run).best.double().numpy()
    noise = numpy_generator(inspection.seed, "neighbours").standard_normal((count, len(best)))
    drawn = (best + sigma0 * noise).astype(np.float32)
    candidates = [Candidate("neighbours", number, one) for number, one in enumerate(drawn)]
    return [_ranked(inspection, "neighbours", candidates) | {"sigma": sigma0}]


def _ranked(inspection: Inspection, name: str, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The row of some candidates, whose returns are kept in files of this name.

    Their dreams are those of evolution, but from held-out moments.
    """
    config, settings, folder = inspection.config, inspection.settings, inspection.folder
    base = seed_for(inspection.seed, "dreams") % 2**40
    made = {"hashes": list(inspection.models.hashes), "controller": asdict(config.controller)}
    dream = measured(
        folder / f"{name}_dream.json",
        made | {"dream": asdict(config.dream), "held_out": inspection.held_out_counts},
        candidates,
        Evaluation(place=inspection.dreams, workers=config.workers),
        [base + r for r in range(settings.ranking_dreams)],
    )
    real = measured(
        folder / f"{name}_real.json",
        made,
        candidates,
        Evaluation(place=inspection.reality, workers=config.workers),
        environment_seeds("validation", FIRST_EPISODE, settings.ranking_episodes),
    )
    points = [
        {
            "file": one.file,
            "generation": one.generation,
            "dream": float(dreamt.mean()),
            "real": float(there.mean()),
            "dream_error": stats.sem(dreamt),
            "real_error": stats.sem(there),
        }
        for one, dreamt, there in zip(candidates, dream, real, strict=True)
    ]
    few = reliability(dream[:, : config.evolve.rollouts_per_candidate], inspection.seed)
    found = rank_correlation(dream, real, inspection.seed)
    return {**found, "of_rollouts": few, "candidates": points}


def rank_correlation(
    dream: Float64[np.ndarray, "C D"], real: Float64[np.ndarray, "C E"], seed: int = 0
) -> dict[str, Any]:
    """Compares the returns of C controllers in D dreams and E real episodes each.

    Returns:
        `spearman`, the ρ of their means (NaN if all returns of one world are equal), with the
        interval of a bootstrap over the controllers; `ceiling`, the expected ρ of a perfect dream,
        sqrt(reliability of dream) x sqrt(reliability of reality), because a measured correlation is
        at most the product of the correlations with the true values (Spearman 1904).
    """
    means = dream.mean(axis=1), real.mean(axis=1)
    of_real, of_dream = reliability(real, seed), reliability(dream, seed)
    return {
        "controllers": len(dream),
        "spearman": spearman(*means),
        "ci95": bootstrapped(spearman, means, numpy_generator(seed, "ranks")),
        "ceiling": float(np.sqrt(of_real * of_dream)),
        "real_reliability": of_real,
        "dream_reliability": of_dream,
    }


def spearman(x: Float64[np.ndarray, " C"], y: Float64[np.ndarray, " C"]) -> float:
    """Spearman's ρ; NaN if all values of a side are equal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(stats.spearmanr(x, y).statistic)


def reliability(returns: Float64[np.ndarray, "C N"], seed: int = 0) -> float:
    """Expected correlation of the controllers' means with those of as many other episodes.

    The mean ρ between random halves of the episodes, r, is that of half as many episodes; for all
    of them it is 2r / (1 + r). Source: Spearman 1910; Brown 1910. At least 0; NaN for less than
    two episodes.
    """
    generator, half = numpy_generator(seed, "halvings"), returns.shape[1] // 2
    if not half:
        return np.nan
    found = []
    for _ in range(HALVINGS):
        order = generator.permutation(returns.shape[1])
        halves = returns[:, order[:half]], returns[:, order[half : 2 * half]]
        found.append(spearman(*(part.mean(axis=1) for part in halves)))
    r = max(0.0, float(np.mean(found)))
    return 2 * r / (1 + r)


@dataclass(frozen=True)
class Candidate:
    """One controller of those in RUN/controllers."""

    file: str
    """Its file's name without the suffix."""
    generation: int
    parameters: Float32[np.ndarray, " N"]

    @property
    def key(self) -> str:
        """A name for the parameters, whatever file they are in."""
        return hashlib.sha256(self.parameters.tobytes()).hexdigest()[:24]


def load_candidates(folder: Path, num_parameters: int) -> list[Candidate]:
    """The controllers of all files: tensors `means` (G, N) and `generations` (G,).

    Raises:
        InputError: a file is broken, or its controllers have another size.
    """
    files = sorted(folder.glob("*.safetensors"))
    return [one for path in files for one in _candidates(path, num_parameters)]


def _candidates(path: Path, num_parameters: int) -> Iterator[Candidate]:
    tensors, _ = load_tensors(path)
    if missing := {"means", "generations"} - set(tensors):
        raise InputError(f"{path} has no tensor `{min(missing)}`: delete it and evolve again")
    means, generations = tensors["means"], tensors["generations"]
    if means.shape != (len(generations), num_parameters):
        raise InputError(
            f"{path}: means are {tuple(means.shape)}, but {len(generations)} generations of "
            f"{num_parameters} parameters are expected: delete it and evolve again"
        )
    for parameters, generation in zip(means.float().numpy(), generations.tolist(), strict=True):
        yield Candidate(path.stem, int(generation), parameters)


def measured(
    path: Path,
    about: dict[str, Any],
    candidates: Sequence[Candidate],
    evaluate: Evaluate,
    seeds: Sequence[int],
) -> Float64[np.ndarray, "C R"]:
    """Returns of all candidates on all seeds; measures only those that the file does not have.

    The file grows as they are measured. Returns measured on other seeds or under other conditions
    (`about`: V, M, temperature) are dropped.
    """
    about = about | {"seeds": [seeds[0], len(seeds)]}
    content = load_like(path, Ranked) if path.exists() else {}
    if content.get("about") != plain(about):
        content = {"about": about, "returns": {}}
    kept = content["returns"]
    missing = list({one.key: one for one in candidates if one.key not in kept}.values())
    parts = [missing[i : i + TOGETHER] for i in range(0, len(missing), TOGETHER)]
    for part in progress(parts, path.stem):
        parameters = np.stack([one.parameters for one in part]).astype(np.float64)
        returns, _ = evaluate(parameters, seeds)
        kept.update(zip((one.key for one in part), returns.tolist(), strict=True))
        save_json(path, content)
    return np.array([kept[one.key] for one in candidates])
