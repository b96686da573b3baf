"""Films read back: webm and GIF hold the frames that were written."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from worldmodels.film import GAP, TITLE_HEIGHT, beside, encode_gif, write_film


def moving_square(number: int = 12, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A square that crosses a gradient of far more colours than a palette holds."""
    y, x = np.mgrid[0:height, 0:width]
    ground = np.stack([x * 255 // width, y * 255 // height, (x + y) % 128], -1).astype(np.uint8)
    frames = [ground.copy() for _ in range(number)]
    for at, frame in enumerate(frames):
        frame[10:20, 4 * at : 4 * at + 10] = (255, 0, 0)
    return frames


def read(path: Path) -> list[np.ndarray]:
    film, frames = cv2.VideoCapture(str(path)), []
    while (read := film.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def test_webm_and_gif_hold_the_frames(tmp_path: Path) -> None:
    frames = moving_square()
    webm, gif = write_film(tmp_path / "deep" / "film", iter(frames), fps=20.0, gif_every=2)
    assert sorted(p.name for p in webm.parent.iterdir()) == ["film.gif", "film.webm"]
    assert webm.read_bytes()[:4] == b"\x1a\x45\xdf\xa3"
    assert gif.read_bytes().startswith(b"GIF89a")
    whole, half = read(webm), read(gif)
    assert (len(whole), len(half)) == (12, 6)
    assert max(error(a, b) for a, b in zip(whole, frames, strict=True)) < 25
    assert max(error(a, b) for a, b in zip(half, frames[::2], strict=True)) < 10


def test_gif_keeps_few_colours_exactly(tmp_path: Path) -> None:
    shades = np.random.default_rng(0).integers(0, 16, (5, 90, 110, 3), dtype=np.uint8)
    frames = (shades[..., :1] % 2 * 248 + (shades % 2) * 4).astype(np.uint8)
    path = tmp_path / "exact.gif"
    path.write_bytes(encode_gif(list(frames), 0.1))
    for decoded, frame in zip(read(path), frames, strict=True):
        assert error(decoded, frame) < 3  # colours that share a cell of 8x8x8 become one


@pytest.mark.parametrize("content", ["flat", "noise"])
def test_gif_codes_survive_growing_and_clearing(tmp_path: Path, content: str) -> None:
    levels = np.random.default_rng(1).integers(0, 4, (3, 200, 200), dtype=np.uint8) * 80
    frames = [np.repeat(level[..., None], 3, -1) for level in levels]
    if content == "flat":
        frames = [np.full_like(frame, 80) for frame in frames]
    path = tmp_path / "codes.gif"
    path.write_bytes(encode_gif(frames, 0.05))
    decoded = read(path)
    assert len(decoded) == 3
    for one, frame in zip(decoded, frames, strict=True):
        assert np.array_equal(one, frame)


def test_gif_is_the_same_each_time_and_smaller_by_scale(tmp_path: Path) -> None:
    frames = moving_square()
    write_film(tmp_path / "a", frames, fps=20.0)
    write_film(tmp_path / "b", frames, fps=20.0)
    write_film(tmp_path / "c", frames, fps=20.0, gif_scale=0.5)
    first, second, small = ((tmp_path / f"{name}.gif").read_bytes() for name in "abc")
    assert first == second
    assert len(small) < 0.7 * len(first)
    assert read(tmp_path / "c.gif")[0].shape == (24, 32, 3)


def test_odd_sizes_are_padded_for_video(tmp_path: Path) -> None:
    (webm,) = write_film(tmp_path / "odd", moving_square(3, 33, 47), fps=10.0, gif=False)
    assert read(webm)[0].shape == (34, 48, 3)


def test_nothing_is_left_or_replaced_after_a_mistake(tmp_path: Path) -> None:
    write_film(tmp_path / "film", moving_square(3), fps=10.0)
    before = (tmp_path / "film.webm").read_bytes()
    with pytest.raises(ValueError, match="no frames"):
        write_film(tmp_path / "empty", [], fps=10.0)
    with pytest.raises(ValueError, match="a frame of shape"):
        write_film(tmp_path / "film", [*moving_square(1), *moving_square(1, 20, 20)], fps=10.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.gif", "film.webm"]
    assert (tmp_path / "film.webm").read_bytes() == before


def test_opencv_is_not_heard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_film(tmp_path / "film", moving_square(2), fps=10.0)
    assert capfd.readouterr() == ("", "")


def test_panels_stand_side_by_side() -> None:
    small = np.full((64, 64, 3), 200, np.uint8)
    large = np.full((128, 256, 3), 100, np.uint8)
    picture = beside(small, large, titles=("real", "dream"), scale=3)
    assert picture.shape == (TITLE_HEIGHT + 192, 192 + GAP + 384, 3)
    assert (picture[TITLE_HEIGHT:, :192] == 200).all()
    assert (picture[TITLE_HEIGHT:, 192 + GAP :] == 100).all()
    assert picture[:TITLE_HEIGHT, :192].max() > 200
    assert beside(small[:7, :7], scale=1).shape == (8, 8, 3)
    with pytest.raises(ValueError, match="2 panels have 1 titles"):
        beside(small, large, titles=("real",))
