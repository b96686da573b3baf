"""Collect real episodes into RUN/episodes."""

from worldmodels.command_line import one_line_errors
from worldmodels.config import begin
from worldmodels.stages.collect import collect


def main() -> None:
    sections = ["seed", "env", "workers", "collect"]
    config, run = begin("Collect real episodes into RUN/episodes.", show=sections, first=True)
    collect(run, config.env, config.collect, config.workers, config.seed)
    print(f"next: python scripts/train_vae.py --run {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
