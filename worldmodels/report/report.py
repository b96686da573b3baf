"""Report: one self-contained HTML file about a run."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from worldmodels.files import file_hash, save_text
from worldmodels.report.material import Material
from worldmodels.report.parts import many, number, sections
from worldmodels.run import Metrics, Run, say


def report(run: Run) -> Path:
    """Writes report.html of a finished or unfinished run, from the files that are there.

    It plays nothing. A part whose files are missing names the command that makes them.

    Returns:
        The file.

    Raises:
        InputError: the folder is not a run, a file in it is broken, or matplotlib is missing.
    """
    material = Material(run)
    environment = Environment(
        loader=PackageLoader("worldmodels.report", ""),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawn"] = Markup  # figures of our own
    page = environment.get_template("page.html").render(
        name=run.name,
        told=Markup(told_by(run)),
        world=_world(material),
        about=_about(material),
        sections=sections(material),
    )
    path = run.folder / "report.html"
    save_text(path, page)
    say(f"{path} is the report: open it in a browser")
    return path


def told_by(run: Run) -> str:
    """A tag with the hash of the evaluation that the report tells of, or of the bundle."""
    bundle = run.bundle / "bundle.json"  # where nothing was measured in reality
    told = [path for path in (run.evaluation_file, bundle) if path.exists()]
    return f'<meta name="evaluation" content="{file_hash(told[0]) if told else ""}">'


def _world(material: Material) -> str:
    if material.evaluation is not None:
        return str(material.evaluation["environment"])
    return material.config.env.id if material.config else "an environment"


def _about(material: Material) -> list[str]:
    """What a reader should know first, in sentences."""
    found = material.evaluation
    if not material.live:
        return [
            "Nothing was measured in reality: there are only recordings. The agent was selected, "
            "and compared with random actions, in dreams."
        ]
    if found is None:
        return ["The agent has not been measured yet: the run is not finished."]
    low, high = found["ci95"]
    sentences = [
        f"The agent returns {number(found['mean'])} ± {number(found['std'])} (mean ± standard "
        f"deviation) over {found['episodes']} {found['split']} episodes; the 95% interval of the "
        f"mean is {number(low)} to {number(high)}."
    ]
    if found["baselines"]:
        name, best = max(found["baselines"].items(), key=lambda pair: pair[1]["mean"])
        sentences.append(f"The best open-loop policy ({name}) returns {best['mean']:.0f}.")
        same = [key for key, row in found["baselines"].items() if row["paired_ci95"][0] <= 0]
        if same:
            sentences.append(f"The agent is not clearly better than {' and '.join(same)}.")
    if "real_frames" in found:
        frames, made = sum(found["real_frames"].values()), Metrics.making(material.runs)
        sentences.append(
            f"It was made in {number(made / 60)} minutes of {many(found['cores'], 'core')} "
            f"from {frames:,} real frames, {found['real_frames']['validate']:,} of them to select "
            "controllers."
        )
    return sentences
