"""Films read back: webm and WebP hold the frames that were written."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageSequence

from worldmodels.errors import InputError
from worldmodels.film import GAP, TITLE_HEIGHT, beside, middle_of, write_webm, write_webp


def moving_square(number: int = 12, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A square that crosses a gradient of many colours."""
    y, x = np.mgrid[0:height, 0:width]
    ground = np.stack([x * 255 // width, y * 255 // height, (x + y) % 128], -1).astype(np.uint8)
    frames = [ground.copy() for _ in range(number)]
    for at, frame in enumerate(frames):
        frame[10:20, 4 * at : 4 * at + 10] = (255, 0, 0)
    return frames


def read_webm(path: Path) -> list[np.ndarray]:
    film, frames = cv2.VideoCapture(str(path)), []
    while (read := film.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames


def read_webp(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Frames, and the milliseconds of each."""
    with Image.open(path) as picture:
        assert picture.info["loop"] == 0
        shown = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(picture)
        ]
    return [frame for frame, _ in shown], [duration for _, duration in shown]


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def test_webm_holds_the_frames(tmp_path: Path) -> None:
    frames, path = moving_square(), tmp_path / "deep" / "film.webm"
    write_webm(path, frames, fps=20.0)
    assert [file.name for file in path.parent.iterdir()] == ["film.webm"]
    assert path.read_bytes()[:4] == b"\x1a\x45\xdf\xa3"
    found = read_webm(path)
    assert len(found) == 12
    assert max(error(a, b) for a, b in zip(found, frames, strict=True)) < 25


def test_webp_holds_the_frames_and_their_time(tmp_path: Path) -> None:
    frames = moving_square()
    write_webp(tmp_path / "film.webp", frames, fps=12.5)
    assert [file.name for file in tmp_path.iterdir()] == ["film.webp"]
    found, durations = read_webp(tmp_path / "film.webp")
    assert max(error(a, b) for a, b in zip(found, frames, strict=True)) < 10
    assert durations == [80] * 12


def test_the_same_frames_give_the_same_webp(tmp_path: Path) -> None:
    for name in "ab":
        write_webp(tmp_path / name, moving_square(), fps=20.0)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_film_that_fails_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "film.webm"
    write_webm(path, moving_square(3), fps=10.0)
    before = path.read_bytes()

    def interrupted() -> Iterator[np.ndarray]:
        yield moving_square(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_webm(path, interrupted(), fps=10.0)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


FULL_DISK = """
import resource, sys
import numpy as np
from pathlib import Path
from worldmodels.errors import InputError
from worldmodels.film import write_webm
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
frames = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
try:
    write_webm(Path(sys.argv[1]), frames, 20)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("most", [0, 20_000])
def test_a_film_on_a_full_disk_is_refused(tmp_path: Path, most: int) -> None:
    """OpenCV says nothing of a write that fails."""
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.webm"), str(most)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "a.webm cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_middle_of_a_film(tmp_path: Path) -> None:
    frames, path = moving_square(), tmp_path / "film.webm"
    write_webm(path, frames, fps=20.0)
    errors = [error(middle_of(path), frame) for frame in frames]
    assert int(np.argmin(errors)) in (5, 6)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"film\.webm is not a film"):
        middle_of(path)


def test_opencv_is_not_heard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_webm(tmp_path / "film.webm", moving_square(2), fps=10.0)
    assert capfd.readouterr() == ("", "")


def test_panels_stand_side_by_side() -> None:
    light, dark = np.full((64, 64, 3), 200, np.uint8), np.full((64, 64, 3), 100, np.uint8)
    picture = beside((light, dark), ("real", "dream"), 3)
    assert picture.shape == (TITLE_HEIGHT + 192, 192 + GAP + 192, 3)
    assert (picture[TITLE_HEIGHT:, :192] == 200).all()
    assert (picture[TITLE_HEIGHT:, 192 + GAP :] == 100).all()
    assert picture[:TITLE_HEIGHT, :192].max() > 200
