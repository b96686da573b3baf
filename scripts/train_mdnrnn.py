"""Train M on the sequences of RUN/latents."""

from worldmodels.command_line import one_line_errors
from worldmodels.config import begin
from worldmodels.stages.train_mdnrnn import train_mdnrnn


def main() -> None:
    config, run = begin(
        "Train M on the sequences of RUN/latents.", show=["seed", "mdnrnn", "train_mdnrnn"]
    )
    train_mdnrnn(run, config.mdnrnn, config.train_mdnrnn, config.seed)
    print(f"next: python scripts/evolve.py --run {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
