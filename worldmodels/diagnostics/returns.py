"""Controllers measured in dream and reality, a few at a time, every measurement kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from worldmodels.acting.evaluate import Evaluate
from worldmodels.errors import InputError
from worldmodels.files import load_json, load_tensors, save_json
from worldmodels.run import progress

TOGETHER = 4
"""Controllers that are measured side by side, and lost if the command is killed."""


@dataclass(frozen=True)
class Candidate:
    """One controller of those in RUN/controllers."""

    file: str
    """Its file's name, less the suffix."""
    generation: int
    parameters: Float32[np.ndarray, " N"]

    @property
    def key(self) -> str:
        """Names the parameters, wherever they lie."""
        return hashlib.sha256(self.parameters.tobytes()).hexdigest()[:24]


def load_candidates(folder: Path, num_parameters: int) -> list[Candidate]:
    """The controllers of all files: tensors `means` (G, N) and `generations` (G,).

    Raises:
        InputError: a file is broken, or its controllers are of another size.
    """
    return [
        candidate
        for path in sorted(folder.glob("*.safetensors"))
        for candidate in _candidates(path, num_parameters)
    ]


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


class Ledger:
    """Returns in one world, in a file that grows as they are measured.

    What was measured under other conditions (`about`: V, M, seeds, temperature) is forgotten.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        known = load_json(path) if path.exists() else {}
        same = known.get("about") == about
        self.content = known if same else {"about": about, "returns": {}}

    def measure(
        self, candidates: Sequence[Candidate], evaluate: Evaluate, seeds: Sequence[int], label: str
    ) -> Float64[np.ndarray, "C R"]:
        """Returns of all candidates on all seeds; only those that are missing are measured."""
        kept = self.content["returns"]
        missing = list({one.key: one for one in candidates if one.key not in kept}.values())
        parts = [missing[i : i + TOGETHER] for i in range(0, len(missing), TOGETHER)]
        for part in progress(parts, label):
            parameters = np.stack([one.parameters for one in part]).astype(np.float64)
            returns, _ = evaluate(parameters, seeds)
            kept.update(zip((one.key for one in part), returns.tolist(), strict=True))
            save_json(self.path, self.content)
        return np.array([kept[one.key] for one in candidates])
