"""Each row of docs/sanity.md, broken on purpose: its line is printed, with its advice."""

import ast
import contextlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from certain import certain_reward

import worldmodels
from worldmodels.artifacts import load_controller, load_mdnrnn, load_vae, save_controller
from worldmodels.command_line import read
from worldmodels.config import Config
from worldmodels.data.manifest import MANIFEST
from worldmodels.files import (
    file_hash,
    load_json,
    load_tensors,
    save_arrays,
    save_tensors,
)
from worldmodels.models.controller import controller_for
from worldmodels.stages.fit import adam, save_training

M = ["episodes", "vae", "latents", "mdnrnn"]
REWARD, TERMINATION = slice(-62, -1), -1
"""Rows of M's last layer."""
PAGE = Path(__file__).parents[1] / "docs" / "sanity.md"
ROWS = [
    [cell.strip() for cell in line.split("|")[2:5]]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
]
INSPECTED = ["--workers.processes=1", "--inspect.episodes=12", "--inspect.starts=12"]


@pytest.fixture
def lines(script, capsys):
    """Runs a stage; what it says looks wrong, or its error."""

    def run_it(stage, run, *flags):
        capsys.readouterr()
        named = [] if stage == "inspect_dream" else ["--run"]
        with contextlib.suppress(SystemExit):
            script(stage, *named, run.folder, *flags)
        said = capsys.readouterr()
        marked = [line for line in said.out.splitlines() if line.startswith("looks wrong: ")]
        return marked + [line for line in said.err.splitlines() if line.startswith("error: ")]

    return run_it


def change_arrays(folder, **changes):
    """Changes arrays of all episodes in a folder: name=function of the array."""
    for path in folder.glob("*.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        for name, change in changes.items():
            arrays[name] = np.asarray(change(arrays[name]), arrays[name].dtype)
        save_arrays(path, **arrays)
    (folder / MANIFEST).unlink(missing_ok=True)  # it would refuse them


def change_mdnrnn(run, change):
    """Changes M's weights in their file."""
    path = run.mdnrnn / "mdnrnn.safetensors"
    tensors, metadata = load_tensors(path)
    change(tensors)
    save_tensors(path, tensors, metadata)


def pays(tensors, reward, end=-20.0):
    """M pays the same at every step; `end` is the log-odds of the end."""
    tensors["head.weight"][-62:] = 0.0
    tensors["head.bias"][REWARD] = certain_reward(reward)
    tensors["head.bias"][TERMINATION] = end


def constant_pictures(smoke_copy, lines, cured):
    run = smoke_copy("episodes")
    if not cured:
        first = next(run.episodes.glob("*.npz"))
        with np.load(first) as file:
            picture = file["frames"][0]
        change_arrays(run.episodes, frames=lambda frames: np.broadcast_to(picture, frames.shape))
    return lines("train_vae", run)


def learning_v(smoke_copy, lines, *, faint=False, **changes):
    v = {"steps": 100, "learning_rate": 0.003, "free_nats": 0.5, **changes}
    run = smoke_copy("episodes", vae={"first_weights": "he"}, train_vae=v)
    if faint:
        change_arrays(run.episodes, frames=lambda frames: frames // 16 + 100)
    return lines("train_vae", run)


def posterior_collapse(smoke_copy, lines, cured):
    """What moves is faint: the squares that it costs are worth no nats."""
    return learning_v(smoke_copy, lines, faint=True, free_nats=0.5 if cured else 0.0)


def poor_pictures(smoke_copy, lines, cured):
    return learning_v(smoke_copy, lines, **({} if cured else {"steps": 1}))


def small_things(smoke_copy, lines, cured):
    """A dot of 2x2 pixels walks over a large picture that differs between episodes."""

    def dots(frames):
        background = frames[:1].repeat(len(frames), 0)
        for step, picture in enumerate(background):
            picture[20 + step : 22 + step, 30:32] = 255 - picture[20 + step : 22 + step, 30:32]
        return background

    v = {"steps": 300, "learning_rate": 0.003, "motion_weight": 100.0 if cured else 0.0}
    run = smoke_copy("episodes", vae={"first_weights": "he"}, train_vae=v)
    change_arrays(run.episodes, frames=dots)
    return lines("train_vae", run)


def sigma_collapse(smoke_copy, lines, cured):
    """A training that was stopped just before its end, with this V."""
    run = smoke_copy("episodes", "vae")
    vae = load_vae(run).requires_grad_(True)
    with torch.no_grad():
        vae.posterior.bias[8:] = -1.0 if cured else -20.0
    (run.vae / "vae.safetensors").unlink()
    checkpoint = run.vae / "checkpoint.safetensors"
    save_training(checkpoint, vae, adam(vae, 1e-3), read(Config, run.config_file).train_vae.steps)
    return lines("train_vae", run)


def not_finite(smoke_copy, lines, cured):
    rate = 1e-4 if cured else 1e30
    return lines("train_vae", smoke_copy("episodes", train_vae={"learning_rate": rate}))


def copying_m(smoke_copy, lines, cured):
    """z stands still, which "copy z" knows and an untrained M doesn't."""
    m = {"steps": 300, "learning_rate": 0.02} if cured else {}
    run = smoke_copy("episodes", "vae", "latents", train_mdnrnn=m)
    still = np.random.default_rng(0).normal(size=8)
    change_arrays(
        run.latents, mu=lambda mu: np.ones_like(mu) * still, logvar=lambda lv: lv * 0 - 1.0
    )
    return lines("train_mdnrnn", run)


def leaking_m(smoke_copy, lines, cured, monkeypatch):
    """The noise of z is forgotten: its NLL falls below the posterior's entropy."""
    run = smoke_copy("episodes", "vae", "latents")
    change_arrays(run.latents, mu=np.zeros_like, logvar=lambda logvar: logvar * 0 + 2.0)
    if not cured:
        monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))
    return lines("train_mdnrnn", run)


