"""What a report reads of a run: files alone, and V and M for its pictures. Nothing is played."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from worldmodels.acting.environments import ModelFiles
from worldmodels.artifacts import Bundle, load_mdnrnn, load_starts, load_vae
from worldmodels.command_line import read
from worldmodels.config import Config
from worldmodels.data.episode import Episode, LatentEpisode
from worldmodels.diagnostics.inspection import Inspected, Rows
from worldmodels.diagnostics.study import Study
from worldmodels.errors import InputError
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.pictures import long_enough
from worldmodels.models.vae import VAE
from worldmodels.run import Metrics, Run
from worldmodels.schema import load_like
from worldmodels.stages.evaluate import Report
from worldmodels.stages.history import History, Validated, history_file

EPISODES, FRAMES = 24, 20
"""Episodes whose frames are reconstructed, and frames of each."""

Line = dict[str, Any]
"""A line of metrics.jsonl."""


@dataclass(frozen=True)
class Round:
    """What one round has logged."""

    index: int
    lines: list[Line]
    validated: list[Validated]
    """Averages on real validation episodes; none where validation is off. Their generations count
    on over the evolutions, as in metrics.jsonl."""
    dreamt: int = 0
    """Generations of an evolution in the dream, which come first."""
    total: int = 1
    """Generations of an evolution."""

    def logged(self, stage: str, name: str) -> tuple[list[int], list[float]]:
        """Steps of a stage and what they logged; of a step that was run twice, the last."""
        mine = (one for one in self.lines if one["stage"] == stage and "step" in one)
        numbers = (one for one in mine if isinstance(one.get(name), int | float))
        found = {one["step"]: float(one[name]) for one in numbers}
        return list(found), list(found.values())

    def length(self, stage: str) -> int:
        """Steps of a stage."""
        mine = (one["step"] for one in self.lines if one["stage"] == stage and "step" in one)
        return max(mine, default=-1) + 1

    def in_dream(self, generation: Any) -> Any:
        """Whether a generation, or each of an array, was in the dream."""
        return generation % self.total < self.dreamt


class Material:
    """The files of a run, read when a part of the report needs them."""

    def __init__(self, run: Run) -> None:
        """Reads nothing yet.

        Raises:
            InputError: the folder is not a run.
        """
        self.run = run
        folders = sorted((run.folder / "rounds").glob("[0-9][0-9]"))
        self.round_runs = [Run(folder) for folder in folders] or [run]
        """The rounds; a run of one round is its own."""
        if not (run.metrics.exists() or folders or run.evaluation_file.exists()):
            raise InputError(
                f"{run.folder} is not a run: name a folder in which `worldmodels pipeline` or a "
                "stage has worked"
            )

    @property
    def runs(self) -> list[Run]:
        """The rounds, and the run itself."""
        several = self.round_runs != [self.run]
        return [*self.round_runs, self.run] if several else [self.run]

    @cached_property
    def config(self) -> Config | None:
        """None for the results of a bundle."""
        file = self.run.config_file
        return read(Config, file) if file.exists() else None

    @property
    def live(self) -> bool:
        """Whether there is a real environment, not only recordings of one."""
        return self.config is None or self.config.env.live

    @cached_property
    def evaluation(self) -> dict[str, Any] | None:
        """evaluation.json."""
        return self._json(self.run.evaluation_file, Report)

    @cached_property
    def study(self) -> dict[str, Any] | None:
        """study/study.json."""
        return self._json(self.run.folder / "study" / "study.json", Study)

    @cached_property
    def inspection(self) -> dict[str, Any]:
        """inspection/inspection.json, if it is of the run's V and M."""
        found = self._json(self.run.folder / "inspection" / "inspection.json", Inspected) or {}
        made = (self.run.vae / "vae.safetensors", self.run.mdnrnn / "mdnrnn.safetensors")
        if found and all(path.exists() for path in made):
            current = found["hashes"] == list(ModelFiles.of_run(self.run).hashes)
            return found if current else {}
        return {}

    def inspected(self, part: str) -> Rows:
        """What inspect-dream measured of a part."""
        rows: Rows = self.inspection.get(part) or []
        return rows

    @cached_property
    def rounds(self) -> list[Round]:
        """What each round has logged so far."""
        return [self._round(index, run) for index, run in enumerate(self.round_runs)]

    @cached_property
    def vae(self) -> VAE | None:
        """The run's V, or that of its bundle."""
        made = [one for one in self.runs if (one.vae / "vae.safetensors").exists()]
        if made:  # the best round's, once the rounds are over
            return load_vae(made[-1])
        has_bundle = (self.run.bundle / "bundle.json").exists()
        return Bundle.load(self.run.bundle).vae if has_bundle else None

    @cached_property
    def mdnrnn(self) -> MDNRNN | None:
        """The M that belongs to it."""
        made = [one for one in self.runs if (one.mdnrnn / "mdnrnn.safetensors").exists()]
        return load_mdnrnn(made[-1]) if made else None

    @cached_property
    def latents(self) -> LatentEpisode | None:
        """The newest recorded episode that is long enough to dream beside it."""
        files = [path for one in self.runs for path in sorted(one.latents.glob("*.npz"))]
        loaded = (LatentEpisode.load(path) for path in reversed(files))
        return next((one for one in loaded if long_enough(one.mu)), None)

    @cached_property
    def episodes(self) -> tuple[list[Path], bool]:
        """Some recorded episodes, and whether V was not trained on them."""
        held_out = sorted((self.run.folder / "inspection").glob("*/episodes/*.npz"))
        trained_on = sorted(path for one in self.runs for path in one.episodes.glob("*.npz"))
        return _some(held_out or trained_on), bool(held_out)

    @cached_property
    def frames(self) -> UInt8[Tensor, "N S S 3"] | None:
        """Some of their frames; None without any."""
        parts = [Episode.load(path).frames for path in self.episodes[0]]
        each = [part[:: -(-len(part) // FRAMES)] for part in parts]
        return torch.from_numpy(np.concatenate(each)) if each else None

    @cached_property
    def mu(self) -> Float[Tensor, "N Z"] | None:
        """Values of z: of these frames, or of the windows in which dreams begin."""
        if self.vae is not None and self.frames is not None:
            return self.vae.encode(self.frames)[0]
        for folder in (self.run.bundle, self.run.folder):
            if (folder / "starts.safetensors").exists():
                return load_starts(folder / "starts.safetensors").mu[:, -1]
        return None

    @property
    def commands(self) -> list[str]:
        """The command lines that made the run, as far as its files say, each once."""
        return list(dict.fromkeys(self._commands()))

    def _commands(self) -> Iterator[str]:
        for run in self.runs:
            yield from (line["command"] for line in Metrics.ends(run) if "command" in line)
        parts = self.inspection.get("conditions", {}).values()
        for found in (self.evaluation, *parts, self.study):
            if found:
                yield found["command"]

    def _round(self, index: int, run: Run) -> Round:
        if self.config is None:
            return Round(index, Metrics.lines(run), [])
        config, validated = self.config.of_round(index).evolve, []
        for evolution in range(config.evolutions if self.live else 0):
            if (path := history_file(run, evolution)).exists():
                validated += [
                    replace(one, generation=evolution * config.total + one.generation)
                    for one in History.load(path).validated
                    if len(one.returns)
                ]
        return Round(index, Metrics.lines(run), validated, config.generations, config.total)

    def _json(self, path: Path, kind: type[Any]) -> dict[str, Any] | None:
        return load_like(path, kind) if path.exists() else None


def _some(files: list[Path]) -> list[Path]:
    """Evenly spread over all."""
    chosen = np.linspace(0, len(files) - 1, min(EPISODES, len(files))).astype(int)
    return [files[i] for i in chosen]
