"""Encode the frames of RUN/episodes into RUN/latents."""

from worldmodels.command_line import one_line_errors
from worldmodels.config import begin
from worldmodels.stages.encode import encode


def main() -> None:
    config, run = begin("Encode the frames of RUN/episodes into RUN/latents.", show=["encode"])
    encode(run, config.encode)
    print(f"next: python scripts/train_mdnrnn.py --run {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
