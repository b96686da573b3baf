"""Evolve C in the dream, or in the real world, and keep the best by real validation."""

from worldmodels.command_line import one_line_errors
from worldmodels.config import begin
from worldmodels.stages.evolve import evolve

SECTIONS = ["seed", "controller", "dream", "cma", "evolve", "workers"]


def main() -> None:
    config, run = begin("Evolve C; keep the best by real validation.", show=SECTIONS)
    parts = config.controller, config.dream, config.cma, config.evolve, config.workers
    evolve(run, *parts, config.seed)
    print(f"next: python scripts/evaluate.py --run {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
