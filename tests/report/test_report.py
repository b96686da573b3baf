"""The report of a run: what it holds, finished or not, and how it opens in a browser."""

import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from worldmodels.diagnostics import prediction
from worldmodels.files import load_json
from worldmodels.report import parts
from worldmodels.report.learning import dreamt_and_real
from worldmodels.report.material import Material, Round
from worldmodels.report.parts import Part, sections
from worldmodels.report.report import report
from worldmodels.run import Metrics, Run
from worldmodels.stages.history import Validated

INSPECT = {
    "workers.processes": 1,
    "inspect.episodes": 12,
    "inspect.starts": 12,
    "inspect.dreams": 2,
}
STUDY = {
    "rows": {"cold": {"dream": {"temperature": 0.5}}},
    "changes": {"evolve": {"generations": 2, "validate_every": 2, "validation_episodes": 2}},
    "evolutions": 1,
    "test_episodes": 2,
    "dream_episodes": 2,
}


@dataclass
class Page(HTMLParser):
    """What a page refers to, and whether its tags are closed."""

    open: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    figures: int = 0
    text: str = ""

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag, attributes):
        own = dict(attributes)
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        self.figures += tag == "figure"
        self.ids += [own["id"]] if "id" in own else []
        self.sources += [own[name] for name in ("src", "poster") if name in own]
        self.links += [own[name] for name in ("href", "xlink:href") if name in own]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in ("meta", "link", "img", "br"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def shown(run) -> dict[str, Part]:
    """All parts by their titles."""
    return {part.title: part for section in sections(Material(run)) for part in section.parts}


def titled(found: dict[str, Part], begin: str) -> Part:
    (one,) = (part for title, part in found.items() if title.startswith(begin))
    return one


@pytest.fixture(scope="module")
def finished(script, smoke_run, tmp_path_factory):
    """A run that everything was done to; only to be read."""
    run = Run(tmp_path_factory.mktemp("finished") / "whole")
    shutil.copytree(smoke_run.folder, run.folder)
    study = run.folder.parent / "study.yaml"
    study.write_text(yaml.safe_dump({"study": STUDY}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "WINDOWS", 20)
        patch.setattr(prediction, "SAMPLES", 4)
        patch.setattr("worldmodels.stages.watch.TEMPERATURES_SECONDS", 0.3)
        script("evaluate", "--run", run.folder)
        script("watch", "--run", run.folder, "--watch.films=[dream,lap,temperatures]")
        script("inspect_dream", run.folder, *(f"--{k}={v}" for k, v in INSPECT.items()))
        script("study", run.folder, "--config", study)
        script("report", run.folder)
    return run


def test_one_file_holds_everything(finished):
    path = finished.folder / "report.html"
    page = read_page(path)
    assert path.stat().st_size < 15_000_000
    assert all(source.startswith("data:") for source in page.sources)
    assert len(page.ids) == len(set(page.ids))
    assert all(link.removeprefix("#") in {*page.ids, "data:,"} for link in page.links)
    assert not re.search(r"url\((?!#)", path.read_text())
    kinds = [source.split(";")[0] for source in page.sources]
    assert kinds.count("data:video/webm") == 3
    assert kinds.count("data:image/png") == 3


def test_every_figure_is_there_and_explains_itself(finished):
    found = shown(finished)
    assert read_page(finished.folder / "report.html").figures == len(found)
    assert not any(part.fill for part in found.values())
    apart = {title for title, part in found.items() if part.reason}
    assert {title.split(":")[0] for title in apart} == {
        "Whether the dream ranks controllers as reality does",
    } | {title for title in apart if "sanity" in title}
    for part in found.values():
        assert part.reading.endswith(".")
        whole = part.svg or part.table or part.picture or part.film or part.code
        assert whole or part.fill or part.reason


def test_the_numbers_are_those_of_the_files(finished):
    found, evaluation = shown(finished), load_json(finished.evaluation_file)
    agent, random, constant = titled(found, "The agent returns").table
    assert agent["mean return"] == parts.number(evaluation["mean"])
    assert random["policy"].startswith("random")
    assert constant["policy"].startswith("constant")
    low, high = evaluation["baselines"]["random"]["paired_ci95"]
    assert random["the agent's lead"] == f"{parts.number(low)} to {parts.number(high)}"
    study = load_json(finished.folder / "study" / "study.json")["table"]
    rows = titled(found, "Returns by temperature").table
    assert (
        [row["row"] for row in rows]
        == [row["row"] for row in study]
        == ["cold", "random", "constant"]
    )
    made = Metrics.making([finished]) / 60
    assert titled(found, "It was made").title.startswith(
        f"It was made in {parts.number(made)} minutes of "
    )
    commands = titled(found, "The exact commands").code
    assert [line.split()[0].split("/")[-1] for line in commands]
    assert any("inspect-dream" in line for line in commands)
    versions = {row["what"]: row["version"] for row in titled(found, "Versions").table}
    assert versions["torch"] == evaluation["versions"]["torch"]


def test_the_same_files_give_the_same_page(finished):
    path = finished.folder / "report.html"
    before = path.read_bytes()
    report(finished)
    assert path.read_bytes() == before


def test_an_unfinished_run_names_the_commands_that_are_left(smoke_run, tmp_path):
    run = Run(tmp_path / "half")
    shutil.copytree(smoke_run.folder, run.folder)
    page = read_page(report(run))
    found = shown(run)
    for command in ("evaluate --run", "watch --run", "inspect-dream", "study"):
        assert f"worldmodels {command} {run.folder}" in page.text
    assert titled(found, "The agent's returns").fill == f"worldmodels evaluate --run {run.folder}"
    assert titled(found, "Real return").svg
    assert titled(found, "Return in the dream").svg
    assert titled(found, "V's training").svg
    assert "frames that V was trained on" in titled(found, "Reconstructions").reading


def test_a_run_that_only_collected(smoke_copy):
    run = smoke_copy("episodes")
    with Metrics(run, "collect"):
        pass
    found = shown(run)
    assert titled(found, "V's training").fill == f"worldmodels train-vae --run {run.folder}"
    assert titled(found, "Reconstructions").fill == f"worldmodels train-vae --run {run.folder}"
    assert titled(found, "M's training").fill == f"worldmodels train-mdnrnn --run {run.folder}"
    assert report(run).exists()


def test_only_fields_that_differ_are_listed(smoke_copy):
    run = smoke_copy("episodes", dream={"temperature": 1.3})
    with Metrics(run, "collect"):
        pass
    part = titled(shown(run), "Configuration")
    rows = {row["field"]: (row["here"], row["default"]) for row in part.table}
    assert rows["dream.temperature"] == ("1.3", "1.0")
    assert rows["collect.explore.hold"][0] == "[1, 4]"
    assert "dream.goal" not in rows
    assert "  temperature: 1.3" in part.code


def test_evolutions_of_a_round_follow_one_another():
    """Two evolutions of three generations in the dream and one in reality."""
    means = [10.0, 11.0, 12.0, 30.0, 20.0, 21.0, 22.0, 40.0]
    lines = [{"stage": "evolve", "step": i, "mean": mean} for i, mean in enumerate(means)]
    done = [3, 4, 7, 8]
    validated = [Validated(one, np.zeros(2), np.full(2, 10.0 * one)) for one in done]
    one = Round(0, lines, validated, dreamt=3, total=4)
    assert one.in_dream(np.arange(8)).tolist() == [True, True, True, False] * 2
    assert [point[:2] for point in dreamt_and_real(one)] == [(12.0, 30.0), (22.0, 70.0)]
    assert one.length("evolve") == 8
    assert one.length("train_vae") == 0


def test_an_inspection_of_another_v_does_not_count(finished, tmp_path):
    run = Run(tmp_path / "other")
    shutil.copytree(finished.folder, run.folder)
    assert Material(run).inspected("pit")
    file = run.folder / "inspection" / "inspection.json"
    file.write_text(file.read_text().replace(load_json(file)["hashes"][0], "another"))
    assert Material(run).inspected("pit") == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "nowhere is not a run: name a folder"),
        ([], "no run is named: worldmodels report RUN"),
        (["runs", "--out", "x"], "--out is unknown: report takes only a folder"),
    ],
)
def test_mistakes(script, capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        script("report", *flags)
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_a_broken_film_is_named(finished, tmp_path, script, capsys):
    run = Run(tmp_path / "broken")
    shutil.copytree(finished.folder, run.folder)
    (run.videos / "lap.webm").write_bytes(b"nothing")
    before = (run.folder / "report.html").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        script("report", run.folder)
    assert "lap.webm is not a film: delete it" in capsys.readouterr().err
    assert (run.folder / "report.html").read_bytes() == before


@pytest.fixture
def page_of(browser):
    """An empty page under some conditions; a busy machine may take its time."""
    contexts = []

    def make(**conditions):
        contexts.append(browser.new_context(**conditions))
        contexts[-1].set_default_timeout(120_000)
        return contexts[-1].new_page()

    yield make
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_disk_without_a_network(finished, page_of, width, scheme):
    viewport, said, asked = {"width": width, "height": 900}, [], []
    page = page_of(viewport=viewport, color_scheme=scheme, offline=True)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url.split(":")[0]))
    page.goto((finished.folder / "report.html").as_uri())
    page.wait_for_function(
        "[...document.images].every(i => i.complete && i.naturalWidth) && "
        "[...document.querySelectorAll('video')].every(v => v.readyState >= 1)"
    )
    assert said == []
    assert set(asked) <= {"file", "data"}
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        "[...document.querySelectorAll('figure')].map(f => [f.clientWidth, f.clientHeight])"
    )
    cut = "e => e.scrollWidth > e.clientWidth"
    scrolled = page.evaluate(f"[...document.querySelectorAll('.scroll')].filter({cut}).length")
    assert not scrolled or width == 360
    assert len(sizes) == len(shown(finished))
    assert all(150 < w <= width and h > 60 for w, h in sizes)
    text, ground = page.evaluate(
        "[getComputedStyle(document.querySelector('svg text')).fill, "
        "getComputedStyle(document.querySelector('.part')).backgroundColor]"
    )
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) > 380 for colour in (text, ground)]
    assert light == ([False, True] if scheme == "light" else [True, False])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screen_readers_find_no_serious_fault(finished, page_of, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = page_of(color_scheme=scheme)
    page.goto((finished.folder / "report.html").as_uri())
    faults = axe.Axe().run(page).response["violations"]
    assert [one for one in faults if one["impact"] in ("serious", "critical")] == []


def test_films_play(finished, page_of):
    page = page_of()
    page.goto((finished.folder / "report.html").as_uri())
    page.evaluate("document.querySelector('video').play()")
    page.wait_for_function("document.querySelector('video').currentTime > 0.1")


def test_tensorboard_shows_the_same_while_the_run_goes_on(finished):
    found = EventAccumulator(str(finished.tensorboard)).Reload()
    tags = found.Tags()
    assert {
        *("train_vae/worst_median_best", "train_vae/latents", "train_mdnrnn/record_above_dream"),
        *("evaluate/test_episodes", "watch/lap", "inspect_dream/survival", "inspect_dream/pit"),
    } <= set(tags["images"])
    steps = [event.step for event in found.Images("train_vae/worst_median_best")]
    assert steps == [0, 1, 2]  # of two, and at the end
    (mean,) = found.Scalars("evaluate/mean")
    assert mean.value == pytest.approx(load_json(finished.evaluation_file)["mean"], rel=1e-6)
    rows = load_json(finished.folder / "inspection" / "inspection.json")["likelihood"]
    (nll,) = found.Scalars("inspect_dream/likelihood/1/nll")
    assert nll.value == pytest.approx(rows[0]["nll"], rel=1e-6)
