"""A study through its command line: what is evolved, measured, kept, and not done again."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from worldmodels.command_line import read
from worldmodels.config import Config
from worldmodels.diagnostics import study as module
from worldmodels.errors import InputError
from worldmodels.files import file_hash, load_json, load_tensors
from worldmodels.run import Metrics, Run
from worldmodels.stages.history import History, history_file

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PARTS = ["vae", "latents", "mdnrnn"]
COLD = {"cold": {"dream": {"temperature": 0.5}}}
SEEING = {"seeing": {"controller": {"inputs": "z"}}}
ROWS = {**COLD, **SEEING, "untrained": {"controller": {"senses": "untrained"}}}
EVOLVE = {
    "generations": 2,
    "validate_every": 1,
    "validation_episodes": 2,
}
BUDGET = {"evolutions": 2, "test_episodes": 3, "dream_episodes": 4}


@pytest.fixture
def study(script, tmp_path):
    """Runs the command with some rows and a budget; what study.json holds then."""

    def run_it(run, rows=ROWS, *flags, evolve=EVOLVE, **budget):
        file = tmp_path / "study.yaml"
        stated = {**BUDGET, **budget, "changes": {"evolve": evolve}, "rows": rows}
        sections = {"study": stated, "workers": {"processes": 1}}
        file.write_text(yaml.safe_dump(sections, sort_keys=False))
        script("study", run.folder, "--config", file, *flags)
        return load_json(run.folder / "study" / "study.json")

    return run_it


@pytest.fixture
def run(smoke_copy):
    return smoke_copy(*PARTS)


def own(run, row, number):
    return Run(run.folder / "study" / "rows" / row / str(number))


def test_a_whole_study(study, run, capsys):
    before = run.config_file.read_bytes()
    report = study(run)
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{run.folder / 'study'} holds study.md and study.json"
    )
    assert run.config_file.read_bytes() == before
    assert not run.metrics.exists()  # the run's own minutes stay what they were
    assert list(report["rows"]) == ["cold", "seeing", "untrained"]
    assert report["budget"]["population_size"] == 4
    check_evolutions(run, report)
    check_sums(report)
    check_files(run)
    table = (run.folder / "study" / "study.md").read_text()
    assert "| cold " in table
    assert "| random " in table


def check_evolutions(run, report):
    seeds = set()
    for name, row in report["rows"].items():
        assert [one["number"] for one in row["evolutions"]] == [0, 1]
        for one in row["evolutions"]:
            folder = own(run, name, one["number"])
            config = read(Config, folder.config_file)
            assert one["seed"] == config.seed
            assert one["real"]["about"]["seeds"] == [200_000_000, 3]
            assert len(one["real"]["returns"]) == 3
            assert len(one["dream"]["returns"]) == 4
            assert one["dream"]["about"]["dream"]["temperature"] == config.dream.temperature
            assert one["seconds"] > 0 < one["real"]["cores"]
            assert {"command", "versions"} <= set(one["real"])
            assert (config.evolve.generations, config.cma.population_size) == (2, 4)
            seeds.add(config.seed)
    assert len(seeds) == 6
    cold, seeing, untrained = (report["rows"][n]["config"] for n in ("cold", "seeing", "untrained"))
    assert (cold["dream"]["temperature"], seeing["dream"]["temperature"]) == (0.5, 1.0)
    assert (cold["controller"]["inputs"], seeing["controller"]["inputs"]) == ("zh", "z")
    assert (cold["controller"]["senses"], untrained["controller"]["senses"]) == ("own", "untrained")


def check_sums(report):
    *rows, random, constant = report["table"]
    for row, known in zip(rows, report["rows"].values(), strict=True):
        returns = [one["real"]["returns"] for one in known["evolutions"]]
        assert row["real_return"] == pytest.approx(np.mean(returns))
        spread = np.std(np.mean(returns, axis=1), ddof=1)
        assert row["std_between_evolutions"] == pytest.approx(spread)
    assert (random["row"], random["dream_return"]) == ("random", None)
    assert constant["row"] == "constant"
    assert len(report["baselines"]["random"]["returns"]) == 3


def check_files(run):
    """The means of the row that sees as the run does; V, M and latents linked, not copied."""
    files = sorted(path.name for path in (run.folder / "controllers").iterdir())
    assert files == ["cold_0.safetensors", "cold_1.safetensors"]
    tensors, _ = load_tensors(run.folder / "controllers" / "cold_1.safetensors")
    validated = History.load(history_file(own(run, "cold", 1))).validated
    assert tensors["generations"].tolist() == [1, 2]
    np.testing.assert_allclose(tensors["means"], np.stack([one.mean for one in validated]))
    for name in ("vae", "mdnrnn", "latents", "world.json"):
        link = own(run, "cold", 0).folder / name
        assert link.is_symlink()
        assert link.samefile(run.folder / name)


def test_nothing_is_done_twice(study, run, hashes, monkeypatch):
    first = study(run, COLD, evolutions=1)
    before = hashes(run.folder)
    monkeypatch.setattr("worldmodels.acting.evaluate.run_jobs", None)
    monkeypatch.setattr("worldmodels.acting.evaluate.rollout", None)
    again = study(run, COLD, evolutions=1)
    assert again == first
    assert hashes(run.folder) == before


def test_rows_side_by_side_have_the_same_bits(study, run):
    def rows(report):
        keys = ("number", "seed", "validation")
        found = [one for row in report["rows"].values() for one in row["evolutions"]]
        return [[one[key] for key in keys] + [one["dream"]["returns"]] for one in found]

    alone = study(run, {**COLD, **SEEING}, evolutions=1)
    shutil.rmtree(run.folder / "study")
    together = study(run, {**COLD, **SEEING}, "--workers.processes=4", evolutions=1)
    assert list(together["rows"]) == ["cold", "seeing"]
    assert rows(together) == rows(alone)


def test_rows_join_and_measures_grow(study, script, run, monkeypatch):
    first = study(run, COLD, evolutions=1)
    played = []
    real = module.run_evolution
    monkeypatch.setattr(module, "run_evolution", lambda e: (played.append(e.name), real(e))[1])
    more = study(run, {**COLD, **SEEING}, test_episodes=4)
    assert played == ["cold_0", "seeing_0", "cold_1", "seeing_1"]
    old, new = (report["rows"]["cold"]["evolutions"][0] for report in (first, more))
    assert new["dream"] == old["dream"]
    assert new["real"]["returns"][:3] == old["real"]["returns"]
    assert len(new["real"]["returns"]) == len(more["baselines"]["random"]["returns"]) == 4
    script("study", run.folder)  # goes on with its own config
    assert load_json(run.folder / "study" / "study.json")["rows"] == more["rows"]


def test_without_validation_the_last_mean_is_measured(study, run):
    evolve = {**EVOLVE, "validation_episodes": 0}
    report = study(run, COLD, evolve=evolve, evolutions=1)
    cold = report["rows"]["cold"]["evolutions"][0]
    assert cold["validation"] is None
    assert len(cold["real"]["returns"]) == 3
    tensors, about = load_tensors(own(run, "cold", 0).controller / "controller.safetensors")
    assert torch.equal(tensors["best"], tensors["last"])
    assert about["real_steps"] == {"validate": 0, "evolve": 0}
    means = load_tensors(run.folder / "controllers" / "cold_0.safetensors")[0]["means"]
    assert torch.equal(means[-1], tensors["best"])
    assert "without validation" in (run.folder / "study" / "study.md").read_text()


def test_rows_may_dream_in_other_ways(study, run):
    dream = {"ends": "sampled", "weight": "none", "temperature": 0.5}
    rows = {"short": {"dream": dream, "evolve": {"dream_max_steps": 3}}}
    report = study(run, rows, evolutions=1)
    config = read(Config, own(run, "short", 0).config_file)
    assert config.evolve.dream_max_steps == 3
    assert (config.dream.ends, config.dream.weight) == ("sampled", "none")
    assert config.dream.horizon > 3  # of the dreams in which it is measured
    assert report["rows"]["short"]["config"]["evolve"]["dream_max_steps"] == 3
    dreamt = [line["steps"] for line in Metrics.lines(own(run, "short", 0)) if "steps" in line]
    assert 0 < max(dreamt) <= 3 * 4 * config.evolve.rollouts_per_candidate


def test_it_goes_on_after_a_kill(study, run, monkeypatch):
    def killed(evolution, *rest):
        if evolution.name == "seeing_0":
            raise KeyboardInterrupt
        return measured(evolution, *rest)

    measured = module.measured
    monkeypatch.setattr(module, "measured", killed)
    with pytest.raises(SystemExit, match="130"):
        study(run, {**COLD, **SEEING}, evolutions=1)
    assert list(load_json(run.folder / "study" / "study.json")["rows"]) == ["cold"]
    controller = own(run, "seeing", 0).controller / "controller.safetensors"
    evolved = file_hash(controller)
    monkeypatch.undo()
    report = study(run, {**COLD, **SEEING}, evolutions=1)
    assert list(report["rows"]) == ["cold", "seeing"]
    assert file_hash(controller) == evolved
    assert report["table"][0]["std_between_evolutions"] is None


def test_a_run_of_several_rounds(study, run, capsys):
    """The top level has the best round's V, M and latents; a row may have another's."""
    first = run.round(0)
    for name in ("world.json", *PARTS):
        source, target = run.folder / name, first.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    report = study(run, {"best": {}, "one_round": {"round": 0}}, evolutions=1)
    assert own(run, "one_round", 0).mdnrnn.samefile(first.mdnrnn)
    assert own(run, "best", 0).mdnrnn.samefile(run.mdnrnn)
    assert report["rows"]["one_round"]["source"] == str(first.folder)
    assert [p.name for p in (run.folder / "controllers").iterdir()] == ["best_0.safetensors"]
    with pytest.raises(SystemExit, match="2"):
        study(run, {"late": {"round": 7}})
    error = capsys.readouterr().err
    assert "late needs round 7, but there is no" in error
    assert error.count("\n") == 1


def test_one_round_is_its_own_first(study, script, run):
    study(run, {"one_round": {"round": 0}}, evolutions=1)
    evolution = own(run, "one_round", 0)
    assert evolution.mdnrnn.samefile(run.mdnrnn)
    # each is a run, which other commands read
    script("evaluate", "--run", evolution.folder, "--evaluate.episodes=2")
    assert load_json(evolution.evaluation_file)["episodes"] == 2


def test_what_contradicts_is_refused(study, script, run, capsys):
    study(run, COLD, evolutions=1)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        script("study", run.folder, "--study.changes={evolve: {generations: 3}}")
    one_line(capsys, "evolve.generations is 3, but .*config.yaml says 2: .*, or delete .*cold/0")
    script("study", run.folder)  # with what it was begun with


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no run is named: worldmodels study RUN"),
        (["--study.evolutions=2"], "no run is named"),
        (["nothing"], "nothing/config.yaml is missing: run `worldmodels pipeline` first"),
        (["{run}"], "study.rows is empty: name a file of rows"),
        (["{run}", "--study.rows={{a: {{heat: {{}}}}}}"], "study.rows.a: heat cannot change"),
        (["{run}", "--study.rows=[a]"], "study.rows: Expected a dict"),
        (["{run}", "--study.evolution=3"], "did you mean study.evolutions?"),
        (["{run}", "--study.evolutions=x"], "study.evolutions: "),
        (["{run}", "--study.rows={{a: {{}}}}"], "mdnrnn.safetensors is missing: run"),
    ],
)
def test_mistakes_are_one_line_and_code_2(script, smoke_copy, capsys, flags, message):
    run = smoke_copy("vae", "latents")
    with pytest.raises(SystemExit, match="2"):
        script("study", *(flag.format(run=run.folder) for flag in flags))
    one_line(capsys, message)
    assert not (run.folder / "study" / "study.json").exists()


def one_line(capsys, message):
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(rf"error: .*{message}", line), line


def test_doom(study, script, tmp_run, tiny):
    """The published numbers stand beside a row's; and V's recall of fireballs."""
    pytest.importorskip("vizdoom")
    small = ["--collect.episodes=2", "--collect.max_steps=30"]
    flags = ["--config", CONFIGS / "smoke_take_cover.yaml", "--run", tmp_run.folder, *tiny, *small]
    for stage in ("collect", "train_vae", "encode", "train_mdnrnn"):
        script(stage, *flags)
    rows = {"tau": {"dream": {"temperature": 1.15}}}
    budget = {"evolutions": 1, "test_episodes": 2, "dream_episodes": 2}
    published = {"tau": "918 / 1092", "random": "- / 210"}
    report = study(tmp_run, rows, evolve={"generations": 1}, published=published, **budget)
    assert set(report["baselines"]) == {"random", "sweep"}
    table = (tmp_run.folder / "study" / "study.md").read_text()
    assert "| 918 / 1092 " in table
    assert "| - / 210 " in table
    few = ["--inspect.parts=[fireballs]", "--inspect.episodes=2"]
    script("inspect_dream", tmp_run.folder, *few)
    report = load_json(tmp_run.folder / "inspection" / "inspection.json")
    *sizes, found = report["fireballs"]
    assert found["count"] == sum(size["count"] for size in sizes) > 0
    assert (tmp_run.folder / "inspection" / "fireballs.png").exists()
    assert found["recall"] < 0.5  # of a V that was trained on two batches


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": {"env": {}}}, "a: env cannot change: change one of controller, dream, cma, evolve"),
        ({"a": {"dream": {"temperatur": 1.0}}}, "a: dream.temperatur is unknown: did you mean"),
        ({"a": {"dream": {"temperature": "hot"}}}, "a: dream.temperature: Expected"),
        ({"a": {"dream": {"temperature": 0}}}, "a: dream.temperature is 0.0: it must be above 0"),
        ({"a": {"controller": {"inputs": "hz"}}}, "a: controller.inputs: Expected .*zch.*hz"),
        ({"a": {"round": "x"}}, "a needs round x, but round is not a number from 0 on"),
        ({"a": {"round": -1}}, "a needs round -1, but round is not a number from 0 on"),
        ({"a/b": {}}, "a/b is not a folder name"),
        ({"..": {}}, ".* not a folder name"),
        ({"a": {"class_path": "this.That"}}, "a: class_path cannot change"),
    ],
)
def test_mistakes_name_the_row_and_the_field(run, rows, message):
    settings = module.StudyConfig(rows={"good": {}, **rows})
    with pytest.raises(InputError, match=rf"^study.rows.{message}") as caught:
        module.evolutions_of(run, read(Config, run.config_file), settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*_study.yaml")), ids=lambda file: file.stem)
def test_the_shipped_rows_fit_their_run(run, file):
    base = "quick" if file.stem.startswith("car_racing") else "take_cover"
    settings = read(module.StudySections, file).study
    evolutions = module.evolutions_of(run, read(Config, CONFIGS / f"{base}.yaml"), settings)
    found = {one.row: one.config for one in evolutions}
    assert set(settings.published) <= {*found, "random"}
    for name, row in settings.rows.items():
        for section in set(row) - {"round"}:
            assert row[section].items() <= vars(getattr(found[name], section)).items()


def entry(dream, real, seconds=30.0):
    rows = {"dream": dream, "real": real}
    measured = {name: {"mean": sum(r) / len(r), "returns": r} for name, r in rows.items()}
    return {"seconds": seconds, **measured}


def test_episodes_are_pooled_and_evolutions_apart():
    first, second = entry([10.0, 20.0], [1.0, 2.0, 3.0]), entry([30.0, 40.0], [4.0, 5.0, 9.0], 60.0)
    assert module._pooled([first])["std_between_evolutions"] is None
    found = module._pooled([first, second])
    assert (found["minutes"], found["dream_return"], found["real_return"]) == (1.5, 25.0, 4.0)
    assert found["std"] == pytest.approx((40 / 5) ** 0.5)
    low, high = found["ci95"]
    assert 1 < low < 4 < high < 9
    assert found["std_between_evolutions"] == pytest.approx(8**0.5)  # means 2 and 6
