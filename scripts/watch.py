"""Film the agent in reality, what V keeps of it, and the dream that goes on from it."""

from worldmodels.command_line import one_line_errors, parse
from worldmodels.config import Config
from worldmodels.stages.watch import watch


def main() -> None:
    config, run = parse(
        Config, "Film reality, its reconstruction and the dream.", show=["watch", "seed"]
    )
    watch(run, config.watch, config.seed)
    print(f"next: python scripts/play.py {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
