"""The preflight on worlds as users write them: what is converted, and what is refused and how."""

import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import user_world
from gymnasium.vector import AutoresetMode

from worldmodels.envs.make import drawing_cure
from worldmodels.envs.picture import frame_of
from worldmodels.envs.preflight import preflight
from worldmodels.envs.real import RealEnvs, describe
from worldmodels.errors import InputError
from worldmodels.world import EnvConfig

ID = "user_world:user/World-v0"
FILE = Path(user_world.__file__)


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv("WORLDMODELS_TRUST_ENV", "*")


def config(picture="plain", id_=ID, kwargs=None, **fields):
    return EnvConfig(id=id_, kwargs={"picture": picture, **(kwargs or {})}, **fields)


def frames_of(env_config, steps=6):
    """The frames of an episode in which the square moves by a pixel a step."""
    env = RealEnvs(describe(env_config), 1, autoreset_mode=AutoresetMode.DISABLED)
    frames = [env.reset(seed=[3])[0][0]]
    frames += [env.step(np.array([1]))[0][0] for _ in range(steps)]
    env.close()
    return np.stack(frames)


def expected(picture, steps=6):
    return np.stack([frame_of(picture(step), EnvConfig()) for step in range(steps + 1)])


REFUSED = list(user_world.PICTURES)[list(user_world.PICTURES).index("two channels") :]
PLAIN = [name for name in user_world.PICTURES if name not in (*REFUSED, "codes")]


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_picture_is_converted(name):
    """Frames are those of the picture itself, within rounding; of a stack those of the newest."""
    found = frames_of(config(name))
    if name in ("bool", "zeros and ones"):
        wanted = expected(lambda t: np.where(user_world.scene(t) > 120, 255, 0).astype(np.uint8))
    elif name.startswith(("grey", "stack")):
        wanted = expected(user_world.grey)
    else:
        wanted = expected(user_world.scene)
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert found.std() > 20


@pytest.mark.parametrize("name", PLAIN)
def test_a_rendered_picture_is_converted_alike(name):
    rendered = config("numbers", kwargs={"rendered": name})
    np.testing.assert_array_equal(frames_of(rendered), frames_of(config(name)))
    assert describe(rendered).picture.rendered


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two channels", r"uint8 \(84, 96, 2\), which is neither grey, colour, .* in a wrapper"),
        ("four colours", r"uint8 \(84, 96, 4\), which is neither"),
        ("five planes", r"uint8 \(5, 84, 96\), which is neither"),
        ("uint16 to 65535", r"uint16 from 0 to \d+: scale it to 0 to 255 in a wrapper"),
        ("float to 1000", r"float64 from 0 to 1000: scale it to 0 to 255"),
        ("not a number", r"float32 from nan to nan: scale it"),
        ("list", "a list, but a picture .* is needed: return an array"),
        ("text", "a str, but a picture"),
        ("none", "None, but a picture"),
        ("numbers", r"render\(\) returns None, but a picture .* render_mode rgb_array, or name"),
    ],
)
def test_another_picture_is_refused(name, message):
    refused(config(name), rf"^env\.id {ID}: .*{message}")


@pytest.mark.parametrize("name", [*REFUSED[:-1]])
def test_another_rendered_picture_is_refused(name):
    refused(config("numbers", kwargs={"rendered": name}), rf"^env\.id {ID}: render\(\) returns ")


def refused(env_config, message):
    with pytest.raises(InputError, match=message) as caught:
        describe(env_config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("picture", "screen", "key"),
    [
        ("dictionary", None, "view"),
        ("dictionary", "view", "view"),
        ("nested", "camera.rgb", "camera.rgb"),
        ("two pictures", "left", "left"),
    ],
)
def test_the_picture_of_a_dictionary(picture, screen, key):
    found = config(picture, screen=screen)
    np.testing.assert_array_equal(frames_of(found), frames_of(config()))
    assert describe(found).picture.key == key


