"""Bundles and checkpoints rebuild themselves; what is broken is named in one line."""

import errno
import json
import os
import sys

import gymnasium
import numpy as np
import pytest
import torch
from safetensors import safe_open

import worldmodels
from worldmodels.artifacts import (
    SHIPPED,
    Bundle,
    bundle_folder,
    check_latents,
    link,
    load_mdnrnn,
    load_vae,
    load_world,
    save_mdnrnn,
    save_vae,
)
from worldmodels.envs.take_cover import make_doom
from worldmodels.errors import InputError
from worldmodels.files import file_hash, load_tensors, save_json, save_tensors

FILES = ["bundle.json", "weights.safetensors", "starts.safetensors"]


def weights_of(bundle):
    models = {**bundle.vae.state_dict(), **bundle.mdnrnn.state_dict()}
    return {**models, "c": bundle.parameters, **bundle.starts.tensors()}


def change(file, path, value):
    """Sets one value of a JSON file, such as `vae/width`; `...` removes it."""
    data = target = json.loads(file.read_text())
    *sections, name = path.split("/")
    for section in sections:
        target = target[section]
    target[name] = value
    if value is ...:
        del target[name]
    file.write_text(json.dumps(data))


@pytest.fixture
def old_bundle(tiny_bundle):
    """A bundle of format 1, which has no checksums: its contents are checked all the same."""
    file = tiny_bundle / "bundle.json"
    data = json.loads(file.read_text())
    del data["sha256"], data["version"]
    file.write_text(json.dumps(data | {"format": 1}))
    return tiny_bundle


def assert_refused(call, *names):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in names), message


def test_a_saved_bundle_comes_back(tiny_bundle, tmp_path):
    bundle = Bundle.load(tiny_bundle)
    bundle.about["seed"] = 3
    bundle.save(tmp_path / "copy")
    again = Bundle.load(tmp_path / "copy")
    assert again.world == bundle.world
    assert again.actions == bundle.actions
    assert again.controller.config == bundle.controller.config
    assert again.dream == bundle.dream
    assert again.about == {"seed": 3}
    before, after = weights_of(bundle), weights_of(again)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "seed: 3" in (tmp_path / "copy" / "README.md").read_text()


def test_weights_are_halves_on_disk_and_singles_in_memory(tiny_bundle):
    for name in FILES[1:]:
        with safe_open(tiny_bundle / name, framework="pt") as file:
            assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    assert {tensor.dtype for tensor in weights_of(Bundle.load(tiny_bundle)).values()} == {
        torch.float32
    }


def test_saving_twice_gives_equal_bytes(tiny_bundle, tmp_path):
    bundle = Bundle.load(tiny_bundle)
    for name in ("a", "b"):
        bundle.save(tmp_path / name)
    for name in (*FILES, "README.md"):
        data = (tmp_path / "a" / name).read_bytes()
        assert data == (tmp_path / "b" / name).read_bytes()
        assert data == (tiny_bundle / name).read_bytes()  # read back and written again


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_truncated_file_is_named(tiny_bundle, name, share):
    data = (tiny_bundle / name).read_bytes()
    (tiny_bundle / name).write_bytes(data[: int(share * len(data))])
    assert_refused(lambda: Bundle.load(tiny_bundle), name)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_or_foreign_file_is_named(old_bundle, name):
    other = next(file for file in FILES[1:] if file != name)
    (old_bundle / name).write_bytes((old_bundle / other).read_bytes())
    assert_refused(lambda: Bundle.load(old_bundle), str(old_bundle / name))
    (old_bundle / name).unlink()
    assert_refused(lambda: Bundle.load(old_bundle), name, "missing")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": 99, "version": "9.1"}, "format 99, written by version 9.1"),
        ({"vae": {"latent_size": 4, "depth": 3}}, "vae"),
        ({"vae": {"latent_size": 5, "width": 2}}, "weights"),
        ({"controller": {"inputs": "z"}}, "controller"),
        ({"world": {}}, "config"),
        ({"world": None}, "world"),
        ({"dream": None}, "dream"),
        ({"about": ...}, "about"),
        ({"mdnrnn": ...}, "mdnrnn"),
    ],
)
def test_a_foreign_description_is_named(old_bundle, changes, named):
    path = old_bundle / "bundle.json"
    description = {**json.loads(path.read_text()), **changes}
    kept = {name: value for name, value in description.items() if value is not ...}
    path.write_text(json.dumps(kept))
    assert_refused(lambda: Bundle.load(old_bundle), str(old_bundle), named)


@pytest.mark.parametrize(
    "changes",
    [
        {"mu": torch.zeros(3)},
        {"mu": torch.zeros(3, 2)},
        {"first": torch.zeros(1, 1)},
        {"actions": torch.zeros(1, 1, 1)},
        {"more": torch.zeros(1)},
        {"mu": torch.zeros(0, 4, 4), "actions": torch.zeros(0, 4, 3), "first": torch.zeros(0)},
    ],
)
def test_start_windows_that_do_not_fit_are_named(old_bundle, changes):
    path = old_bundle / "starts.safetensors"
    save_tensors(path, {**load_tensors(path)[0], **changes})
    assert_refused(lambda: Bundle.load(old_bundle), "start windows")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("world/fps", "x"),
        ("world/action", {}),
        ("vae/latent_size", None),
        ("mdnrnn/hidden_size", 10**15),
        ("controller/inputs", None),
    ],
)
def test_a_value_of_a_wrong_type_is_named(old_bundle, path, value):
    """Whatever it makes the code below raise."""
    change(old_bundle / "bundle.json", path, value)
    assert_refused(lambda: Bundle.load(old_bundle), str(old_bundle / "bundle.json"))


