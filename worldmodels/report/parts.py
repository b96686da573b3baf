"""The parts of a report: what each shows, how to read it, and the command that makes its files.

Each part is a function of the run's files.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import UInt8
from PIL import Image

from worldmodels.command_line import mapping_of
from worldmodels.config import Config
from worldmodels.diagnostics.figures import FIGURES
from worldmodels.diagnostics.inspection import Rows
from worldmodels.diagnostics.table import cells_of
from worldmodels.figure import svg_of
from worldmodels.files import plain
from worldmodels.film import middle_of
from worldmodels.models.pictures import (
    dream_beside_record,
    reconstructions_by_error,
    traversals,
)
from worldmodels.report.learning import (
    draw_dream_against_reality,
    draw_mdnrnn,
    draw_minutes,
    draw_returns,
    draw_vae,
    dreamt_and_real,
)
from worldmodels.report.material import Material
from worldmodels.run import Metrics
from worldmodels.seeding import torch_generator
from worldmodels.stages.evaluate import draw_histogram
from worldmodels.stages.watch import FILMS

UNREAL = "This needs a real environment, but env.id is recorded."
REAL_FILMS = {FILMS[film][0] for film in ("dream", "lap")}  # titles
SCALE = 3
"""Enlargement of pictures that are made of frames."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A figure, a table, a picture or a film, or the command that makes it."""

    title: str
    """States what it shows."""
    reading: str
    """How to read it, in a sentence."""
    svg: str = ""
    table: Sequence[Mapping[str, str]] = ()
    picture: str = ""
    """Address of a PNG, as data."""
    film: str = ""
    """Address of a WebM, as data."""
    poster: str = ""
    """Address of the picture that stands for the film before it plays."""
    code: Sequence[str] = ()
    """Lines of commands or of a file."""
    wide: bool = False
    """Whether it takes the whole width of the page."""
    fill: str = ""
    """The command that makes what is missing."""
    reason: str = ""
    """Why it does not apply, where no command makes it."""


@dataclass(frozen=True)
class Section:
    """Some parts under a heading."""

    heading: str
    about: str
    parts: list[Part]


def sections(material: Material) -> list[Section]:
    """All of a report."""
    found = _sections(material)
    if material.live:
        return found
    return [replace(one, parts=[_unreal(part) for part in one.parts]) for one in found]


def _unreal(part: Part) -> Part:
    """The part, of which no command can make what is missing if that needs the real environment."""
    needs = any(f"worldmodels {name} " in part.fill for name in ("evaluate", "inspect-dream"))
    return replace(part, fill="", reason=UNREAL) if needs or part.title in REAL_FILMS else part


def _sections(material: Material) -> list[Section]:
    return [
        Section(
            "Result",
            "Measured on test episodes of the official environment, which select nothing.",
            [scores(material), histogram(material)],
        ),
        Section(
            "Training",
            "Each round collects episodes, trains V and M on them, and evolves C. Real validation "
            "episodes, other than the test episodes above, select the C that is kept.",
            curves(material),
        ),
        Section(
            "What V sees",
            "V encodes a frame as z and decodes z to a frame. The agent cannot see what V leaves "
            "out.",
            [
                reconstructions(material),
                latents(material),
                moving_error(material),
                *fireballs(material),
            ],
        ),
        Section("Films", "Captions are inside the picture.", films(material)),
        Section(
            "Dream and reality",
            "How much M's dream differs from the real environment, on held-out episodes.",
            [beside_record(material), by_horizon(material), *dream_parts(material)],
        ),
        Section(
            "Temperatures and ablations",
            "C evolved again in the same dream with other settings. All rows have the same number "
            "of dreams.",
            [study_table(material)],
        ),
        Section(
            "Reproduction",
            "",
            [
                minutes(material),
                versions(material),
                checks(material),
                differences(material),
                commands(material),
            ],
        ),
    ]