def test_rendering_may_be_chosen():
    rendered = config("dictionary", kwargs={"rendered": "grey"}, screen="render()")
    np.testing.assert_array_equal(frames_of(rendered), frames_of(config("grey")))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (config("dictionary", screen="image"), "env.screen is 'image', .* has view, speed: name"),
        (config("nested", screen="rgb"), "has camera.rgb, camera.depth, speed"),
        (config("nested", screen="camera.red"), "has camera.rgb, camera.depth, speed"),
        (config("nested", screen="camera"), r"is a dict, .* its key in env.screen \(rgb, depth\)"),
        (config("dictionary", screen="speed"), r"float32 \(1,\), which is neither"),
        (config("plain", screen="view"), "env.screen is 'view', but the observation has no keys"),
        (config("two pictures"), r"render\(\) returns None"),
        (config(crop=(0, 85, 0, 96)), r"env\.crop .* 84 rows and 96 columns"),
        (config("channels first", crop=(0, 84, 0, 97)), r"env\.crop .* 84 rows and 96 columns"),
    ],
)
def test_a_wrong_screen_or_crop(found, message):
    refused(found, message)


STEP_MISTAKES = {
    "raises": r"step 5 after reset\(seed=\d+\): ValueError: the square is gone \(.*user_world.py",
    "four values": r"step 5 .*step\(\) returns 4 values, but 5 are needed: \(observation, reward",
    "another shape": r"step 5 .*the picture is uint8 \(83, 96, 3\)",
    "another dtype": r"step 5 .*the picture is float32 \(84, 96, 3\)",
    "reward nan": r"step 5 .*the reward is nan: it must be a finite number",
    "reward inf": r"step 5 .*the reward is inf",
    "reward none": r"step 5 .*the reward is None",
    "reward text": r"step 5 .*the reward is '1'",
    "reward two": r"step 5 .*the reward is an array float64 \(2,\)",
    "ended is none": r"step 5 .*terminated is None: it must be True or False",
}


@pytest.mark.parametrize("mistake", STEP_MISTAKES)
def test_a_mistake_in_the_first_steps_is_refused(mistake):
    message = STEP_MISTAKES[mistake]
    if mistake.startswith("another"):  # it has no other record to compare with yet
        message = r"the picture is uint8 \(84, 96, 3\) first and .* later: make all pictures alike"
    refused(config(kwargs={"mistake": mistake}), message)


@pytest.mark.parametrize("mistake", STEP_MISTAKES)
def test_a_later_mistake_costs_one_episode(mistake, capsys):
    """Only the episode of seed 4: the other lane goes on as if it were alone."""
    world = describe(config())
    kwargs = {"picture": "plain", "mistake": mistake, "every": 4}
    broken = replace(world, config=replace(world.config, kwargs=kwargs))
    env = RealEnvs(broken, 2, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=[3, 4])
    for step in range(1, 13):
        frames, rewards, terminated, truncated, infos = env.step(np.array([1, 1]))
        assert truncated.tolist() == [False, step >= 5]
        assert terminated.tolist() == [step >= 12, False]
        assert rewards.tolist() == [1.0, float(step < 5)]
    line = capsys.readouterr().out
    assert infos["broken"][0] == ""
    assert f"an episode is lost: {infos['broken'][1]}\n" == line
    assert (frames[0] == expected(user_world.scene, 12)[12]).all()
    assert re.search(STEP_MISTAKES[mistake].replace(r"\d+", "4"), line)
    env.reset(seed=[3, 5])
    assert not env.step(np.array([1, 1]))[4]["broken"].any()
    env.close()


