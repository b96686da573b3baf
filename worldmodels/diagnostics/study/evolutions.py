"""The evolutions of a study: runs of their own with another run's V, M and latents."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from worldmodels.artifacts import check_dreams
from worldmodels.command_line import keep
from worldmodels.config import FREE, Config
from worldmodels.diagnostics.study.rows import StudyConfig, StudyRow, rows_of
from worldmodels.errors import InputError
from worldmodels.files import save_tensors
from worldmodels.run import Run
from worldmodels.seeding import seed_for
from worldmodels.stages.evolve import evolve
from worldmodels.stages.history import History, history_file

LINKED = ("world.json", "vae", "mdnrnn", "latents", "starts.safetensors")
"""What an evolution takes from its source, as links: latents are thousands of files."""


@dataclass(frozen=True)
class Evolution:
    """One evolution of a row."""

    row: StudyRow
    number: int
    run: Run
    """Its own folder."""
    source: Run
    """Whose V, M and latents it has."""
    config: Config
    """Its source's, with what the row changes and a seed of its own."""

    @property
    def name(self) -> str:
        """The name of its file in RUN/controllers."""
        return f"{self.row.name}_{self.number}"


def evolutions_of(run: Run, config: Config, study: StudyConfig) -> list[Evolution]:
    """All evolutions of a study, the first of every row before the second of any.

    Raises:
        InputError: there are no rows, or V, M or latents of one are missing.
    """
    rows = rows_of(study)
    if not rows:
        raise InputError(
            "study.rows is empty: name a file of rows, e.g. --config configs/take_cover_study.yaml"
        )
    sources = {row.name: _source(run, row) for row in rows}
    return [
        Evolution(
            row,
            number,
            Run(run.folder / "study" / row.name / str(number)),
            sources[row.name],
            _config(config, study, row, seed_for(config.seed, "study", row.name, number)),
        )
        for number in range(study.evolutions)
        for row in rows
    ]


def _source(run: Run, row: StudyRow) -> Run:
    source = run
    # a run of one round is its own round 0; an unpacked bundle is no round
    several = (run.folder / "rounds").exists() or run.starts.exists()
    if row.round is not None and (row.round or several):
        source = run.round(row.round)
    if not source.folder.exists():
        raise InputError(
            f"study.rows: {row.name} needs round {row.round}, but there is no {source.folder}: "
            "name another round or leave the row out"
        )
    check_dreams(source)
    source.need(source.mdnrnn / "mdnrnn.safetensors", "worldmodels train-mdnrnn")
    return source


def _config(config: Config, study: StudyConfig, row: StudyRow, seed: int) -> Config:
    evolve = replace(
        config.evolve,
        generations=study.generations,
        real_generations=0,
        validate_every=study.validate_every,
        validate_at=study.validate_at,
        validation_episodes=study.validation_episodes,
        rollouts_per_candidate=study.rollouts_per_candidate or config.evolve.rollouts_per_candidate,
        dream_max_steps=row.dream_max_steps or config.evolve.dream_max_steps,
    )
    inputs = row.inputs or config.controller.inputs
    dream = replace(
        config.dream,
        temperature=row.temperature or config.dream.temperature,
        ends=row.ends or config.dream.ends,
        weight=row.weight or config.dream.weight,
    )
    return replace(
        config,
        seed=seed,
        rounds=1,
        controller=replace(config.controller, inputs=inputs, senses=row.senses),
        dream=dream,
        evolve=evolve,
    )


def prepare(evolution: Evolution) -> None:
    """Makes the evolution's folder, or checks that it is the same evolution's.

    Raises:
        InputError: what is there was evolved under other conditions.
    """
    run = evolution.run
    keep(evolution.config, run, FREE, fix=f"delete {run.folder}")
    for name in LINKED:
        if (evolution.source.folder / name).exists():
            _link(evolution.source.folder / name, run.folder / name)


def run_evolution(evolution: Evolution) -> None:
    """Evolves C from zeros, or continues."""
    config = evolution.config
    settings = config.controller, config.dream, config.cma, config.evolve, config.workers
    evolve(evolution.run, *settings, config.seed)


def _link(source: Path, target: Path) -> None:
    if target.exists() and not target.is_symlink():
        return
    target.unlink(missing_ok=True)
    try:
        target.symlink_to(os.path.relpath(source.resolve(), target.parent.resolve()))
    except OSError:  # a file system or a user without links
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)


def save_means(evolution: Evolution, folder: Path) -> None:
    """Writes the distribution's means at the validated generations, for `inspect_dream` to rank."""
    validated = History.load(history_file(evolution.run)).validated
    tensors = {
        "means": torch.from_numpy(np.stack([one.mean for one in validated])).float(),
        "generations": torch.tensor([one.generation for one in validated]),
    }
    save_tensors(folder / f"{evolution.name}.safetensors", tensors)