def scores(material: Material) -> Part:
    """The agent's returns beside those of the baselines."""
    part = Part(
        title="The agent's returns on test episodes, and those of open-loop policies",
        reading="The 95% interval is a bootstrapped confidence interval of the mean. Open-loop "
        "policies do not see the environment. The lead is measured on the same episodes: an "
        "interval above 0 means that the agent is better.",
    )
    found = material.evaluation
    if found is None:
        return replace(part, fill=_command(material, "evaluate"))
    title = (
        f"The agent returns {number(found['mean'])} on average "
        f"(95% interval {_between(found['ci95'])})"
    )
    leads = found["baselines"] if len(found["baselines"]) > 1 else ()  # never over random alone
    table = [
        {
            "policy": name,
            "mean return": number(row["mean"]),
            "standard deviation": number(row["std"]),
            "95% interval": _between(row["ci95"]),
            "the agent's lead": _between(row["paired_ci95"]) if name in leads else "",
        }
        for name, row in {"the agent": found, **found["baselines"]}.items()
    ]
    return replace(part, title=title, table=table)


def histogram(material: Material) -> Part:
    """The returns of the test episodes."""
    part = Part(
        title="Returns of the test episodes",
        reading="A bar is the number of episodes with about this return; the legend has mean ± "
        "standard deviation.",
    )
    found = material.evaluation
    if found is None:
        return replace(part, fill=_command(material, "evaluate"))
    title = f"Returns of {found['episodes']} {found['split']} episodes"
    return replace(part, title=title, svg=_drawn("histogram", draw_histogram, found))


def curves(material: Material) -> list[Part]:
    """What the stages of all rounds logged."""
    return [
        _learned(
            material,
            Part(
                title="Real return by generation, and the training return below",
                reading="Green points: the mean over the same real validation episodes, with its "
                "95% interval. Below: mean ± standard deviation of the population, purple in the "
                "dream, green in reality. Grey lines separate rounds. If a round has several "
                "evolutions, they are drawn one after the other.",
            ),
            ("evolve", "mean"),
            draw_returns,
            3.7,
        ),
        dream_against_reality(material),
        _learned(
            material,
            Part(
                title="V's training: reconstruction error and KL",
                reading="The KL is the information that z has about a frame, in nats. It should "
                "stay well above 0.",
            ),
            ("train_vae", "reconstruction"),
            draw_vae,
        ),
        _learned(
            material,
            Part(
                title="M's training: negative log-likelihood of the next z",
                reading="Lower is better. Orange is the prediction that z does not change: M "
                "should be clearly below it. Green is the lower bound.",
            ),
            ("train_mdnrnn", "nll"),
            draw_mdnrnn,
        ),
    ]


def dream_against_reality(material: Material) -> Part:
    """Whether progress in the dream is progress in reality."""
    label = " Numbers count the rounds." if len(material.rounds) > 1 else ""
    part = Part(
        title="Return in the dream against return in reality",
        reading="Each point is a validation. Points that rise to the right mean that a better "
        "return in the dream is a better return in reality. Dreams are shorter than episodes, so "
        f"the axes differ in scale; bars are 95% intervals.{label}",
    )
    learned = _learned(material, part, ("evolve", "mean"), draw_dream_against_reality, 3.7)
    if learned.fill or any(map(dreamt_and_real, material.rounds)):
        return learned
    reason = "No generation in the dream was validated (evolve.validation_episodes)."
    return replace(part, reason=reason if material.live else UNREAL)


def reconstructions(material: Material) -> Part:
    """The worst, the median and the best frames."""
    part = Part(
        title="Reconstructions by V: the worst, the median, the best",
        reading="Each frame is above its reconstruction. The first row shows what V cannot "
        "reconstruct.",
    )
    if material.vae is None:
        return replace(part, fill=_command(material, "train-vae"))
    if material.frames is None:
        return replace(part, fill=_inspect(material))
    picture, errors = reconstructions_by_error(material.vae, material.frames)
    kind = "held-out frames" if material.episodes[1] else "frames that V was trained on"
    worst, median, best = (f"{error:.4f}" for error in errors)
    reading = (
        f"{part.reading} Rows: the worst, the median, the best of {len(material.frames)} {kind}, "
        f"with mean square errors of {worst}, {median} and {best} (black against white: 1)."
    )
    return replace(part, reading=reading, picture=png(picture))


