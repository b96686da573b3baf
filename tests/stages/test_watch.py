"""The film keeps its rhythm: dream on reality, alone, put back; its files are whole and small."""

import json
from dataclasses import replace
from itertools import pairwise

import cv2
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from PIL import Image, ImageSequence

from worldmodels.acting.agent import Agent
from worldmodels.artifacts import Bundle
from worldmodels.errors import InputError
from worldmodels.film import TITLE_HEIGHT, captioned
from worldmodels.models.action import Actions
from worldmodels.models.vae import frames_of
from worldmodels.seeding import environment_seeds
from worldmodels.stages.watch import WatchConfig, lap, moments, temperatures, watch
from worldmodels.world import EnvConfig, RawPicture, World

SHORT = WatchConfig(seconds=2.0, films=("dream",))
"""25 steps of CarRacing at 12.5 a second: 3 in step with reality, then put back every 10."""


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setattr("worldmodels.stages.watch.LEAD", 0.24)
    monkeypatch.setattr("worldmodels.stages.watch.RESYNC", 0.8)


def frame_count(path):
    film, frames = cv2.VideoCapture(str(path)), 0
    while film.read()[0]:
        frames += 1
    return frames


def shape_of(path):
    """Number and width of a film's pictures."""
    if path.suffix == ".webm":
        return frame_count(path), int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_WIDTH))
    with Image.open(path) as picture:
        return picture.n_frames, picture.width


def seconds_of(path):
    with Image.open(path) as picture:
        milliseconds = 0
        for frame in ImageSequence.Iterator(picture):
            frame.load()
            milliseconds += frame.info["duration"]
    return milliseconds / 1000


def test_the_dream_is_put_back_onto_reality(tiny_bundle):
    bundle = Bundle.load(tiny_bundle)
    film = moments(bundle, SHORT, seed=0)
    assert len(film) == 25
    together = [i for i, m in enumerate(film) if np.array_equal(m.dream, m.reconstruction)]
    assert together == [0, 1, 2, 3, 13, 23]
    assert [i for i, m in enumerate(film) if m.alone == 0] == together
    assert film[12].alone == pytest.approx(9 * 0.08)
    first = film[0].reality
    seen = bundle.vae.decode(bundle.vae.encode(torch.from_numpy(first[None]))[0])
    assert np.array_equal(frames_of(seen)[0].numpy(), film[0].reconstruction)


def test_the_same_seed_films_the_same(tiny_bundle):
    bundle = Bundle.load(tiny_bundle)
    short = replace(SHORT, seconds=1.0)
    one, two, other = (moments(bundle, short, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a.dream, b.dream) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a.dream, b.dream) for a, b in zip(one, other, strict=True))
    assert all(np.array_equal(a.reality, b.reality) for a, b in zip(one, other, strict=True))


def test_films_lie_in_the_run(tiny_bundle, tmp_run, capsys):
    tmp_run.folder.mkdir()
    tiny_bundle.rename(tmp_run.bundle)
    watch(tmp_run, SHORT, seed=0)
    webm, webp = tmp_run.videos / "dream.webm", tmp_run.videos / "dream.webp"
    assert sorted(tmp_run.videos.iterdir()) == [webm, webp]
    assert frame_count(webm) == 25
    assert seconds_of(webp) == pytest.approx(2.0)
    assert "dream.webm shows 2 s, dream.webp the same" in capsys.readouterr().out
    ends = [json.loads(line) for line in tmp_run.metrics.read_text().splitlines()]
    assert ends[-1]["stage"] == "watch"


def test_the_webp_is_cut_and_thinned(tiny_bundle, tmp_run, monkeypatch):
    tmp_run.folder.mkdir()
    tiny_bundle.rename(tmp_run.bundle)
    monkeypatch.setattr("worldmodels.stages.watch.WEBP_SECONDS", 1.0)
    monkeypatch.setattr("worldmodels.stages.watch.WEBP_FPS", 3.0)
    watch(tmp_run, SHORT, seed=0)
    with Image.open(tmp_run.videos / "dream.webp") as picture:
        assert picture.n_frames == 3  # every fourth of 12
    assert frame_count(tmp_run.videos / "dream.webm") == 25


class Blackout(CartPoleEnv):
    """Shows no picture of the end, like ViZDoom."""

    def render(self):
        picture = super().render()
        return picture if self.steps_beyond_terminated is None else np.zeros_like(picture)


gymnasium.register("tests/Blackout-v0", Blackout)


def cart_pole(id_="CartPole-v1"):
    """Falls within some ten steps, whatever an untrained agent does."""
    config = EnvConfig(id=id_, reward="constant")
    return World(
        config,
        Actions("discrete", counts=(2,)).to_dict(),
        50.0,
        {},
        RawPicture((400, 600, 3), rendered=True),
    )


