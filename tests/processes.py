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


def start(*words: str | Path) -> BaseProcess:
    """Starts `worldmodels WORDS`, as the leader of a group of processes."""
    process = FORKS.Process(target=_command, args=([str(word) for word in words], os.getcwd()))
    process.start()
    return process


def _command(words: list[str], folder: str) -> None:
    os.setsid()
    os.chdir(folder)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    from worldmodels.cli import main

    main(words)