def latents(material: Material) -> Part:
    """The effect of single dimensions of z."""
    part = Part(
        title="The effect of single dimensions of z",
        reading="In each row one dimension of z changes from its lowest to its highest value in "
        "the data; the others are constant.",
    )
    if material.vae is None:
        return replace(part, fill=_command(material, "train-vae"))
    if material.mu is None:
        return replace(part, fill=_inspect(material))
    picture, chosen = traversals(material.vae, material.mu)
    reading = f"{part.reading} Rows: z[{'], z['.join(map(str, chosen))}], which vary most."
    return replace(part, reading=reading, picture=png(picture))


def moving_error(material: Material) -> Part:
    """V's error where something moves."""
    part = Part(
        title="V's error in all pixels, and in moving pixels",
        reading="In moving pixels the error should be far below that of each episode's median "
        "picture. Black against white would be 1.",
    )
    rows = material.inspected("reconstruction")
    if not rows:
        return replace(part, fill=_inspect(material))
    (found,) = rows
    names = {
        "all pixels": "error",
        "moving pixels": "moving_error",
        "moving pixels, of the median picture": "median_error",
    }
    table = [{"mean square error": one, "value": number(found[names[one]])} for one in names]
    return replace(part, title=f"{part.title} ({found['frames']:,} held-out frames)", table=table)


def fireballs(material: Material) -> list[Part]:
    """V's recall of Doom's fireballs, if the environment has them."""
    rows = material.inspected("fireballs")
    title = "V's recall of Doom's fireballs"
    reading = "The share of fireballs that keep at least half of their contrast, by their size."
    return [Part(title=title, reading=reading, table=list(map(_cells, rows)))] if rows else []


def films(material: Material) -> list[Part]:
    """The films in videos/."""
    found = []
    for name, (title, reading) in FILMS.items():
        part, path = Part(title=title, reading=reading), material.run.videos / f"{name}.webm"
        if path.exists():
            film = _address("video/webm", path.read_bytes())
            found.append(replace(part, film=film, poster=_poster(path), wide=True))
        else:
            found.append(replace(part, fill=_command(material, "watch")))
    return found


def by_horizon(material: Material) -> Part:
    """Survival or return in the dream and in reality."""
    rows = material.inspected("survival")
    what = "Survival" if rows and rows[0]["measure"] == "steps survived" else "Return"
    part = Part(
        title=f"{what} by horizon, in the dream and in reality",
        reading="Each panel is a policy that continues from the same recorded moments in the dream "
        "and in reality. The dream is unlike reality where the curves differ.",
    )
    if not rows:
        return replace(part, fill=_inspect(material))
    last, svg = rows[-1], _inspected("survival", rows)
    told = f"{last['policy']} {number(last['dream'])} and {number(last['real'])}"
    return replace(part, title=f"{part.title}: {told}", svg=svg, wide=True)


def beside_record(material: Material) -> Part:
    """A recorded episode and M's dream under its actions."""
    part = Part(
        title="A recorded episode, and M's dream with the same actions",
        reading="Above: the recording. Below: a dream that starts at the first picture. The two "
        "diverge, since the dream is sampled, but each picture should look real.",
        wide=True,
    )
    if material.vae is None or material.mdnrnn is None:
        return replace(part, fill=_command(material, "train-mdnrnn"))
    episode = material.latents
    if episode is None:
        reason = "No recorded episode is long enough, or their latents are gone."
        return replace(part, reason=reason)
    record = torch.from_numpy(episode.mu).float(), torch.from_numpy(episode.actions)
    noise = torch_generator(0, "shown dream")
    picture, steps = dream_beside_record(material.vae, material.mdnrnn, *record, noise)
    reading = f"{part.reading} Steps in the dream: {', '.join(map(str, steps))}."
    return replace(part, reading=reading, picture=png(picture, 2))


