"""Fireballs that are drawn by hand, and those of Doom itself."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from worldmodels.acting.environments import FrameEnv
from worldmodels.acting.rollout import record
from worldmodels.diagnostics.fireballs import (
    fireballs_in,
    has_labels,
    label_frames,
    recall_by_size,
)
from worldmodels.envs.real import RealEnvs
from worldmodels.seeding import numpy_generator
from worldmodels.stages.explore import ExploreConfig, Explorer
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig, RawPicture, World

WALL, FIRE = (50, 50, 200), (250, 200, 0)
"""Brightness is that of red and green: 50 and 225."""
HELD = ExploreConfig(policy="held", hold=(1, 30))


def world(id_="VizdoomTakeCover-v1", **settings):
    action = {"kind": "thirds", "low": (-1.0,), "high": (1.0,), "clip": (), "counts": ()}
    return World(EnvConfig(id=id_, **settings), action, 35.0, {}, RawPicture((240, 320, 3)))


def scene(*places, fire=FIRE):
    """A frame and its mask, with a fireball in each (rows, columns)."""
    frame, mask = np.full((64, 64, 3), WALL, np.uint8), np.zeros((64, 64), np.uint8)
    for place in places:
        frame[place], mask[place] = fire, 255
    return frame, mask


def found_in(frame, mask, reconstruction):
    return fireballs_in(frame[None], mask[None], reconstruction[None])


SMALL, LARGE = (slice(10, 12), slice(20, 22)), (slice(30, 38), slice(40, 45))


def test_each_patch_is_a_fireball_with_its_contrast():
    frame, mask = scene(SMALL, LARGE)
    assert found_in(frame, mask, frame) == [(4, 1.0), (40, 1.0)]


@pytest.mark.parametrize(
    ("fire", "recalled"), [((145, 130, 0), True), ((130, 130, 0), False), (WALL, False)]
)
def test_half_of_the_contrast_counts_as_seen(fire, recalled):
    frame, mask = scene(SMALL)
    found = found_in(frame, mask, scene(SMALL, fire=fire)[0])
    assert found == [(4, pytest.approx((sum(fire[:2]) / 2 - 50) / 175))]
    assert recall_by_size(found)[-1]["recall"] == recalled


def test_blue_light_is_none():
    frame, mask = scene(SMALL, fire=(50, 80, 255))  # 15 brighter than the wall
    assert found_in(frame, mask, frame) == []


def test_what_no_clear_wall_surrounds():
    frame, mask = scene(SMALL)
    mask[mask == 0] = 50  # half a fireball everywhere
    assert found_in(frame, mask, frame) == []


def test_recall_by_size():
    rows = recall_by_size([(4, 0.0), (5, 0.5), (9, 0.0), (31, 1.0)])
    assert [(row["pixels"], row["count"]) for row in rows] == [
        ("1 to 4", 1),
        ("5 to 9", 2),
        ("10 to 30", 0),
        ("31 and more", 1),
        ("all", 4),
    ]
    recalls = [row["recall"] for row in rows]
    np.testing.assert_equal(recalls, [0.0, 0.5, np.nan, 1.0, 0.5])


def test_which_worlds_have_labels():
    assert has_labels(world())
    assert has_labels(world("some.module:VizdoomBasic-v1"))
    assert not has_labels(world("CarRacing-v3"))


def test_dooms_own(tmp_path):
    """Frames as V gets them, and the fireballs where they are: erased they are gone."""
    pytest.importorskip("vizdoom")
    settings = {
        "kwargs": {"doom_skill": 4, "episode_start_time": 14, "episode_timeout": 300},
        "screen": "screen",
        "crop": (84, 148, 0, 320),
        "action_repeat": 4,
    }
    seeds, files = [100_001_000, 100_001_001], [tmp_path / f"00_00000{i}.npz" for i in range(2)]
    env = FrameEnv(RealEnvs(world(**settings), 2, autoreset_mode=AutoresetMode.DISABLED))
    explorer = Explorer(HELD, env.actions, [numpy_generator(0, i) for i in range(2)])
    played = record(env, explorer, seeds, 300)
    env.close()
    for file, episode in zip(files, played, strict=True):
        episode.save(file)
    recorded = list(zip(files, seeds, strict=True))
    frames, masks = label_frames(world(**settings), recorded, WorkersConfig(processes=1))
    assert 0 < len(frames) < 2 * 300 / 4
    known = {frame.tobytes() for episode in played for frame in episode.frames}
    assert {frame.tobytes() for frame in frames} <= known
    seen = fireballs_in(frames, masks, frames)
    assert recall_by_size(seen)[-1]["recall"] == 1
    # of two pixels or three a faint one may be lost to the wall
    assert len(seen) > 0.5 * len(frames)
    walls = np.where(masks[..., None] > 0, 80, frames).astype(np.uint8)
    assert recall_by_size(fireballs_in(frames, masks, walls))[-1]["recall"] < 0.1
    assert sorted(tmp_path.iterdir()) == files