def test_any_json_is_no_bundle(tiny_bundle):
    (tiny_bundle / "bundle.json").write_text("[1, 2]")
    assert_refused(lambda: Bundle.load(tiny_bundle), "bundle.json")


@pytest.mark.parametrize("name", ["vae/latent_size", "mdnrnn/hidden_size"])
def test_sizes_are_compared_before_memory_is_used(old_bundle, name):
    """The model would have 10^12 bytes or more."""
    change(old_bundle / "bundle.json", name, 10**9 if name.startswith("vae") else 10**6)
    assert_refused(lambda: Bundle.load(old_bundle), "weights", "do not fit")


@pytest.mark.parametrize("name", FILES[1:])
def test_weights_and_windows_are_finite(old_bundle, name):
    tensors = load_tensors(old_bundle / name)[0]
    list(tensors.values())[-1].view(-1)[-1] = np.nan
    save_tensors(old_bundle / name, tensors)
    assert_refused(lambda: Bundle.load(old_bundle), name, "is not finite")


def test_a_flipped_bit_is_noticed_wherever_it_is(tiny_bundle):
    generator = np.random.default_rng(0)
    for name in FILES:
        whole = (tiny_bundle / name).read_bytes()
        for place in generator.integers(len(whole), size=40):
            changed = bytearray(whole)
            changed[place] ^= 1 << int(generator.integers(8))
            (tiny_bundle / name).write_bytes(changed)
            if name == "bundle.json" and changed.split() == whole.split():
                continue
            assert_refused(lambda: Bundle.load(tiny_bundle), name)
        (tiny_bundle / name).write_bytes(whole)
    Bundle.load(tiny_bundle)


def test_a_number_that_was_changed_by_hand_is_noticed(tiny_bundle):
    change(tiny_bundle / "bundle.json", "dream/temperature", 0.5)
    assert_refused(lambda: Bundle.load(tiny_bundle), "bundle.json", "checksum differs")


def test_recordings_of_another_bundle_are_refused(tiny_bundle):
    (tiny_bundle / "recordings.safetensors").write_bytes(b"")
    assert_refused(lambda: Bundle.load(tiny_bundle), "recordings.safetensors", "checksum differs")


def test_an_old_bundle_is_read_and_renewed_with_equal_weights(old_bundle, tmp_path):
    before = [(old_bundle / name).read_bytes() for name in FILES[1:]]
    Bundle.load(old_bundle).save(old_bundle)
    assert [(old_bundle / name).read_bytes() for name in FILES[1:]] == before
    data = json.loads((old_bundle / "bundle.json").read_text())
    assert (data["format"], data["version"]) == (2, worldmodels.__version__)
    assert set(data["sha256"]) == set(FILES)


def test_loading_imports_nothing_and_opens_no_other_file(old_bundle, tmp_path, monkeypatch):
    """A parser of command lines would import what `class_path` names, and read named files."""
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')")
    (tmp_path / "other.yaml").write_text("latent_size: 4")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hostile", raising=False)  # another test's
    file = old_bundle / "bundle.json"
    whole = file.read_text()
    change(file, "world/config/id", "hostile:Game-v0")
    change(file, "world/config/kwargs", {"class_path": "hostile.Game"})
    assert Bundle.load(old_bundle).world.config.id == "hostile:Game-v0"
    worldmodels.load(old_bundle)
    for path in ("world/picture", "world/config", "world/action", "vae", "mdnrnn", "controller"):
        for value in ({"class_path": "hostile.Game"}, str(tmp_path / "other.yaml")):
            file.write_text(whole)
            change(file, path, value)
            assert_refused(lambda: Bundle.load(old_bundle), "bundle.json", path.split("/")[-1])
    assert "hostile" not in sys.modules


def test_a_world_is_read_as_it_was_written(tiny_bundle, tmp_run):
    world = Bundle.load(tiny_bundle).world
    save_json(tmp_run.world_file, world.to_dict())
    assert load_world(tmp_run) == world


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("picture", ...),
        ("picture", None),
        ("picture/colour", 1),
        ("picture/shape", ["a", 1, 1]),
        ("picture/shape", None),
        ("config/size", 80),
        ("config/action_repeat", None),
        ("config/action_repeat", 0),
        ("config/reward_per_frame", "x"),
        ("config/kwargs", "x"),
        ("config/mirrored_actions", None),
        ("action/kind", "any"),
        ("action/low", ["x"]),
        ("action/low", [-1.0, 0.0]),
        ("action/low", [-1.0, 9.0, 0.0]),
        ("action/clip", [3]),
        ("action/counts", [2]),
        ("action/counts", None),
        ("fps", None),
        ("fps", 0),
        ("versions", []),
    ],
)
def test_another_world_json_is_refused(tiny_bundle, tmp_run, path, value):
    save_json(tmp_run.world_file, Bundle.load(tiny_bundle).world.to_dict())
    change(tmp_run.world_file, path, value)
    name = path.split("/")[-1]
    assert_refused(lambda: load_world(tmp_run), str(tmp_run.world_file), name)