def test_an_episode_that_cannot_begin_is_lost(capsys):
    world = describe(config())
    kwargs = {"picture": "plain", "mistake": "raises in reset", "every": 4, "at": 0}
    env = RealEnvs(
        replace(world, config=replace(world.config, kwargs=kwargs)),
        2,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    env.reset(seed=[3, 4])
    _, rewards, _, truncated, _ = env.step(np.array([1, 1]))
    assert truncated.tolist() == [False, True]
    assert rewards.tolist() == [1.0, 0.0]
    assert "after reset(seed=4): RuntimeError: no such level" in capsys.readouterr().out
    env.close()


@pytest.mark.parametrize(
    ("id_", "kwargs", "message"),
    [
        ("user_world:user/NoSeed-v0", {}, r"reset\(\) takes no seed: write `def reset\(self, \*, "),
        (
            ID,
            {"mistake": "old reset"},
            r"reset\(\) returns .*, but \(observation, info\) is needed",
        ),
        (ID, {"mistake": "raises in reset", "at": 0}, "RuntimeError: no such level"),
        ("user_world:user/Plain-v0", {}, "cannot be made .*derive the class from gymnasium.Env"),
        ("user_world:user/Fails-v0", {"error": "ImportError"}, "libGL.*: install what is missing"),
        (
            "user_world:user/Fails-v0",
            {"error": "ModuleNotFoundError"},
            "'my_physics'.*: install th",
        ),
        (
            "user_world:user/Fails-v0",
            {"error": "FileNotFoundError"},
            "level1.wad.*: check the path",
        ),
        ("user_world:user/Fails-v0", {"error": "AssertionError"}, "AssertionError.*: check env.id"),
        ("user_world:user/Worl-v0", {}, "`Worl` doesn't exist.*name the module that registers it"),
        ("ALE/Pong-v5", {}, "name the package that registers it too, as in ale_py:ALE/Pong-v5"),
        (
            "no_such_module:Game-v0",
            {},
            "No module named 'no_such_module'.*begin the command in its",
        ),
        (
            "no/such/file.py:Game",
            {},
            "env.id names the file .*no/such/file.py, which does not exist",
        ),
        (f"{FILE}:NoSuch", {}, "cannot be made"),
    ],
)
def test_a_world_that_cannot_begin(id_, kwargs, message):
    refused(EnvConfig(id=id_, kwargs=kwargs), message)


def test_a_world_of_ours_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    monkeypatch.setitem(sys.modules, "vizdoom.gymnasium_wrapper", None)
    refused(
        EnvConfig(id="VizdoomTakeCover-v1"), r"cannot be made .*: `pip install -e '\.\[doom\]'`"
    )


@pytest.mark.parametrize(
    "id_",
    [
        "user_world:UserWorld",
        f"{FILE}:UserWorld",
        "copy_of_it.py:UserWorld",
        "./copy_of_it.py:user/World-v0",
    ],
)
def test_a_class_needs_no_id(id_, tmp_path, monkeypatch):
    """Of a module or of a file; relative paths begin at the current folder."""
    (tmp_path / "copy_of_it.py").write_text(FILE.read_text())
    np.testing.assert_array_equal(frames_of(config("float", id_=id_)), frames_of(config()))


def test_files_and_wrappers_must_be_trusted(monkeypatch):
    monkeypatch.delenv("WORLDMODELS_TRUST_ENV")
    for found in (config(id_=f"{FILE}:UserWorld"), config(wrappers=(f"{FILE}:Brighter",))):
        refused(found, rf"env\.(id|wrappers) is .*it would import {FILE} .*add --trust-env")


def test_the_current_folder_is_searched(tmp_path):
    (tmp_path / "its_physics.py").write_text("from user_world import UserWorld\n")
    (tmp_path / "its_game.py").write_text("from its_physics import UserWorld as Game\n")
    np.testing.assert_array_equal(frames_of(config(id_="its_game:Game")), frames_of(config()))


def test_wrappers():
    """Gymnasium's and the user's own, from the inside out."""
    wrappers = ("user_world:Brighter", "gymnasium.wrappers:GrayscaleObservation")
    found = frames_of(config(wrappers=wrappers))
    assert (found[..., 0] == found[..., 2]).all()
    assert describe(config(wrappers=wrappers)).picture.shape == (84, 96)
    brighter = frames_of(config(wrappers=(f"{FILE}:Brighter",)))
    assert brighter.max() == 254
    assert np.abs(found[..., 0].astype(int) - brighter @ [0.2125, 0.7154, 0.0721]).max() <= 2


def test_a_wrapper_may_count():
    counted = config(wrappers=("user_world:Bruises",), count_attribute="bruises")
    env = RealEnvs(describe(counted), 1, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=[3])
    counts = [env.step(np.array([1]))[4]["count"][0] for _ in range(7)]
    assert counts == [0, 0, 1, 0, 0, 1, 0]
    env.close()
    refused(config(count_attribute="bruises"), "has no `bruises`: name an attribute of the env")


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("Brighter", "env.wrappers: Brighter is not found: write module:Class"),
        ("user_world:Dimmer", "env.wrappers: user_world:Dimmer is not found"),
        (
            "user_world:broken_wrapper",
            "broken_wrapper fails .KeyError: 'level'.: it is called with",
        ),
        ("gymnasium.wrappers:ResizeObservation", "ResizeObservation fails .TypeError"),
        ("user_world:grey", "env.wrappers: user_world:grey "),
    ],
)
def test_a_wrong_wrapper(wrapper, message):
    refused(config(wrappers=(wrapper,)), message)


