"""Every shipped config loads and round-trips; every field explains itself and knows its range."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import docstring_parser
import pytest
import yaml

from worldmodels.command_line import keep, read, validated
from worldmodels.config import Config
from worldmodels.diagnostics.study import StudyConfig, StudySections
from worldmodels.errors import InputError
from worldmodels.play.session import PlayConfig
from worldmodels.run import Run

FOLDER = Path(__file__).resolve().parents[1] / "configs"
STUDIES = sorted(FOLDER.glob("*_study.yaml"))
CONFIGS = sorted(set(FOLDER.glob("*.yaml")) - set(STUDIES))


def sections(kind: type[Any]) -> Iterator[type[Any]]:
    """The dataclasses of a config, sections of sections too."""
    for field in dataclasses.fields(kind):
        hint = get_type_hints(kind)[field.name]
        if dataclasses.is_dataclass(hint):
            yield hint
            yield from sections(hint)


def stated(values: dict[str, Any], config: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name, value in the file, value in the config) of all that a file states."""
    for name, value in values.items():
        if name == "base":
            continue
        resolved = getattr(config, name)
        if dataclasses.is_dataclass(resolved):
            yield from stated(value, resolved)
        else:
            yield name, value, resolved


@pytest.mark.parametrize("file", [*CONFIGS, *STUDIES], ids=lambda file: file.stem)
def test_a_config_loads_as_it_is_written(file):
    config = read(StudySections if file in STUDIES else Config, file)
    for name, written, resolved in stated(yaml.safe_load(file.read_text()), config):
        expected = tuple(written) if isinstance(resolved, tuple) else written
        found = restricted(resolved, written) if name == "later" else resolved
        assert found == expected, name


def restricted(found: Any, written: Any) -> Any:
    """Those values of nested mappings that a file states; the others are its base's."""
    if not isinstance(written, dict):
        return found
    return {name: restricted(found.get(name), value) for name, value in written.items()}


def test_a_file_changes_fields_of_its_base(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "base: quick\nrounds: 9\nlater: {1: {train_vae: {steps: 7}}, 8: {cma: {sigma0: 2}}}"
    )
    quick, mine = read(Config, FOLDER / "quick.yaml"), read(Config, file)
    assert mine.env == quick.env
    assert mine.rounds == 9
    assert mine.of_round(1).train_vae == dataclasses.replace(quick.of_round(1).train_vae, steps=7)
    assert mine.of_round(1).collect == quick.of_round(1).collect
    assert mine.of_round(8).cma.sigma0 == 2
    assert mine.of_round(8).evolve == quick.of_round(7).evolve


@pytest.mark.parametrize("base", ["nothing", "../quick", "quick.yaml", "[quick]", "{a: 1}", "null"])
def test_a_base_is_a_shipped_file(base, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"base: {base}")
    with pytest.raises(InputError, match=r"mine.yaml: base is .*: name one of .*quick"):
        read(Config, file)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_round_trips(file, tmp_path):
    """Resolved, saved in a run, and read again."""
    config, run = read(Config, file), Run(tmp_path)
    keep(config, run)
    assert read(Config, run.config_file) == config
    text = run.config_file.read_text()
    assert yaml.safe_load(text)["env"]["id"] == config.env.id
    keep(config, run)
    assert run.config_file.read_text() == text


def test_the_configs_of_the_issue_are_there():
    names = {file.stem for file in CONFIGS}
    assert names >= {"car_racing", "car_racing_dream", "take_cover", "smoke", "smoke_take_cover"}


