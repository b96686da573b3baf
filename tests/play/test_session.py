"""The agent and you act in the dream, in reality, or in both from one moment."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodels.artifacts import Bundle
from worldmodels.errors import InputError
from worldmodels.models.vae import frames_of
from worldmodels.play.session import PlayConfig, Session


@pytest.fixture
def session_of(tiny_bundle):
    """A session of CarRacing at 12.5 steps a second, and what was done in its dream."""
    sessions = []

    def make(**config):
        session = Session(Bundle.load(tiny_bundle), PlayConfig(**config))
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.close()


def watched(env, monkeypatch):
    """The actions that an environment is given from now on."""
    taken, step = [], env.step

    def watch(actions):
        taken.append(actions[0].tolist())
        return step(actions)

    monkeypatch.setattr(env, "step", watch)
    return taken


def test_the_agent_acts_until_you_do(session_of, monkeypatch):
    session = session_of()
    taken = watched(session.dream.env, monkeypatch)
    observations = session.dream.env.reset(seed=[0])[0]
    session.hold("up")
    session.advance()
    expected = session._agent(observations, np.ones(1, bool))[0]
    assert taken[0] == expected.tolist()
    session.hand_over()
    session.advance()
    session.release("up")
    session.advance()
    session.hold("left")  # up again before the next step: it acts for one step
    session.release("left")
    session.advance()
    session.advance()
    assert taken[1:] == [[0, 1, 0], [0, 0, 0], [-1, 0, 0], [0, 0, 0]]


def test_the_temperature_changes_the_dream(session_of):
    session, other = session_of(temperature=0.5), session_of(temperature=0.5)
    assert session.temperature == 0.5
    other.warm(1)
    for one in (session, other):
        one.advance()
    assert not np.array_equal(session.dream.frame, other.dream.frame)
    other.warm(-30)
    assert other.temperature == 0.05


def test_an_ended_dream_begins_again(session_of):
    session = session_of(horizon=5)
    first = session.dream.frame
    for _ in range(5):
        session.advance()
    assert session.dream.over
    assert session.dream.episode_return != 0
    for _ in range(round(1.5 / 0.08)):
        assert session.dream.over
        session.advance()
    session.advance()
    assert (session.dream.over, session.dream.steps, session.dream.episode_return) == (False, 0, 0)
    assert not np.array_equal(first, session.dream.frame)  # another dream


def test_the_dream_beside_reality_begins_at_its_moment_and_does_the_same(session_of, monkeypatch):
    session = session_of(mode="both")
    real, dreamt = (watched(panel.env, monkeypatch) for panel in session.panels)
    reality, dream = session.panels
    vae = session._bundle.vae
    together = []
    for _ in range(125):
        session.advance()
        z = vae.encode(torch.from_numpy(reality.frame[None]))[0]
        seen = frames_of(vae.decode(z))[0].numpy()
        together.append(np.array_equal(dream.frame, seen))
    led, alone = 12, 100  # a second, eight seconds
    assert [i for i, same in enumerate(together) if same] == [*range(led), led + alone]
    assert dreamt == real[led : led + alone] + real[led + alone + 1 :]
    session.meet()
    assert dream.steps == 0


def test_modes_follow_each_other_without_losing_the_moment(session_of):
    session = session_of()
    session.advance()
    session.show_next()
    assert [panel.name for panel in session.panels] == ["reality"]
    for _ in range(20):
        session.advance()
    assert session.reality.steps == 20
    session.show_next()
    assert [panel.name for panel in session.panels] == ["reality", "dream"]
    assert (session.reality.steps, session.dream.steps) == (20, 0)
    for _ in range(3):
        session.advance()
    session.show_next()
    assert [panel.name for panel in session.panels] == ["dream"]
    assert session.dream.steps == 3
    session.advance()
    assert (session.dream.steps, session.reality.steps) == (4, 23)


def test_the_same_seed_plays_the_same(session_of):
    one, two, other = (session_of(mode="both", seed=seed) for seed in (3, 3, 4))
    for session in (one, two, other):
        for _ in range(20):
            session.advance()
        session.restart()
    for mine, same, else_ in zip(one.panels, two.panels, other.panels, strict=True):
        assert np.array_equal(mine.frame, same.frame)
        assert not np.array_equal(mine.frame, else_.frame)


def test_a_real_end_is_shown_and_then_both_begin_again(dark_bundle):
    session = Session(Bundle.load(dark_bundle), PlayConfig(mode="both"))
    reality, steps = session.panels[0], 0
    while not reality.over:
        session.advance()
        steps += 1
    assert reality.steps == reality.episode_return == steps < 50
    assert reality.frame.any()  # the last picture that there was
    last = session.dream.frame
    for _ in range(75):
        session.advance()
        assert reality.over
        assert np.array_equal(session.dream.frame, last)
    session.advance()
    assert (reality.over, reality.steps, session.dream.steps) == (False, 0, 0)
    session.close()


def test_a_reality_that_cannot_be_made_leaves_the_dream(dark_bundle):
    bundle = Bundle.load(dark_bundle)
    world = replace(bundle.world, config=replace(bundle.world.config, id="Nowhere-v0"))
    bundle = replace(bundle, world=world)
    with pytest.raises(InputError, match=r"env\.id Nowhere-v0 cannot be made"):
        Session(bundle, PlayConfig(mode="reality"))
    session = Session(bundle, PlayConfig())
    with pytest.raises(InputError, match=r"env\.id Nowhere-v0 cannot be made"):
        session.show_next()
    session.advance()
    assert session.mode == "dream"
    assert session.dream.steps == 1


def test_other_senses_are_refused(dark_bundle):
    bundle = Bundle.load(dark_bundle)
    config = replace(bundle.controller.config, senses="blind")
    bundle.controller.config = config
    with pytest.raises(InputError, match=r"controller\.senses is own"):
        Session(bundle, PlayConfig())