DREAM_PARTS: dict[str, tuple[str, str]] = {
    "likelihood": (
        "M's likelihood by horizon",
        "Lower is better. Where purple meets orange, M is no better than predicting that z does "
        "not change.",
    ),
    "pit": (
        "Calibration: the next z in M's distribution (PIT)",
        "The bars are level with the line if M's distribution is calibrated. A U shape means that "
        "it is too narrow, an arch that it is too wide.",
    ),
    "termination": (
        "Calibration: predicted and observed ends of episodes",
        "On the diagonal, ends are as frequent as M predicts. The bars count the steps at each "
        "predicted probability.",
    ),
    "ranking": (
        "Whether the dream ranks controllers as reality does",
        "Each point is a controller. The closer the points are to a rising curve, the better the "
        "dream ranks controllers.",
    ),
}
NOT_THERE = {
    "termination": "M predicts no ends in this environment.",
    "ranking": "It needs several controllers, which a study leaves in RUN/controllers.",
}
"""Why a part that was inspected may have no rows."""


def dream_parts(material: Material) -> list[Part]:
    """What inspect-dream measured of M."""
    found = []
    for name, (title, reading) in DREAM_PARTS.items():
        part, rows = Part(title=title, reading=reading), material.inspected(name)
        if rows:
            part = replace(part, svg=_inspected(name, rows), wide=name == "termination")
        elif name in material.inspection and name in NOT_THERE:
            part = replace(part, reason=NOT_THERE[name])
        else:
            part = replace(part, fill=_inspect(material))
        found.append(part)
    return found


def study_table(material: Material) -> Part:
    """The rows of study.json."""
    part = Part(
        title="Returns by temperature and by what C sees",
        reading="A row with a high dream return and a low real one exploits errors of the dream. "
        "The interval is that of the real mean.",
        wide=True,
    )
    found = material.study
    if found is None or "table" not in found:
        rows = "{cold: {dream: {temperature: 0.5}}, hot: {dream: {temperature: 1.3}}}"
        command = f"worldmodels study {material.run.folder} --study.rows '{rows}'"
        return replace(part, fill=command)
    return replace(part, table=[_cells(row) for row in found["table"]])


def minutes(material: Material) -> Part:
    """Active time by stage."""
    spent = {name: seconds / 60 for name, seconds in Metrics.spent(material.runs).items()}
    cores = {line["cores"] for run in material.runs for line in Metrics.ends(run)}
    title = f"It was made in {number(Metrics.making(material.runs) / 60)} minutes"
    part = Part(
        title=title + (f" of {many(max(cores), 'core')}" if cores else ""),
        reading="Active time of each stage, over all rounds and restarts. Grey: evaluation and "
        "films, which the title does not count.",
    )
    if not spent:
        return replace(part, fill=_command(material, "pipeline"))
    return replace(part, svg=_drawn("minutes", draw_minutes, spent, height=2.8))


def checks(material: Material) -> Part:
    """The sanity checks that failed."""
    lines = [
        {"round": "all" if run is material.run else str(index), **line}
        for index, run in enumerate(material.runs)
        for line in Metrics.lines(run)
        if "check" in line
    ]
    part = Part(
        title=f"All {len(lines)} sanity checks passed" if lines else "Sanity checks",
        reading="Each stage compares its results with expected ranges.",
    )
    bad = [line for line in lines if not line["good"]]
    if not bad:
        return replace(part, reason="Nothing looks wrong." if lines else "-")
    shown = "round", "stage", "check"
    table = [{key: b[key] for key in shown} | {"value": number(b["value"])} for b in bad]
    title = f"{len(bad)} of {len(lines)} sanity checks look wrong"
    return replace(part, title=title, table=table)


