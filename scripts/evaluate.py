"""Measure C on official test episodes, beside the baselines."""

from worldmodels.config import begin, one_line_errors
from worldmodels.stages.evaluate import evaluate


def main() -> None:
    config, run = begin(
        "Measure C on official test episodes, beside the baselines.", show=["evaluate", "workers"]
    )
    evaluate(run, config.dream, config.evaluate, config.workers, config.seed)
    print(f"next: python scripts/watch.py --run {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
