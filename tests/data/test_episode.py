"""Episode files keep the time alignment, and a broken one is named."""

from dataclasses import fields, replace

import numpy as np
import pytest

from worldmodels.data.episode import Episode, LatentEpisode, episode_files
from worldmodels.errors import InputError

STEPS = 5


def episode(frames=STEPS + 1):
    """Frame t is filled with t, action[t] is t, reward[t] is t/2, count[t] is 10t."""
    t = np.arange(STEPS, dtype=np.float32)
    ends = np.arange(STEPS) == STEPS - 1
    pictures = np.broadcast_to(
        np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 64, 64, 3)
    )
    return Episode(pictures, np.stack([t, -t], 1), t / 2, 10 * t, ends, np.zeros(STEPS, bool))


def latent_episode(frames=STEPS + 1):
    mu = np.arange(frames, dtype=np.float16)[:, None].repeat(3, 1)
    seen = episode()
    kept = {f.name: getattr(seen, f.name) for f in fields(seen) if f.name != "frames"}
    return LatentEpisode(mu, -mu, **kept, marked=np.arange(STEPS) == 1)


@pytest.mark.parametrize("frames", [STEPS, STEPS + 1])
@pytest.mark.parametrize("make", [episode, latent_episode])
def test_files_keep_every_array_in_step(tmp_path, make, frames):
    written = make(frames)
    written.save(tmp_path / "e.npz")
    read = type(written).load(tmp_path / "e.npz")
    assert len(read) == STEPS
    for field in fields(written):
        before, after = getattr(written, field.name), getattr(read, field.name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    seen = read.frames[:, 0, 0, 0] if make is episode else read.mu[:, 0]
    for t in range(STEPS):  # frame[t], action[t] -> reward[t], count[t], terminated[t], frame[t+1]
        assert seen[t] == read.actions[t, 0] == 2 * read.rewards[t] == t
        assert read.counts[t] == 10 * t
        assert read.terminated[t] == (t == STEPS - 1)
    if frames == STEPS + 1:
        assert seen[STEPS] == STEPS


def test_equal_episodes_are_equal_files(tmp_path):
    for name in ("a.npz", "b.npz"):
        episode().save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_named(tmp_path, share):
    path = tmp_path / "000_003.npz"
    episode().save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"000_003\.npz.*delete it") as caught:
        Episode.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("frames", [STEPS - 1, STEPS + 2])
def test_a_wrong_number_of_frames_is_refused(tmp_path, frames):
    path = tmp_path / "e.npz"
    episode(frames).save(path)
    with pytest.raises(InputError, match=rf"e\.npz holds {frames} frames for {STEPS} actions"):
        Episode.load(path)


def test_latents_are_no_episode(tmp_path):
    path = tmp_path / "e.npz"
    latent_episode().save(path)
    with pytest.raises(InputError, match=r"e\.npz has no array `frames`"):
        Episode.load(path)


def test_files_come_in_the_order_of_their_names(tmp_path):
    for name in ("01_2.npz", "00_9.npz", "01_1.npz", "note.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in episode_files(tmp_path)] == ["00_9.npz", "01_1.npz", "01_2.npz"]
    with pytest.raises(InputError, match=r"empty holds no episodes: run `worldmodels collect`"):
        episode_files(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("frames", np.zeros((STEPS + 1, 64, 64, 3), np.int8)),
        ("frames", np.zeros((STEPS + 1, 32, 64, 3), np.uint8)),
        ("rewards", np.zeros(STEPS + 1, np.float32)),
        ("rewards", np.full(STEPS, np.nan, np.float32)),
        ("actions", np.zeros(STEPS, np.float32)),
        ("terminated", np.zeros(())),
    ],
)
def test_an_array_that_does_not_fit_is_named(tmp_path, no_type_checks, name, array):
    path = tmp_path / "e.npz"
    replace(episode(), **{name: array}).save(path)
    with pytest.raises(InputError, match=rf"e\.npz: {name} does not fit.*delete it"):
        Episode.load(path)
