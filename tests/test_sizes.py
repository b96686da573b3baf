"""Frames of other sizes than 64: everything from nothing to a film and a page."""

import gymnasium
import numpy as np
import pytest

import worldmodels
from worldmodels.artifacts import Bundle
from worldmodels.data.episode import Episode
from worldmodels.envs.picture import frame_of
from worldmodels.errors import InputError
from worldmodels.files import load_json
from worldmodels.film import middle_of
from worldmodels.play.play import play
from worldmodels.play.session import PlayConfig
from worldmodels.web.export import _manifest
from worldmodels.web.graphs import Decoder
from worldmodels.world import EnvConfig


@pytest.mark.parametrize("size", [96, 128])
def test_the_whole_pipeline(script, tmp_run, tiny, tmp_path, size):
    """CartPole's picture of 400x600 keeps its aspect: two thirds of the rows, between bars."""
    rows = round(size * 400 / 600)
    top = (size - rows) // 2
    sized = [f"--env.size={size}", "--env.fit=letterbox", "--collect.explore.policy=random_network"]
    flags = ["--config=smoke", "--run", tmp_run.folder, *tiny, "--collect.episodes=3"]
    script("pipeline", *flags, *sized)
    frames = Episode.load(tmp_run.episodes / "00_000000.npz").frames
    assert frames.shape[1:] == (size, size, 3)
    assert not frames[:, :top].any()
    assert not frames[:, top + rows :].any()
    assert frames[:, top : top + rows].any(axis=(2, 3)).all()
    assert load_json(tmp_run.evaluation_file)["episodes"] == 2
    assert middle_of(tmp_run.videos / "dream.webm").shape[1] == 3 * 3 * size + 2 * 4
    bundle = Bundle.load(tmp_run.folder)
    assert {one.frames.shape[1:] for one in bundle.recordings} == {(size, size, 3)}
    check_worlds(tmp_run.folder, size)
    manifest, shown = _manifest(bundle, 3), Decoder(bundle.vae)(bundle.starts.mu[0, :1])
    assert (manifest["size"], shown.shape) == (size, (size, size, 3))
    play(tmp_run.folder, PlayConfig(mode="both", scale=2), tmp_path, max_frames=3)


def check_worlds(folder, size):
    """The agent, its dream and its reality as a user opens them."""
    agent = worldmodels.load(folder)
    assert agent.act(np.zeros((400, 600, 3), np.uint8)) in (0, 1)
    for name in ("Dream", "Real"):
        env = gymnasium.make(f"worldmodels/{name}-v0", bundle=folder)
        env.reset(seed=0)
        assert np.asarray(env.render()).shape[-3:] == (size, size, 3)
        env.close()


def test_other_sizes_are_refused_in_one_line(script, tmp_run, capsys):
    with pytest.raises(SystemExit, match="2"):
        script("collect", "--config=smoke", "--run", tmp_run.folder, "--env.size=80")
    said = capsys.readouterr().err
    assert said == "error: env.size: Expected one of 64, 96, 128. Got value: 80\n"


def test_an_inset_has_an_eighth_of_the_rows():
    picture = np.full((200, 200, 3), 10, np.uint8)
    picture[190:] = 250
    for size in (96, 128):
        config = EnvConfig(size=size, crop=(0, 190, 0, 200), inset=(190, 200, 0, 200))
        bright = (frame_of(picture, config) > 200).all((1, 2))
        assert bright.sum() == size // 8
        assert bright[-size // 8 :].all()


def test_an_episode_of_another_size_is_refused(tmp_path):
    steps = np.zeros(1, np.float32), np.zeros(1, np.float32), np.zeros(1, bool), np.zeros(1, bool)
    arrays = dict(zip(("rewards", "counts", "terminated", "truncated"), steps, strict=True))
    frames, actions = np.zeros((2, 80, 80, 3), np.uint8), np.zeros((1, 1), np.float32)
    np.savez(tmp_path / "00_000000.npz", frames=frames, actions=actions, **arrays)
    with pytest.raises(InputError, match=r"frames does not fit, is uint8 \(2, 80, 80, 3\)"):
        Episode.load(tmp_path / "00_000000.npz")