@pytest.mark.parametrize(
    "kind",
    [*sections(Config), PlayConfig, StudyConfig],
    ids=lambda kind: kind.__name__,
)
def test_every_field_explains_itself(kind):
    """The docstring under a field is its --help."""
    bases = [base for base in kind.__mro__ if dataclasses.is_dataclass(base)]
    found = [p for base in bases for p in docstring_parser.parse_from_object(base).params]
    texts = {p.arg_name: p.description for p in found}
    assert [f.name for f in dataclasses.fields(kind) if not texts.get(f.name)] == []
    assert docstring_parser.parse_from_object(kind).short_description


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("env.action_repeat", 0), ("env.crop", (84, 0, 0, 96))],
        *[("env.count_limit", 0.0), ("env.max_episode_steps", 0), ("workers.processes", -1)],
        *[("collect.episodes", 0), ("collect.max_steps", 0), ("collect.evolved_share", 1.5)],
        *[("collect.explore.hold", (5, 1)), ("collect.explore.memory", 0.0)],
        *[("vae.latent_size", 0), ("vae.width", 0)],
        *[("train_vae.learning_rate", 0.0), ("train_vae.learning_rate", float("nan"))],
        *[("mdnrnn.hidden_size", 0), ("mdnrnn.num_mixtures", 0)],
        *[("train_mdnrnn.batch_size", 0), ("train_mdnrnn.sequence_length", 0)],
        *[("train_mdnrnn.gradient_clip", 0.0), ("train_mdnrnn.final_learning_rate", -1.0)],
        *[("controller.hidden_size", -1), ("dream.temperature", 0.0), ("dream.horizon", 0)],
        *[("cma.population_size", 3), ("cma.sigma0", -0.1), ("cma.full_at_most", 0)],
        *[("mdnrnn.risk_horizons", (0,)), ("mdnrnn.return_horizons", (3, 0))],
        *[("evolve.generations", -1), ("evolve.rollouts_per_candidate", 0)],
        *[("evolve.validate_every", 0), ("evaluate.episodes", 1)],
        *[("watch.seconds", 0.0)],
    ],
)
def test_a_value_out_of_range(field, value):
    section, name = field.rsplit(".", 1)
    values: Any = {name: list(value) if isinstance(value, tuple) else value}
    for part in reversed(section.split(".")):
        values = {part: values}
    with pytest.raises(InputError, match=name) as caught:
        validated(Config, values)
    assert section in str(caught.value)
    assert "\n" not in str(caught.value)


def test_later_rounds_change_what_later_says():
    values = {
        "rounds": 3,
        "collect": {"explore": {"noise": 0.3, "memory": 5.0}},
        "train_vae": {"steps": 9, "batch_size": 7},
        "later": {
            1: {"train_vae": {"steps": 4}, "collect": {"explore": {"noise": 0.1}}},
            3: {"train_vae": {"steps": 2}},
        },
    }
    config = validated(Config, values)
    assert config.of_round(0) is config
    for index, steps in ((1, 4), (2, 4), (3, 2), (4, 2)):
        resolved = config.of_round(index)
        assert (resolved.train_vae.steps, resolved.train_vae.batch_size) == (steps, 7)
        assert (resolved.collect.explore.noise, resolved.collect.explore.memory) == (0.1, 5.0)
        assert resolved == dataclasses.replace(
            config, later={}, train_vae=resolved.train_vae, collect=resolved.collect
        )


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({1: {"train_vae": {"steps": 0}}}, "^later.1.train_vae.steps is 0: it must be at least 1$"),
        (
            {2: {"train_vae": {"stepz": 1}}},
            "^later.2.train_vae.stepz is unknown: did you mean trai",
        ),
        ({1: {"train_vae": {"steps": "x"}}}, "^later.1.train_vae.steps: .*x"),
        ({1: {"collect": {"explore": 3}}}, "^later.1.collect.explore is a section: give it fields"),
        ({1: {"vae": {"latent_size": 3}}}, "^later.1.vae cannot change: .* of collect, train_vae"),
        ({1: {"train_vae.steps": 3}}, "^later.1.train_vae.steps cannot change: give sections"),
        ({0: {"train_vae": {"steps": 3}}}, "^later.0: rounds are counted from 0; use 1 or more"),
        (
            {"train_vae": {"steps": 3}},
            "^later names rounds, not train_vae: write later: {1: {collect: {episodes: 100}}}$",
        ),
    ],
)
def test_mistakes_in_later(later, message):
    with pytest.raises(InputError, match=message) as caught:
        validated(Config, {"later": later})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *[
            (
                {"mdnrnn": {name: [8, 3]}, "train_mdnrnn": {"sequence_length": 8}},
                r"^train_mdnrnn.sequence_length is 8: make it longer than the longest of .*, 8$",
            )
            for name in ("risk_horizons", "return_horizons")
        ],
        (
            {
                "mdnrnn": {"return_horizons": [3]},
                "later": {1: {"train_mdnrnn": {"sequence_length": 2}}},
            },
            r"^later.1.train_mdnrnn.sequence_length is 2: make it longer",
        ),
        ({"controller": {"inputs": "r"}}, r"^controller.inputs is r: r needs mdnrnn.risk_horizons"),
        (
            {"mdnrnn": {"return_horizons": [3]}, "env": {"reward": "constant"}},
            r"^env.reward is constant, but mdnrnn.return_horizons needs real rewards",
        ),
    ],
)
def test_what_horizons_need(values, message):
    with pytest.raises(InputError, match=message):
        validated(Config, values)
