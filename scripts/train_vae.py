"""Train V on the frames of RUN/episodes."""

from worldmodels.command_line import one_line_errors
from worldmodels.config import begin
from worldmodels.stages.train_vae import train_vae


def main() -> None:
    config, run = begin("Train V on the frames of RUN/episodes.", show=["seed", "vae", "train_vae"])
    train_vae(run, config.vae, config.train_vae, config.seed)
    print(f"next: python scripts/encode.py --run {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
