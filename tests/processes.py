"""Commands in processes of their own: forks of one that has imported everything, once."""

import multiprocessing
import os
from multiprocessing.process import BaseProcess
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "processes",
        "torch._dynamo",
        "worldmodels.stages.collect",
        "worldmodels.stages.evolve",
        "worldmodels.stages.train_mdnrnn",
        "worldmodels.stages.train_vae",
    ]
)


def start(*words: str | Path, checkpoint_seconds: float = 60.0) -> BaseProcess:
    """Starts `worldmodels WORDS`, as the leader of a group of processes."""
    arguments = [str(word) for word in words], os.getcwd(), checkpoint_seconds
    process = FORKS.Process(target=_command, args=arguments)
    process.start()
    return process


def _command(words: list[str], folder: str, checkpoint_seconds: float) -> None:
    os.setsid()
    os.chdir(folder)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    from worldmodels.cli import main
    from worldmodels.stages import fit

    fit.CHECKPOINT_SECONDS = checkpoint_seconds
    main(words)