def differences(material: Material) -> Part:
    """The config, and where it differs from the defaults."""
    part = Part(
        title="Configuration: differences from the defaults",
        reading="The defaults are mostly the paper's values. Fields that are not listed have their "
        "defaults.",
    )
    if material.config is None:
        return replace(part, reason="This folder has no config.yaml.")
    default = _flat(Config())
    table = [
        {"field": name, "here": _value(value), "default": _value(default.get(name))}
        for name, value in _flat(material.config).items()
        if value != default.get(name)
    ]
    text = yaml.safe_dump(mapping_of(material.config), sort_keys=False)
    return replace(part, table=table, code=text.splitlines(), wide=True)


def commands(material: Material) -> Part:
    """The command lines."""
    found = material.commands
    return Part(
        title="The exact commands",
        reading="The same commands with the same versions on the same type of machine give the "
        "same files.",
        code=found,
        reason="" if found else "The run's files name no command.",
        wide=True,
    )


def versions(material: Material) -> Part:
    """Packages, and the weights that were measured."""
    part = Part(
        title="Versions",
        reading="Packages that results depend on, and the number type of large matrix products.",
    )
    found = material.evaluation
    if found is None:
        return replace(part, fill=_command(material, "evaluate"))
    rows = {**found["versions"], "sha256 of the weights": found["bundle_sha256"][:16] + "…"}
    return replace(part, table=[{"what": name, "version": rows[name]} for name in rows])


def number(value: float | None) -> str:
    """A number for people: thousands separated, three digits where it is small.

    >>> number(1294.3), number(825.4), number(0.12345), number(None)
    ('1,294', '825', '0.123', '-')
    """
    if value is None or not np.isfinite(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def many(count: int, what: str) -> str:
    """A number of things.

    >>> many(1, "core"), many(2, "core")
    ('1 core', '2 cores')
    """
    return f"{count} {what}{'s' * (count != 1)}"


def png(picture: UInt8[np.ndarray, "height width 3"], scale: int = SCALE) -> str:
    """The address of a picture, enlarged, as data."""
    file = io.BytesIO()
    large = picture.repeat(scale, 0).repeat(scale, 1)
    Image.fromarray(large).save(file, "PNG", optimize=True)
    return _address("image/png", file.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _poster(path: Path) -> str:
    """A picture from the middle of a film."""
    file = io.BytesIO()
    Image.fromarray(middle_of(path)).save(file, "WEBP", quality=80)
    return _address("image/webp", file.getvalue())


def _learned(
    material: Material,
    part: Part,
    logged: tuple[str, str],
    draw: Callable[..., None],
    height: float = 3.2,
) -> Part:
    """The part with a figure of what a stage logged under a name, or with the stage's command."""
    if not any(one.logged(*logged)[0] for one in material.rounds):
        return replace(part, fill=_command(material, logged[0].replace("_", "-")))
    return replace(part, svg=_drawn(draw.__name__, draw, material.rounds, height))


def _drawn(name: str, draw: Callable[..., None], data: Any, height: float = 3.2) -> str:
    return svg_of(name, lambda figure: draw(figure, data), 5, height)


def _inspected(name: str, rows: Rows) -> str:
    return _drawn(name, FIGURES[name], rows, 3.5)


def _command(material: Material, command: str) -> str:
    return f"worldmodels {command} --run {material.run.folder}"


def _inspect(material: Material) -> str:
    return f"worldmodels inspect-dream {material.run.folder}"


def _between(ends: Iterable[float]) -> str:
    return " to ".join(map(number, ends))


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    return {name.replace("ci95", "95% interval"): cell for name, cell in cells_of(row).items()}


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """All fields by their full names, such as `collect.explore.policy`."""
    found: dict[str, Any] = {}
    for one in fields(config):
        name, value = f"{prefix}{one.name}", getattr(config, one.name)
        found |= _flat(value, f"{name}.") if is_dataclass(value) else {name: value}
    return found


def _value(value: Any) -> str:
    text: str = yaml.safe_dump(plain(value), default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...").strip()