def no_termination(smoke_copy, lines, cured):
    run = smoke_copy("episodes", "vae", "latents")
    if not cured:
        change_arrays(run.latents, terminated=np.zeros_like)
    return lines("train_mdnrnn", run)


def idle_c(smoke_copy, lines, cured):
    run = smoke_copy(*M, dream={"horizon": 10}, evolve={"rollouts_per_candidate": 4})

    def change(tensors):
        tensors["head.weight"][REWARD] = torch.linspace(-3.0, 3.0, 16) * torch.eye(61)[42, :, None]
        tensors["head.bias"][TERMINATION] = -20.0
        if not cured:
            tensors["lstm.weight_ih_l0"][:, 8:] = 0.0  # the actions' columns

    change_mdnrnn(run, change)
    return lines("evolve", run)


def dice(smoke_copy, lines, cured):
    """Candidates have different returns, in a world that is all chance."""
    kwargs = {"loaded": 3.0 if cured else 0.0}
    env = {"id": "toy_world:Dice-v0", "max_episode_steps": 2, "kwargs": kwargs}
    real = {"generations": 0, "real_generations": 20, "rollouts_per_candidate": 2}
    run = smoke_copy("vae", "latents", "mdnrnn", env=env, evolve=real, cma={"population_size": 96})
    run.world_file.unlink()
    flags = "--workers.processes=1", "--trust-env"
    lines("collect", run, *flags)
    return lines("evolve", run, *flags)


def endless_dream(smoke_copy, lines, cured):
    assert not cured
    run = smoke_copy(*M, "controller")
    saved = load_controller(run)
    change_mdnrnn(run, lambda tensors: pays(tensors, 1.0))
    evolved_in(run, saved)
    return lines("inspect_dream", run, *INSPECTED, "--inspect.parts=[survival]")


def wrong_rewards(smoke_copy, lines, cured):
    run = smoke_copy(*M)
    change_mdnrnn(run, lambda tensors: pays(tensors, 1.0 if cured else -5.0))
    return lines("inspect_dream", run, *INSPECTED, "--inspect.parts=[reward]")


