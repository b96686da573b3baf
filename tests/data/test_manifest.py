"""A folder of episodes with a manifest: a file that is not as it was written is refused."""

import json

import numpy as np
import pytest

from worldmodels.data.episode import Episode, episode_files, steps_of
from worldmodels.data.manifest import MANIFEST, entry_of, load_manifest, save_manifest
from worldmodels.errors import InputError

NAMES = "00_000000.npz", "00_000001.npz"


def episode(frames=6):
    """An episode of 5 steps."""
    pictures = np.zeros((frames, 64, 64, 3), np.uint8)
    numbers, flags = np.zeros(5, np.float32), np.zeros(5, bool)
    return Episode(pictures, np.zeros((5, 2), np.float32), numbers, numbers, flags, flags)


@pytest.fixture
def folder(tmp_path):
    """Two episodes of 5 steps and their manifest."""
    contents = episode().packed()
    for name in NAMES:
        (tmp_path / name).write_bytes(contents)
    save_manifest(tmp_path, {name: entry_of(contents, 5, 7) for name in reversed(NAMES)})
    return tmp_path


def refused(read, *arguments):
    with pytest.raises(InputError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_names_every_file(folder):
    assert list(load_manifest(folder)) == list(NAMES)
    assert [path.name for path in episode_files(folder)] == list(NAMES)
    assert [len(Episode.load(folder / name)) for name in NAMES] == [5, 5]
    assert steps_of(folder) == 10


def test_any_flipped_bit_is_found_when_the_file_is_read(folder):
    path = folder / NAMES[1]
    data = path.read_bytes()
    for place in range(0, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert f"{path} is not as it was written (its checksum differs): delete it and run " in (
            refused(Episode.load, path)
        )


def test_another_whole_episode_is_refused_too(folder):
    episode(frames=5).save(folder / NAMES[0])
    assert "its checksum differs" in refused(Episode.load, folder / NAMES[0])


def test_a_missing_and_a_shorter_file_are_found_when_the_folder_is_opened(folder):
    path = folder / NAMES[1]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    line = f"{path} is truncated or another file (it has {size - 1} bytes, {size} were written): "
    assert line in refused(episode_files, folder)
    path.unlink()
    assert refused(episode_files, folder) == f"{path} is missing: run `worldmodels collect` again"


def test_a_folder_of_an_older_version_has_none(folder):
    (folder / MANIFEST).unlink()
    assert load_manifest(folder) == {}
    assert len(episode_files(folder)) == 2
    assert len(Episode.load(folder / NAMES[0])) == 5
    assert steps_of(folder) == 10


WHOLE = json.dumps(entry_of(b"", 1))


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"episodes": {"a.npz": {"sha256": 3}}}'),
        f'{{"episodes": {{"a.npz": {json.dumps(entry_of(b"", -5))}}}}}',
        *(f'{{"episodes": {{"{name}": {WHOLE}}}}}' for name in ("../a.npz", r"a\n.npz", "a")),
    ],
)
def test_a_broken_manifest_is_named(folder, text):
    (folder / MANIFEST).write_text(text)
    assert str(folder / MANIFEST) in refused(episode_files, folder)


def test_a_new_manifest_is_read_again(folder):
    entries = load_manifest(folder)
    entry = {**entries[NAMES[0]], "steps": 6}
    save_manifest(folder, {**entries, NAMES[0]: entry})
    assert json.loads((folder / MANIFEST).read_text())["episodes"][NAMES[0]] == entry
    assert steps_of(folder) == 11