@pytest.mark.parametrize("id_", ["CartPole-v1", "tests/Blackout-v0"])
def test_one_episode_follows_the_other(make_bundle, id_, monkeypatch):
    monkeypatch.setattr("worldmodels.stages.watch.LEAD", 0.0)
    monkeypatch.setattr("worldmodels.stages.watch.RESYNC", 0.1)
    bundle = Bundle.load(make_bundle(cart_pole(id_)))
    film = moments(bundle, WatchConfig(seconds=3.0), seed=0)
    assert len(film) == 150
    ends = [i for i in range(1, 149) if film[i].over and not film[i - 1].over]
    assert ends
    for end in ends:
        assert all(film[i].over for i in range(end, min(end + 50, 150)))
        same = np.array_equal(film[end].reality, film[end - 1].reality)
        assert same is (
            id_ == "tests/Blackout-v0"
        )  # where there is no last picture, the one before
    begin = ends[0] + 50
    assert not film[begin].over
    assert np.array_equal(film[begin].dream, film[begin].reconstruction)


def test_a_dream_that_ends_stays_so_until_it_is_put_back(make_bundle, monkeypatch):
    monkeypatch.setattr("worldmodels.stages.watch.LEAD", 0.0)
    monkeypatch.setattr("worldmodels.stages.watch.RESYNC", 0.08)
    bundle = Bundle.load(make_bundle(cart_pole()))
    with torch.no_grad():
        bundle.mdnrnn.head.bias[-1] = 50.0  # predicts the end at once
    film = moments(bundle, WatchConfig(seconds=0.12), seed=0)
    assert [m.dream_over for m in film] == [False, True, True, True, False, True]
    assert film[0].picture().shape == film[1].picture().shape


def fall(bundle):
    """Return and length of the first test episode."""
    agent, env = Agent(bundle), gymnasium.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=environment_seeds("test", 0, 1)[0])
    earned, steps, over = 0.0, 0, False
    while not over:
        _, reward, over, _, _ = env.step(agent.act(env.render()))
        earned, steps = earned + reward, steps + 1
    return earned, steps


def test_the_lap_is_the_whole_first_test_episode(make_bundle):
    bundle = Bundle.load(make_bundle(cart_pole()))
    earned, steps = fall(bundle)
    film = list(lap(bundle))
    assert len(film) == steps + 50  # the end is shown for a second
    last = captioned(film[-1][TITLE_HEIGHT:], f"{steps / 50:.1f} s, episode return {earned:.0f}")
    assert np.array_equal(film[-1], last)
    assert not np.array_equal(film[0], film[-1])


def panels(picture):
    return [picture[:, place : place + 192] for place in range(0, picture.shape[1], 196)]


def test_four_temperatures_begin_alike_and_part(tiny_bundle, monkeypatch):
    monkeypatch.setattr("worldmodels.stages.watch.TEMPERATURES_SECONDS", 1.0)
    bundle = Bundle.load(tiny_bundle)
    film = list(temperatures(bundle, seed=3))
    assert len(film) == 12
    world = slice(2 * TITLE_HEIGHT, None)
    first, last = ([panel[world] for panel in panels(film[i])] for i in (0, -1))
    assert len(first) == 4
    assert all(np.array_equal(first[0], panel) for panel in first)
    assert all(not np.array_equal(a, b) for a, b in pairwise(last))
    again = list(temperatures(bundle, seed=3))
    assert all(np.array_equal(a, b) for a, b in zip(film, again, strict=True))


@pytest.mark.parametrize("kind", ["webm", "webp"])
def test_a_film_that_would_be_too_large_is_smaller_or_shows_fewer_pictures(
    tiny_bundle, tmp_run, monkeypatch, kind
):
    tmp_run.folder.mkdir()
    tiny_bundle.rename(tmp_run.bundle)
    watch(tmp_run, SHORT, seed=0)
    film = tmp_run.videos / f"dream.{kind}"
    whole = film.stat().st_size
    for limit, pictures in ((whole - 1, 25), (whole // 3, 13)):
        monkeypatch.setattr("worldmodels.stages.watch.FILM_BYTES", limit)
        watch(tmp_run, SHORT, seed=0)
        assert film.stat().st_size <= limit
        number, width = shape_of(film)
        assert number == pictures
        assert 0.7 * 584 < width < 584


def test_the_film_stands_on_the_card_of_the_bundle_until_its_agent_changes(tiny_bundle, tmp_run):
    tmp_run.folder.mkdir()
    tiny_bundle.rename(tmp_run.bundle)
    film, card = tmp_run.bundle / "dream.webp", tmp_run.bundle / "README.md"
    watch(tmp_run, SHORT, seed=0)
    assert film.read_bytes() == (tmp_run.videos / "dream.webp").read_bytes()
    assert "](dream.webp)" in card.read_text()
    bundle = Bundle.load(tmp_run.bundle)
    bundle.save(tmp_run.bundle)
    assert "](dream.webp)" in card.read_text()
    replace(bundle, parameters=bundle.parameters + 1).save(tmp_run.bundle)
    assert not film.exists()
    assert "dream.webp" not in card.read_text()


def test_mistakes_are_named(tmp_run):
    with pytest.raises(InputError, match=r"bundle.json is missing: run `worldmodels evaluate`"):
        watch(tmp_run, WatchConfig(), seed=0)
