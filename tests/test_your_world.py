"""The guide docs/your_world.md, and `worldmodels init`: done as the page says, at tiny sizes."""

import re
import shlex
from pathlib import Path

import pytest
import user_world

from worldmodels.cli import main
from worldmodels.command_line import read
from worldmodels.config import Config
from worldmodels.files import load_json

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "your_world.md").read_text(encoding="utf-8")
TINY = ["--collect.episodes=4", "--train_vae.steps=2", "--train_mdnrnn.steps=2"]
TINY += ["--evolve.generations=1", "--evaluate.episodes=2", "--watch.films=[dream]"]
TINY += ["--watch.seconds=0.5", "--workers.processes=1", "--cma.population_size=4"]


@pytest.fixture(autouse=True)
def untrusted(monkeypatch):
    monkeypatch.setenv("WORLDMODELS_TRUST_ENV", "")


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```", GUIDE, re.M | re.S)[1]


def test_the_guide(monkeypatch):
    """Its two files and its commands, from a class to a film."""
    Path("lights.py").write_text(block("python"))
    Path("small.yaml").write_text(block("yaml"))
    lines = [
        line for text in re.findall(r"```bash\n(.*?)```", GUIDE, re.S) for line in text.split("\n")
    ]
    words = [shlex.split(line)[1:] for line in lines if line]
    assert [each[0] for each in words] == ["init", "pipeline", "watch"]
    for each in words:
        here = ["--workers.processes=1"] if each[0] == "init" else []
        main([*each, *(TINY if each[0] == "pipeline" else here)])
        monkeypatch.setenv("WORLDMODELS_TRUST_ENV", "")
    assert Path("lights.png").is_file()
    assert load_json(Path("runs/lights/evaluation.json"))["episodes"] == 2
    assert Path("runs/lights/videos/dream.webm").is_file()


def test_init_fills_the_template_in(capsys):
    kwargs = "{picture: stack, length: 30}"
    flags = ["--env.max_episode_steps=900", "--workers.processes=1", "--out", "mine.yaml"]
    main(["init", f"{user_world.__file__}:UserWorld", "--env.kwargs", kwargs, *flags])
    config, text = read(Config, Path("mine.yaml")), Path("mine.yaml").read_text()
    assert config.env.kwargs == {"picture": "stack", "length": 30}
    assert (config.env.max_episode_steps, config.env.action_repeat) == (900, 1)
    assert (config.collect.max_steps, config.dream.horizon) == (900, 200)
    assert "#   V sees   the newest of 4 grey pictures; 64x64" in text
    out = capsys.readouterr().out
    assert "mine.yaml holds the config" in out
    assert out.endswith("next: worldmodels pipeline --config mine.yaml --run runs/userworld\n")


def test_init_limits_a_world_without_a_time_limit():
    main(["init", f"{user_world.__file__}:UserWorld", "--out=mine.yaml", "--workers.processes=1"])
    config = read(Config, Path("mine.yaml"))
    assert (config.env.max_episode_steps, config.env.action_repeat) == (1000, 1)
    assert config.collect.max_steps == 1000


def test_init_keeps_what_is_there(capsys):
    Path("cartpole_v1.yaml").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        main(["init", "CartPole-v1"])
    assert "cartpole_v1.yaml already exists: move it, or name another" in capsys.readouterr().err
    assert Path("cartpole_v1.yaml").read_text() == "mine"
