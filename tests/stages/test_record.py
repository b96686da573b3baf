"""Bundles carry short real episodes, which begin where a dream can begin."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodels.artifacts import RECORDINGS, Bundle
from worldmodels.errors import InputError
from worldmodels.files import load_tensors, save_tensors
from worldmodels.stages.record import record


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr("worldmodels.stages.record.LEAD", 0.8)
    monkeypatch.setattr("worldmodels.stages.record.LENGTH", 1.6)


@pytest.fixture
def recorded(tiny_bundle, short):
    """The bundle with recordings, and its folder."""
    bundle = Bundle.load(tiny_bundle)
    replace(bundle, recordings=record(bundle)).save(tiny_bundle)
    return Bundle.load(tiny_bundle), tiny_bundle


def test_a_recording_is_what_the_agent_saw_and_did(recorded):
    bundle, _ = recorded
    assert [len(one) for one in bundle.recordings] == [20, 20, 20]
    for one in bundle.recordings:
        seen, _ = bundle.vae.encode(one.frames[:1])
        assert (seen[0] - one.z).abs().max() < 0.2  # the film is compressed
        assert one.h.abs().sum() > 0  # ten steps came before
        assert bundle.actions.space.contains(one.actions[0].numpy())
    films = [one.frames.float().mean(0) for one in bundle.recordings]
    assert not np.array_equal(films[0], films[1])


def test_the_shipped_bundle_has_three_below_one_megabyte():
    bundle = Bundle.load("take_cover")
    assert len(bundle.recordings) == 3
    assert sum(len(one.film) for one in bundle.recordings) < 1e6
    for one in bundle.recordings:
        assert len(one) > 80
        seen, _ = bundle.vae.encode(one.frames[:1])
        dreamt = bundle.vae.decode(one.z[None]) - bundle.vae.decode(seen)
        assert dreamt.abs().mean() < 0.02


def test_broken_recordings_are_named(recorded):
    _, folder = recorded
    path = folder / RECORDINGS
    tensors, _ = load_tensors(path)
    for name, value in (
        ("0.z", torch.zeros(3)),
        ("1.rewards", torch.zeros(2)),
        ("2.h", torch.full((8,), torch.nan)),
        ("0.film", torch.zeros(3)),
    ):
        save_tensors(path, {**tensors, name: value})
        with pytest.raises(InputError, match=RECORDINGS):
            Bundle.load(folder)
    save_tensors(path, {**tensors, "0.film": torch.zeros(9, dtype=torch.uint8)})
    with pytest.raises(InputError, match="checksum"):
        Bundle.load(folder).recordings[0].frames  # noqa: B018


def test_a_bundle_without_recordings_loses_those_of_another(recorded):
    bundle, folder = recorded
    replace(bundle, recordings=()).save(folder)
    assert not (folder / RECORDINGS).exists()
    assert Bundle.load(folder).recordings == ()