def test_the_table(tmp_path):
    found = preflight(config("stack of floats", kwargs={"length": 10, "reward": -0.5}))
    assert found.rows == {
        "picture": "the observation, float32 (84, 96, 4), 0 to 1",
        "V sees": "the newest of 4 grey pictures; 0 to 1 becomes 0 to 255; 64x64, averaged by area",
        "actions": "Discrete(3): C has 3 outputs",
        "reward": "-0.5 to -0.5, mean -0.5; not zero in 32 of 32 steps",
        "end": "3 episodes ended, 3 of them terminated; no registered time limit: "
        "cut at 5000 frames (env.max_episode_steps)",
        "speed": found.rows["speed"],
    }
    assert re.fullmatch(
        r"20 frames per second \(render_fps\), \d+ on this machine", found.rows["speed"]
    )
    assert found.warnings == ()
    found.save_picture(tmp_path / "first_frame.png")
    picture = cv2.imread(str(tmp_path / "first_frame.png"))[24:]
    raw = np.repeat(user_world.grey(0)[..., None], 3, 2).repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(picture[: 4 * 84, : 4 * 96], raw)
    seen = found.frame.repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(picture[:256, 4 * 96 + 8 :], seen)


@pytest.mark.parametrize(
    ("world", "warning"),
    [
        (config("codes"), "V sees brightness from 0 to 5 of 255"),
        (config(kwargs={"mistake": "dark"}), "the picture has one colour"),
        (config(kwargs={"mistake": "still"}), "the picture never changes"),
        (config(kwargs={"mistake": "own chance"}), "the same seed gives another first picture"),
    ],
)
def test_what_looks_wrong(world, warning):
    assert [w[: len(warning)] for w in preflight(world).warnings] == [warning]


def test_another_scenario_of_vizdoom():
    pytest.importorskip("vizdoom")
    found = preflight(EnvConfig(id="VizdoomBasic-v1"))
    assert found.rows["picture"].startswith("the observation's `screen`, uint8 (240, 320, 3)")
    assert "(env.kwargs.episode_timeout)" in found.rows["end"]


def test_an_atari_game():
    pytest.importorskip("ale_py")
    found = preflight(EnvConfig(id="ale_py:ALE/Boxing-v5"))
    assert found.rows["picture"].startswith("the observation, uint8 (210, 160, 3)")
    assert found.rows["actions"].startswith("Discrete(18)")


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    refused(EnvConfig(id="ale_py:ALE/Pong-v5"), r"ale_py.*pip install -e '\.\[atari\]'")


def test_mujoco_is_drawn():
    pytest.importorskip("mujoco")
    found = preflight(EnvConfig(id="InvertedPendulum-v5"))
    assert found.rows["picture"].startswith("render(), uint8 (480, 480, 3)")
    assert found.frame.std() > 5


@pytest.mark.parametrize(
    "text", ["'NoneType' object has no attribute 'glGetError'", "no EGL", "OpenGL platform library"]
)
def test_the_cure_where_mujoco_cannot_draw(monkeypatch, text):
    assert drawing_cure(AttributeError(text)) is None
    monkeypatch.setitem(sys.modules, "mujoco.gl_context", types.ModuleType("gl_context"))
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert drawing_cure(AttributeError(text)).startswith("MuJoCo cannot draw with MUJOCO_GL=osm")
    assert drawing_cure(ValueError("a single number")) is None


def test_another_range_later_costs_the_episode(capsys):
    found = config("float", kwargs={"mistake": "brighter", "at": 40, "length": 60})
    env = RealEnvs(describe(found), 1, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=[0])
    for _ in range(39):
        assert not env.step(np.array([0]))[3][0]
    assert env.step(np.array([0]))[3][0]
    assert "the picture ranges from 0 to 3.9" in capsys.readouterr().out
    env.close()


def test_a_world_without_a_time_limit_is_cut(monkeypatch):
    monkeypatch.setattr("worldmodels.envs.guard.MOST_FRAMES", 7)
    for limit, cut in ((None, 4), (10, 5)):  # steps of two frames
        found = config(kwargs={"length": 999}, max_episode_steps=limit, action_repeat=2)
        env = RealEnvs(describe(found), 1, autoreset_mode=AutoresetMode.DISABLED)
        env.reset(seed=[0])
        ended = [env.step(np.array([0]))[3][0] for _ in range(cut)]
        assert ended == [False] * (cut - 1) + [True]
        env.close()
