"""All stages and rounds: from nothing to a tested agent and its film."""

from worldmodels.command_line import one_line_errors
from worldmodels.config import begin
from worldmodels.pipeline import pipeline


def main() -> None:
    config, run = begin("All stages and rounds, to a tested agent and its film.", first=True)
    pipeline(run, config)
    print(f"next: python scripts/play.py {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
