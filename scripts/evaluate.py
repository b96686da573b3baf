"""Measure C on official test episodes: evaluate.py --run RUN, or evaluate.py BUNDLE."""

from dataclasses import dataclass, field

from worldmodels.command_line import leading, one_line_errors, parse
from worldmodels.config import begin
from worldmodels.stages.evaluate import EvaluateConfig, evaluate, evaluate_bundle
from worldmodels.workers import WorkersConfig

ABOUT = "Measure C on official test episodes, beside the baselines: a run's, or a BUNDLE's."


@dataclass(frozen=True, kw_only=True)
class Sections:
    """What measuring a bundle has to know."""

    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)


def main() -> None:
    name, flags = leading()
    if name is not None:
        sections, run = parse(Sections, ABOUT, ["--run=runs/evaluated", *flags])
        evaluate_bundle(name, run, sections.evaluate, sections.workers)
        return
    config, run = begin(ABOUT, show=["evaluate", "workers"])
    evaluate(run, config.dream, config.evaluate, config.workers, config.seed)
    print(f"next: python scripts/watch.py --run {run.folder}")


if __name__ == "__main__":
    with one_line_errors():
        main()
