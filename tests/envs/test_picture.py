"""From a raw picture to V's frame: what is refused, what is converted, and OpenCV's numbers."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from worldmodels.envs.picture import (
    check_frames,
    check_matches,
    is_picture,
    preprocess,
    record,
    resize,
)
from worldmodels.errors import InputError
from worldmodels.world import EnvConfig, World

PIXELS = np.random.default_rng(0).integers(0, 256, (96, 80, 3), np.uint8)


def world_of(picture, **settings):
    """As `collect` records it."""
    config = EnvConfig(**settings)
    space = Box(0, 255, picture.shape, np.uint8)
    return World(config, {}, 30.0, {}, record(config, [picture], space, rendered=False))


def test_a_picture_is_chosen_cropped_and_resized():
    picture = PIXELS.copy()
    picture[84:] = 255
    world = world_of(picture, screen="screen", crop=(84, 96, 0, 80))
    frame = preprocess(world, {"screen": picture, "health": 3})
    assert (frame.shape, frame.dtype) == ((64, 64, 3), np.uint8)
    assert frame.min() == 255


def test_an_inset_is_enlarged_below_the_crop():
    """Gauges of four rows and twelve columns fill eight rows and 64 columns."""
    picture = PIXELS.copy()
    picture[:80], picture[90:94, :12], picture[90:94, 3:6] = 100, 0, 250
    frame = preprocess(world_of(picture, crop=(0, 80, 0, 80), inset=(90, 94, 0, 12)), picture)
    np.testing.assert_array_equal(frame[:56], 100)
    np.testing.assert_array_equal(frame[56:, 20:28], 250)  # columns 3.75 to 5.25 of the gauges
    np.testing.assert_array_equal(frame[56:, 40:], 0)


@pytest.mark.parametrize("turned", [False, True])
def test_a_picture_may_keep_its_aspect(turned):
    """A circle stays one: 128 x 192, of which letterbox shows all in 43 rows, crop the middle."""
    rows, columns = np.mgrid[:128, :192]
    inside = (rows - 64) ** 2 + (columns - 96) ** 2 < 48**2
    picture = np.where(inside[..., None], 250, 50).astype(np.uint8).repeat(3, 2)
    picture[:, :16] = 100  # at the left edge
    picture = picture.transpose(1, 0, 2) if turned else picture

    def seen(**fit):
        frame = preprocess(world_of(picture, **fit), picture)[..., 0]
        return frame.T if turned else frame

    letterbox, crop, stretched = seen(fit="letterbox"), seen(fit="crop"), seen()
    assert not letterbox[:10].any()
    assert not letterbox[53:].any()
    assert letterbox[10:53].min() == 50
    assert (letterbox[11:52, :5] == 100).all()
    assert (crop[:, :4] == 50).all()
    for frame, diameters in ((letterbox, (32, 32)), (crop, (48, 48)), (stretched, (48, 32))):
        found = [(frame > 150).any(axis).sum() for axis in (1, 0)]
        assert np.abs(np.subtract(found, diameters)).max() <= 1


@pytest.mark.parametrize("name", ["crop", "inset"])
def test_parts_of_the_picture_lie_inside(name):
    with pytest.raises(InputError, match=rf"env\.{name} \[0, 97, 0, 9\].*96 rows and 80 columns"):
        world_of(PIXELS, **{name: (0, 97, 0, 9)})
    with pytest.raises(InputError, match=rf"env\.{name} is .*top < bottom"):
        EnvConfig(**{name: (9, 9, 0, 9)})


@pytest.mark.parametrize("shape", [(96, 80), (96, 80, 1), (64, 64)])
def test_grey_becomes_three_equal_channels(shape):
    grey = PIXELS[: shape[0], : shape[1], 0].reshape(shape)
    frame = preprocess(world_of(grey), grey)
    expected = resize(np.repeat(grey.reshape(*shape[:2], 1), 3, 2), 64, 64)
    np.testing.assert_array_equal(frame, expected)
    assert (frame[..., 0] == frame[..., 2]).all()


@pytest.mark.parametrize(
    ("picture", "named"),
    [
        (PIXELS[..., :2], r"uint8 \(96, 80, 2\), which is neither"),
        (PIXELS[None, None], r"\(1, 1, 96, 80, 3\), which is neither"),
        (PIXELS[0, :, 0], r"\(80,\)"),
        (PIXELS.astype(complex), "complex128"),
        (PIXELS[:0], r"\(0, 96|\(0, 80, 3\)"),
        ({"view": PIXELS}, r"a dict.*name its key in env.screen \(view\)"),
        (3, "a int"),
    ],
    ids=str,
)
def test_other_pictures_are_refused(picture, named):
    with pytest.raises(InputError, match=rf"^env\.id CarRacing-v3: the picture is .*{named}") as e:
        record(EnvConfig(), [picture], Box(0, 255, (96, 80, 3), np.uint8), rendered=False)
    assert "\n" not in str(e.value)


def test_one_picture_is_no_stack():
    """Nothing shows that its channels move on."""
    for channels in (2, 5, 6):
        with pytest.raises(InputError, match="which is neither"):
            world_of(np.concatenate([PIXELS] * 2, -1)[..., :channels])


@pytest.mark.parametrize("crop", [(0, 97, 0, 80), (0, 96, 40, 81), (200, 300, 0, 80)])
def test_a_crop_outside_the_picture_is_refused(crop):
    with pytest.raises(InputError, match=r"env\.crop .* 96 rows and 80 columns"):
        world_of(PIXELS, crop=crop)


@pytest.mark.parametrize("observation", [{"view": PIXELS}, PIXELS, None, "text"], ids=type)
def test_a_missing_screen_is_named(observation):
    world = world_of(PIXELS, screen="screen")
    with pytest.raises(InputError, match=r"env\.screen is 'screen', but the observation has"):
        preprocess(world, observation)


MASK, DARK = PIXELS // 128, PIXELS * 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool])
@pytest.mark.parametrize("most", [1, 255, None])
@pytest.mark.parametrize("kind", ["picture", "mask", "black"])
def test_the_range_is_that_of_the_pictures(kind, most, dtype):
    """Where they are zeros and ones, or black, it is that of the space, if they have one."""
    picture = {"picture": PIXELS, "mask": MASK, "black": DARK}[kind].astype(dtype)
    space = Box(0, most or 255, picture.shape, np.float32)
    found = record(EnvConfig(), [picture], space, rendered=most is None)
    high = {"picture": 255, "mask": most or 1, "black": most or (1 if dtype == np.float32 else 255)}
    assert (found.low, found.high) == (0, 1 if dtype is bool else high[kind])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_leaves_the_range_of_the_first_pictures_is_refused(dtype):
    first = MASK.astype(dtype)
    world = replace(
        world_of(first), picture=record(EnvConfig(), [first], Discrete(2), rendered=True)
    )
    assert preprocess(world, first).max() == 255
    with pytest.raises(
        InputError, match=r"ranges from 0 to 25\d, but the first ones lay between 0"
    ):
        preprocess(world, PIXELS.astype(dtype))


@pytest.mark.parametrize(
    "picture",
    [
        PIXELS[:95],
        np.zeros((480, 640, 3), np.uint8),
        PIXELS.astype(np.float32),
        PIXELS[..., 0],
        PIXELS[None],
        None,
    ],
    ids=lambda picture: str(np.shape(picture)),
)
def test_later_pictures_must_match_the_record(picture):
    with pytest.raises(InputError, match=r"the picture is .*CarRacing-v3 has uint8 \(96, 80, 3\)"):
        preprocess(world_of(PIXELS), picture)


def test_pictures_of_several_environments_must_match_the_record():
    world, pictures = world_of(PIXELS), np.stack([PIXELS] * 3)
    check_matches(world, pictures, 3)
    with pytest.raises(InputError, match=r"\(3, 96, 80, 3\), but .* has 2 of uint8"):
        check_matches(world, pictures, 2)


def test_frames_are_checked():
    check_frames(np.zeros((2, 64, 64, 3), np.uint8), 2, 64)
    for wrong in (np.zeros((2, 64, 64, 3)), np.zeros((3, 64, 64, 3), np.uint8), None):
        with pytest.raises(InputError, match="but V sees uint8"):
            check_frames(wrong, 2, 64)


def test_which_spaces_hold_pictures():
    shapes = (96, 96, 3), (84, 84), (84, 84, 1), (84, 84, 4)
    assert all(is_picture(Box(0, 255, shape, np.uint8)) for shape in shapes)
    assert is_picture(Box(0, 1, (84, 84)))  # so that it is refused, not ignored
    for other in (Box(0, 1, (4,)), Box(0, 1, (5, 5)), Discrete(3), Dict(a=Discrete(2))):
        assert not is_picture(other)


@pytest.mark.parametrize("shape", [(84, 96), (96, 96), (240, 320), (65, 127), (64, 64), (20, 90)])
def test_shrinking_is_opencvs(shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA).astype(int)
    small = resize(picture, 64, 64)
    assert small.dtype == np.uint8
    assert np.abs(small - expected).max() <= 1  # halves may be rounded up
    assert (small != expected).mean() < 1e-3


def test_shrinking_averages():
    even = np.full((84, 96, 3), 200, np.uint8)
    np.testing.assert_array_equal(resize(even, 64, 64), 200)
    halves = np.zeros((3, 3, 3), np.uint8)
    halves[:, 0] = 90
    np.testing.assert_array_equal(resize(halves, 2, 2)[..., 0], [[60, 0], [60, 0]])