def test_no_bundle_at_all(tmp_path, no_type_checks):
    assert_refused(lambda: bundle_folder(tmp_path / "nothing"), "nothing is not a bundle")
    for name in (None, 3, "", "x" * 999, "a\0b"):
        assert_refused(lambda name=name: worldmodels.load(name), f"{name} is not a bundle")


@pytest.mark.parametrize("name", ["README.md", "weights.safetensors", "bundle.json"])
def test_a_folder_of_somebody_else_stays_as_it_is(tiny_bundle, tmp_path, name):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text('{"mine": 1}')
    bundle = Bundle.load(tiny_bundle)
    assert_refused(lambda: bundle.save(folder), f"{folder} was not made by worldmodels")
    assert [file.read_text() for file in folder.iterdir()] == ['{"mine": 1}']


def test_a_bundle_that_was_not_written_to_its_end_is_written_again(tiny_bundle, tmp_path):
    folder, bundle = tmp_path / "half", Bundle.load(tiny_bundle)
    save_json(folder / "bundle.json", {"format": None})
    (folder / "weights.safetensors").touch()
    assert_refused(lambda: Bundle.load(folder), "format")
    bundle.save(folder)
    assert Bundle.load(folder).world == bundle.world


def test_checkpoints_rebuild_their_model(tiny_bundle, tmp_run):
    bundle = Bundle.load(tiny_bundle)
    vae, mdnrnn = tmp_run.vae / "vae.safetensors", tmp_run.mdnrnn / "mdnrnn.safetensors"
    assert_refused(lambda: load_vae(tmp_run), "vae.safetensors", "run `worldmodels train-vae`")
    save_vae(tmp_run, bundle.vae)
    save_mdnrnn(tmp_run, bundle.mdnrnn, bundle.world)
    for read, model in ((load_vae(tmp_run), bundle.vae), (load_mdnrnn(tmp_run), bundle.mdnrnn)):
        assert read.config == model.config
        states = read.state_dict(), model.state_dict()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
        assert not read.training
    tensors, about = load_tensors(vae)
    about["vae"]["width"] = 5
    save_tensors(vae, tensors, about)
    assert_refused(lambda: load_vae(tmp_run), "vae.safetensors", "weights do not fit")
    vae.write_bytes(mdnrnn.read_bytes())
    assert_refused(lambda: load_vae(tmp_run), "vae.safetensors", "worldmodels train-vae")
    mdnrnn.write_bytes(mdnrnn.read_bytes()[:-1])
    assert_refused(lambda: load_mdnrnn(tmp_run), "mdnrnn.safetensors", "truncated")


@pytest.mark.parametrize("linked", [True, False])
def test_a_file_is_linked_or_copied(tmp_path, monkeypatch, linked):
    def no_links(*paths):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not linked:
        monkeypatch.setattr(os, "link", no_links)
    source, target = tmp_path / "a", tmp_path / "new" / "b"
    source.write_text("a")
    for _ in range(2):  # what was there is replaced
        link(source, target)
        assert target.read_text() == "a"
        assert target.samefile(source) == linked


def test_earlier_stages_must_have_run(tmp_run):
    assert_refused(lambda: load_world(tmp_run), "world.json", "worldmodels collect")
    assert_refused(lambda: check_latents(tmp_run), "index.json", "worldmodels encode")


def test_latents_of_another_v_are_refused(tmp_run):
    v = tmp_run.vae / "vae.safetensors"
    v.parent.mkdir(parents=True)
    v.write_bytes(b"one")
    save_json(tmp_run.latents / "index.json", {"vae": file_hash(v), "hash": "abc"})
    assert check_latents(tmp_run) == "abc"
    v.write_bytes(b"another")
    assert_refused(lambda: check_latents(tmp_run), "another V", "worldmodels encode")


@pytest.mark.parametrize("name", sorted(folder.name for folder in SHIPPED.glob("*")))
def test_shipped_bundles_are_small_and_play(name):
    size = sum(path.stat().st_size for path in (SHIPPED / name).iterdir())
    assert size <= 16e6
    agent = worldmodels.load(name)
    config = Bundle.load(name).world.config
    real = make_doom if config.id.startswith("Vizdoom") else gymnasium.make
    env = real(config.id, **config.kwargs)
    observation, over, seen = env.reset(seed=0)[0], False, []
    while not over and len(seen) < 400:
        action = agent.act(observation)
        seen.append(np.array(action).tolist())
        observation, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
    env.close()
    assert len({str(action) for action in seen}) > 1, "it does not look at what it sees"
    card = (SHIPPED / name / "README.md").read_text()
    assert all(word in card for word in ("seed", "command", "licence", "score"))
