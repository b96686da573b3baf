import dataclasses
import os

import pytest
import yaml

from worldmodels.command_line import keep, one_line_errors, parse, read
from worldmodels.errors import InputError
from worldmodels.run import Run
from worldmodels.world import EnvConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A toy stage."""

    learning_rate: float = 1e-3
    """Adam's step."""
    kind: str | None = None
    sizes: tuple[int, ...] = (1, 2)
    mode: str = "a"

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise InputError(f"train.learning_rate is {self.learning_rate}: it must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Sections of the tests."""

    seed: int = 0
    """The one seed."""
    env: EnvConfig = dataclasses.field(default_factory=EnvConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_defaults_then_file_then_flags(tmp_path):
    file = write(tmp_path / "a.yaml", "train: {learning_rate: 2e-3, sizes: [3], kind: x}\nseed: 1")
    argv = [
        "--config",
        file,
        "--run",
        "runs/a",
        "--train.kind",
        "null",
        "--env.crop",
        "[0,84,0,96]",
    ]
    config, run = parse(ToyConfig, "Test.", argv)
    assert config.train == TrainConfig(learning_rate=2e-3, sizes=(3,))
    assert config.env == EnvConfig(crop=(0, 84, 0, 96))
    assert config.seed == 1
    assert str(run.folder) == "runs/a"


def test_a_later_file_changes_an_earlier_one(tmp_path):
    first = write(tmp_path / "a.yaml", "train: {kind: x, mode: b}\nseed: 1")
    second = write(tmp_path / "b.yaml", "train: {kind: y}")
    config, _ = parse(ToyConfig, "Test.", ["--config", first, f"--config={second}"])
    assert config == ToyConfig(seed=1, train=TrainConfig(kind="y", mode="b"))


def test_a_file_of_comments_means_the_defaults(tmp_path):
    file = write(tmp_path / "a.yaml", "# the paper's values\n")
    assert parse(ToyConfig, "Test.", [f"--config={file}"])[0] == ToyConfig()


BOMB = "a0: &a0 [1]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(12)
)
"""9 to the power of 12 values."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {learning: 1}", r"bad.yaml: train.learning is unknown: did you mean train.lear"),
        ("trein: {kind: x}", r"bad.yaml: trein.kind is unknown: did you mean train.kind"),
        ("train: {learning_rate: x}", r"bad.yaml: train.learning_rate: .*float.*x"),
        ("train: {learning_rate: -1}", r"bad.yaml: train.learning_rate is -1.0: .*positive"),
        ("env: {action: fifths}", r"bad.yaml: env.action: .*'thirds'.*fifths"),
        ("env: {crop: [1, 2]}", r"bad.yaml: env.crop: Expected one of .*\[1, 2\]"),
        ("train: 5", r"bad.yaml: train is a section"),
        ("train: null", r"bad.yaml: train is a section"),
        ("train: {learning_rate: null}", r"bad.yaml: train.learning_rate is null: give it a value"),
        ("env: {mirrored_actions: null}", r"bad.yaml: env.mirrored_actions is null"),
        ("seed: null", r"bad.yaml: seed is null"),
        ("seed: {a: 1}", r"bad.yaml: seed: "),
        ("train: [", r"bad.yaml is not valid YAML"),
        ("train: {kind: x, kind: y}", r"bad.yaml is not valid YAML: kind is stated twice"),
        ("seed: 1\nseed: 2", r"bad.yaml is not valid YAML: seed is stated twice"),
        ("env: {kwargs: &a {b: *a}}", r"bad.yaml is not valid YAML: \*a is an alias: write the"),
        ("env: &a {kwargs: *a}", r"bad.yaml is not valid YAML: \*a is an alias: write the value"),
        (BOMB, r"bad.yaml is not valid YAML: \*a0 is an alias: write the value out"),
        ("#" * 1_000_001, r"bad.yaml has more than 1000000 bytes: it is not a config"),
        ("env: {kwargs: {day: 2020-01-01}}", r"bad.yaml is not valid YAML: .*date"),
        ("- train", r"bad.yaml must hold sections"),
    ],
)
def test_mistakes_in_the_file(tmp_path, text, message):
    file = write(tmp_path / "bad.yaml", text)
    with pytest.raises(InputError, match=message) as caught:
        parse(ToyConfig, "Test.", ["--config", file])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--train.learning", "1"], r"^train.learning is unknown: did you mean"),
        (["--train.learning_rate", "x"], r"^train.learning_rate: .*x"),
        (["--train.learning_rate", "0"], r"^train.learning_rate is 0.0"),
        (["--seed", "x"], r"^seed: "),
        (["--seed"], r"--seed"),
        (["--config"], r"--config is empty"),
        (["--config", "none.yaml"], r"none.yaml cannot be read.*one of boxing.*quick"),
        (["--run="], r"^--run is empty: name a folder"),
        (["--run"], r"^--run is empty: name a folder"),
        (["extra"], r"extra"),
    ],
)
def test_mistakes_on_the_command_line(argv, message):
    with pytest.raises(InputError, match=message) as caught:
        parse(ToyConfig, "Test.", argv)
    assert "\n" not in str(caught.value)


def test_a_pipe_is_no_config(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match=r"pipe.yaml is a pipe or a device: name a file$"):
        parse(ToyConfig, "Test.", ["--config", str(tmp_path / "pipe.yaml")])
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(InputError, match=r"config.yaml is a pipe or a device: name a file$"):
        parse(ToyConfig, "Test.", ["--run", str(tmp_path)])


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    """A shell leaves that of `--run=~/mine` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse(ToyConfig, "Test.", ["--run=~/mine"])[1].folder == tmp_path / "mine"
    for name in ("~", "~/", "/", str(tmp_path)):
        with pytest.raises(InputError, match=r"is full of other things: name a folder, e.g. runs"):
            parse(ToyConfig, "Test.", [f"--run={name}"])
    with pytest.raises(InputError, match=r"^--run ~nobody0/mine: there is no such user$"):
        parse(ToyConfig, "Test.", ["--run=~nobody0/mine"])


def test_the_run_keeps_its_config(tmp_path):
    config = ToyConfig(seed=3, env=EnvConfig(kwargs={"a": [1, None], "b": "x"}))
    run = Run(tmp_path / "run")
    keep(config, run)
    assert read(ToyConfig, run.config_file) == config
    assert parse(ToyConfig, "Test.", ["--run", str(run.folder)])[0] == config
    assert yaml.safe_load(run.config_file.read_text())["seed"] == 3
    keep(config, run)
    with pytest.raises(InputError, match=r"^train.mode is 'b', but .*config.yaml says 'a'"):
        keep(dataclasses.replace(config, train=TrainConfig(mode="b")), run)
    free = dataclasses.replace(config, train=TrainConfig(mode="b"))
    keep(free, run, free=["train.mode"])
    assert read(ToyConfig, run.config_file) == free


def test_a_class_path_in_a_dictionary_is_not_executed(tmp_path):
    file = write(tmp_path / "a.yaml", "env: {kwargs: {p: {class_path: collections.Counter}}}")
    config, _ = parse(ToyConfig, "Test.", ["--config", file])
    assert config.env.kwargs == {"p": {"class_path": "collections.Counter"}}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{class_path: hostile.Game}", r"env.class_path is unknown"),
        ("{class_path: hostile.Game, init_args: {}}", r"env.class_path is unknown"),
        ("other.yaml", r"env is a section: give it fields, not 'other.yaml'"),
    ],
)
def test_a_file_of_settings_imports_nothing_and_opens_no_other(
    tmp_path, monkeypatch, section, message
):
    write(tmp_path / "hostile.py", "raise SystemExit('imported')")
    write(tmp_path / "other.yaml", "id: CartPole-v1")
    monkeypatch.syspath_prepend(tmp_path)
    file = write(tmp_path / "bad.yaml", f"env: {section}")
    with pytest.raises(InputError, match=message):
        parse(ToyConfig, "Test.", ["--config", file])


def test_help_shows_docstrings_of_the_chosen_sections(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(ToyConfig, "Test.", ["--help"], show=["train"])
    out = capsys.readouterr().out
    assert "Adam's step." in out
    assert "The one seed." in out
    assert "--env.id" not in out


def test_one_line_errors_exit_with_two(capsys):
    with pytest.raises(SystemExit, match="2"), one_line_errors():
        raise InputError("seed is bad: give a number")
    assert capsys.readouterr().err == "error: seed is bad: give a number\n"