def evolved_in(run, saved):
    """Makes a C the run's, as if it had been evolved in the run's present M."""
    path, hashed = (
        run.controller / "controller.safetensors",
        file_hash(run.mdnrnn / "mdnrnn.safetensors"),
    )
    save_controller(path, saved, hashed)


def stiff_agent(smoke_copy, lines, cured):
    """C takes the best constant action, whatever it sees."""
    assert not cured
    run = smoke_copy(*M, "controller")
    evaluate = "evaluate", run, "--evaluate.episodes=16", "--workers.processes=1"
    lines(*evaluate)
    best = load_json(run.folder / "baselines.json")["argument"]
    saved = load_controller(run)
    bias = torch.zeros_like(saved.best)[None]
    controller_for(saved.config, load_mdnrnn(run)).weights(bias)[0][1][..., best] = 1.0
    evolved_in(run, replace(saved, best=bias[0]))
    return lines(*evaluate)


BROKEN = {
    "constant pictures": (constant_pictures, True),
    "posterior collapse": (posterior_collapse, True),
    "poor pictures": (poor_pictures, True),
    "small moving objects are missing": (small_things, True),
    "sigma collapse": (sigma_collapse, True),
    "NaN or infinite": (not_finite, True),
    "M is no better": (copying_m, True),
    "M predicts noise": (leaking_m, True),
    "no termination": (no_termination, True),
    "actions without effect": (idle_c, True),
    "only chance": (dice, True),
    "a dream unlike": (endless_dream, False),
    "an exploited dream": (endless_dream, False),
    "rewards unlike": (wrong_rewards, True),
    "an agent no better": (stiff_agent, False),
    "a constant agent": (stiff_agent, False),
}
"""What breaks each row, and whether it can be fixed as cheaply."""


def rows_of(broken):
    """The rows of the page that a way of breaking things makes appear."""
    names = [name for name, (breaks, _) in BROKEN.items() if breaks is broken]
    return [row for row in ROWS if row[0].startswith(tuple(names))]


WAYS = list(dict.fromkeys(breaks for breaks, _ in BROKEN.values()))
FIXED = [breaks for breaks in WAYS if (breaks, True) in BROKEN.values()]


def test_each_row_is_broken_by_one_way():
    assert sorted(map(str, ROWS)) == sorted(str(row) for breaks in WAYS for row in rows_of(breaks))


@pytest.mark.parametrize("breaks", WAYS, ids=lambda breaks: breaks.__name__)
def test_each_row_is_printed_when_its_thing_is_broken(breaks, smoke_copy, lines, monkeypatch):
    said = call(breaks, smoke_copy, lines, False, monkeypatch)
    for row in rows_of(breaks):
        assert [line for line in said if matches(row, line)], (row, said)


@pytest.mark.parametrize("breaks", FIXED, ids=lambda breaks: breaks.__name__)
def test_each_row_is_gone_when_its_thing_is_fixed(breaks, smoke_copy, lines, monkeypatch):
    said = call(breaks, smoke_copy, lines, True, monkeypatch)
    for row in rows_of(breaks):
        assert not [line for line in said if matches(row, line)], (row, said)


def call(breaks, smoke_copy, lines, cured, monkeypatch):
    more = {"monkeypatch": monkeypatch} if breaks is leaking_m else {}
    return breaks(smoke_copy, lines, cured, **more)


def matches(row, line):
    _, printed, advice = row
    pattern = re.escape(printed.strip("`")).replace("…", ".+?")
    return re.search(f"{pattern}.*: .*{re.escape(advice)}", line)


def test_every_check_of_the_package_has_a_row():
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    known = 0
    for file in Path(worldmodels.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("metrics.check"):
                texts = [
                    part.value
                    for part in ast.walk(node.args[4])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
                assert texts, f"{file}:{node.lineno}"
                for text in texts:
                    assert text.strip() in page, f"{file}:{node.lineno}: {text}"
                known += 1
    assert known >= 11
