"""Recordings of others become episodes: every format, every mistake in one line, and back."""

import csv
import json

import cv2
import gymnasium
import numpy as np
import pytest
import toy_world
import yaml

from worldmodels.artifacts import Bundle, load_controller, load_world
from worldmodels.cli import main
from worldmodels.data.episode import Episode, episode_files
from worldmodels.data.readers import open_source
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.report.report import report
from worldmodels.run import Metrics, Run
from worldmodels.stages.collect import CollectConfig, collect
from worldmodels.stages.explore import ExploreConfig
from worldmodels.stages.export_episodes import export_episodes
from worldmodels.stages.import_episodes import import_episodes
from worldmodels.workers import WorkersConfig
from worldmodels.world import EnvConfig

RECORDED = EnvConfig(id="recorded")
STEPS, EPISODES = 6, 3


def played(seed):
    """Frames, actions and rewards of an episode of the toy world."""
    env, rng = toy_world.Light(), np.random.default_rng(seed)
    frames, actions, rewards = [env.reset(seed=seed)[0]], [], []
    for _ in range(STEPS):
        actions.append(int(rng.integers(3)))
        observation, reward, *_ = env.step(actions[-1])
        frames.append(observation)
        rewards.append(reward)
    return {
        "frames": np.stack(frames),
        "actions": np.array(actions),
        "rewards": np.array(rewards),
    }


def write_npz(folder, **changes):
    """A folder of recordings, the last of which differs by some keys; None: without the key."""
    folder.mkdir()
    for seed in range(EPISODES):
        arrays = played(seed) | {"terminated": seed == 1}
        arrays |= changes if seed == EPISODES - 1 else {}
        np.savez(folder / f"e{seed}.npz", **{k: v for k, v in arrays.items() if v is not None})
    return folder


def imported(run, source, env=RECORDED):
    import_episodes(run, str(source), env)
    return [Episode.load(path) for path in episode_files(run.episodes)]


def test_npz_frames_and_choices_arrive_as_they_are(tmp_path, tmp_run):
    episodes = imported(tmp_run, write_npz(tmp_path / "npz"))
    for seed, episode in enumerate(episodes):
        expected = played(seed)
        np.testing.assert_array_equal(episode.frames, expected["frames"])
        np.testing.assert_array_equal(episode.actions.argmax(1), expected["actions"])
        np.testing.assert_array_equal(episode.rewards, expected["rewards"])
        assert episode.terminated.tolist() == [False] * (STEPS - 1) + [seed == 1]
        assert episode.truncated.tolist() == [False] * (STEPS - 1) + [seed != 1]
    world = load_world(tmp_run)
    assert Actions.from_dict(world.action).own_space == gymnasium.spaces.Discrete(3)
    assert (world.config, world.fps) == (RECORDED, 30.0)


def test_large_pictures_are_averaged_and_floats_are_a_box(tmp_path, tmp_run):
    large = [np.kron(f, np.ones((2, 3, 1), np.uint8)) for f in played(0)["frames"][:STEPS]]
    actions = np.array([[0.5, -20.0], [1.5, 30.0]] * (STEPS // 2))
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz/a.npz", frames=large, actions=actions, fps=12.5)
    (episode,) = imported(tmp_run, tmp_path / "npz")
    np.testing.assert_allclose(
        episode.frames.astype(int), played(0)["frames"][:STEPS].astype(int), atol=1
    )
    world = load_world(tmp_run)
    space = Actions.from_dict(world.action).own_space
    assert (space.low.tolist(), space.high.tolist()) == ([0.5, -20.0], [1.5, 30.0])
    np.testing.assert_array_equal(episode.actions, actions)
    assert world.fps == 12.5
    assert not episode.rewards.any()


MISTAKES = [
    ({"frames": None}, r"e2.npz: frames is missing: it has actions, rewards, terminated"),
    ({"actions": None}, "e2.npz: actions is missing"),
    ({"frames": np.zeros((STEPS - 1, 64, 64, 3), np.uint8)}, "frames holds 5 pictures for 6"),
    ({"frames": np.zeros((STEPS, 32, 32, 3), np.uint8)}, r"frames: .*\(32, 32, 3\)"),
    ({"frames": np.zeros((STEPS, 64))}, r"frames has shape \(6, 64\)"),
    ({"frames": np.array([{}] * STEPS)}, "e2.npz: frames cannot be read"),
    ({"actions": np.zeros((0,), int)}, r"actions has shape \(0,\)"),
    ({"actions": np.array(["left"] * STEPS)}, "actions has dtype <U4"),
    ({"actions": np.linspace(0, 1, STEPS)}, "actions holds float numbers"),
    ({"actions": np.zeros((STEPS, 2), int)}, r"actions holds whole numbers of shape \(6, 2\)"),
    ({"actions": np.full(STEPS, -1)}, "whole numbers from -1 to 2 are no choices"),
    ({"rewards": np.zeros(STEPS + 1)}, r"rewards has shape \(7,\), but there are 6 actions"),
    ({"rewards": np.array([0, np.nan, 0, 0, 0, 0])}, "rewards is nan at step 1"),
    ({"rewards": np.full(STEPS, 1e300)}, "rewards does not fit float32"),
    ({"terminated": np.eye(STEPS)[2]}, "terminated is set at step 2 of 6, before the last"),
    ({"terminated": np.full(STEPS, 3)}, "terminated holds other numbers than 0 and 1"),
    ({"reward": np.zeros(STEPS), "rewards": None}, "reward is unknown: did you mean rewards?"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=lambda part: str(part)[:40])
def test_a_bad_record_is_named_and_nothing_is_written(tmp_path, tmp_run, changes, message):
    source = write_npz(tmp_path / "npz", **changes)
    with pytest.raises(InputError, match=message) as caught:
        import_episodes(tmp_run, str(source), RECORDED)
    assert "\n" not in str(caught.value)
    assert not tmp_run.world_file.exists()
    assert not list(tmp_run.folder.glob("episodes*"))


def test_sources_that_are_none_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.npz").write_bytes(b"no zip")
    (tmp_path / "broken.hdf5").write_bytes(b"no hdf5")
    for name, message in [
        ("empty", "holds neither npz files, nor videos"),
        ("text.txt", "is no HDF5 file"),
        ("broken", r"a\.npz cannot be read"),
        ("broken.hdf5", r"broken\.hdf5 cannot be read"),
    ]:
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / name)
    pytest.importorskip("minari")
    with pytest.raises(InputError, match="nowhere is not a file, a folder or one of Minari's"):
        open_source("nowhere")


def write_videos(folder, shared):
    folder.mkdir()
    tables = {}
    for seed in range(EPISODES):
        episode, name = played(seed), f"e{seed}.avi"
        video = cv2.VideoWriter(str(folder / name), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 64))
        for frame in episode["frames"][:STEPS]:
            video.write(np.ascontiguousarray(frame[:, :, ::-1]))
        video.release()
        pairs = zip(episode["actions"], episode["rewards"], strict=True)
        tables[name] = [{"action": a, "reward": r, "terminated": "false"} for a, r in pairs]
    rows = [{"video": name} | row for name, table in tables.items() for row in table]
    files = {"actions": rows} if shared else {n.removesuffix(".avi"): t for n, t in tables.items()}
    for name, table in files.items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return folder


@pytest.mark.parametrize("shared", [True, False])
def test_videos_with_their_tables(tmp_path, tmp_run, shared):
    episodes = imported(tmp_run, write_videos(tmp_path / "videos", shared))
    for seed, episode in enumerate(episodes):
        expected = played(seed)
        difference = episode.frames.astype(int) - expected["frames"][:STEPS].astype(int)
        assert np.abs(difference).mean() < 6  # the codec is lossy
        np.testing.assert_array_equal(episode.actions.argmax(1), expected["actions"])
        np.testing.assert_array_equal(episode.rewards, expected["rewards"])
    assert load_world(tmp_run).fps == pytest.approx(20.0)


def test_what_is_wrong_with_a_table_is_named(tmp_path, tmp_run):
    folder = write_videos(tmp_path / "videos", shared=True)
    table = folder / "actions.csv"
    whole = table.read_text()
    for text, message in [
        (whole.replace("action", "choice"), "actions.csv: action is missing: it has choice"),
        (whole.replace("e2.avi", "e9.avi"), "no rows for e2.avi"),
        (whole.replace("e1.avi,", "e1.avi,left", 1), r"line 8: action is 'left\d'"),
        (
            whole[: whole.rindex("e2", 0, whole.rindex("e2"))],
            "frames holds 6 pictures for 4 actions",
        ),
    ]:
        table.write_text(text)
        with pytest.raises(InputError, match=message):
            import_episodes(tmp_run, str(folder), RECORDED)
    table.unlink()
    with pytest.raises(InputError, match=r"e0\.avi has no actions: write e0\.csv or actions\.csv"):
        import_episodes(tmp_run, str(folder), RECORDED)
    (folder / "e0.avi").write_bytes(b"no video")
    (folder / "e0.csv").write_text("action\n1\n")
    (folder / "e1.avi").unlink()
    (folder / "e2.avi").unlink()
    with pytest.raises(InputError, match=r"e0\.avi cannot be decoded"):
        import_episodes(tmp_run, str(folder), RECORDED)


def write_robomimic(path, **changes):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
        for seed in range(EPISODES):
            episode = played(seed)
            demo = data.create_group(f"demo_{seed}")
            strengths = np.random.default_rng(seed).uniform(-0.9, 0.9, (STEPS, 2))
            parts = {
                "actions": strengths,
                "rewards": episode["rewards"],
                "dones": np.eye(STEPS)[-1] if seed else np.zeros(STEPS),
                "obs/camera_image": episode["frames"][:-1],
                "obs/joints": np.zeros((STEPS, 7)),
                "next_obs/camera_image": episode["frames"][1:],
            }
            for name, values in (parts | (changes if seed == 2 else {})).items():
                if values is not None:
                    demo[name] = values
    return path


def test_hdf5_in_the_layout_of_robomimic(tmp_path, tmp_run):
    episodes = imported(tmp_run, write_robomimic(tmp_path / "demo.hdf5"))
    for seed, episode in enumerate(episodes):
        np.testing.assert_array_equal(episode.frames, played(seed)["frames"])
        assert episode.terminated[-1] == (seed > 0)
        expected = np.random.default_rng(seed).uniform(-0.9, 0.9, (STEPS, 2))
        np.testing.assert_allclose(episode.actions, expected, rtol=1e-6)
    world = load_world(tmp_run)
    space = Actions.from_dict(world.action).own_space
    assert (space.low.tolist(), space.high.tolist()) == ([-1, -1], [1, 1])
    assert world.fps == 20.0


@pytest.mark.parametrize(
    ("changes", "screen", "message"),
    [
        ({"actions": None}, None, "data/demo_2/actions is missing"),
        ({"rewards": np.zeros(3)}, None, r"data/demo_2: rewards has shape \(3,\)"),
        ({"obs/camera_image": None}, None, r"demo_2/obs has no pictures \(joints\)"),
        ({"obs/wrist": np.zeros((STEPS, 32, 32, 3))}, None, "2 pictures .*name one in env.screen"),
        ({}, "front", "no env.screen 'front': it has camera_image, joints"),
    ],
)
def test_what_is_wrong_with_an_hdf5_file_is_named(tmp_path, tmp_run, changes, screen, message):
    path = write_robomimic(tmp_path / "demo.hdf5", **changes)
    with pytest.raises(InputError, match=message):
        import_episodes(tmp_run, str(path), EnvConfig(id="recorded", screen=screen))


def test_a_run_becomes_a_minari_data_set_and_comes_back(tmp_path, tmp_run, script):
    minari = pytest.importorskip("minari")
    before = imported(tmp_run, write_npz(tmp_path / "npz", frames=played(2)["frames"][:STEPS]))
    out = tmp_path / "light-v0"
    script("export_episodes", tmp_run.folder, "--out", out)
    data = minari.MinariDataset(out / "data")
    assert data.total_episodes == EPISODES
    assert data.action_space == gymnasium.spaces.Discrete(3)
    first = next(iter(data.iterate_episodes()))
    np.testing.assert_array_equal(first.observations, before[0].frames)
    np.testing.assert_array_equal(first.actions, played(0)["actions"])
    again = Run(tmp_path / "again")
    for one, other in zip(imported(again, out), before, strict=True):
        for name in ("frames", "actions", "rewards", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    with pytest.raises(InputError, match="exists already"):
        export_episodes(tmp_run, out)


def test_minari_pictures_in_dictionaries_and_boxes_without_bounds(tmp_path, tmp_run):
    minari = pytest.importorskip("minari")
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    pictures = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    seen = gymnasium.spaces.Dict(
        {"camera": gymnasium.spaces.Dict({"rgb": pictures, "depth": pictures})}
    )
    frames = played(0)["frames"]
    actions = np.linspace(-3, 5, STEPS, dtype=np.float32)[:, None]
    storage = MinariStorage.new(
        tmp_path, seen, gymnasium.spaces.Box(-np.inf, np.inf, (1,)), jpeg_encoding=False
    )
    storage.update_metadata({"dataset_id": "light-v0", "minari_version": minari.__version__})
    flags = [False] * (STEPS - 1)
    buffer = EpisodeBuffer(
        observations={"camera": {"rgb": frames, "depth": frames // 2}},
        actions=actions,
        rewards=list(range(STEPS)),
        terminations=[*flags, True],
        truncations=[*flags, False],
    )
    storage.update_episodes([buffer])
    with pytest.raises(
        InputError, match=r"2 pictures \(camera.depth, camera.rgb\): name one in env"
    ):
        import_episodes(tmp_run, str(tmp_path), RECORDED)
    (episode,) = imported(tmp_run, tmp_path, EnvConfig(id="recorded", screen="camera.rgb"))
    np.testing.assert_array_equal(episode.frames, frames)
    np.testing.assert_array_equal(episode.rewards, np.arange(STEPS))
    world = load_world(tmp_run)
    assert (world.action["low"], world.action["high"]) == ((-3.0,), (5.0,))


def test_a_live_world_adds_its_own_episodes(tmp_path, tmp_run, capsys):
    live = EnvConfig(id="toy_world:Light-v0")
    imported(tmp_run, write_npz(tmp_path / "npz"), live)
    explore = ExploreConfig(policy="held")
    config = CollectConfig(episodes=2, max_steps=4, explore=explore)
    collect(tmp_run, live, config, WorkersConfig(processes=1), 0)
    lengths = [len(Episode.load(path)) for path in episode_files(tmp_run.episodes)]
    assert lengths == [4] * 2 + [STEPS] * EPISODES
    assert load_world(tmp_run).config == live
    source = write_npz(tmp_path / "more", actions=np.full(STEPS, 5))
    with pytest.raises(InputError, match=r"actions is 5 at step 0, which Discrete\(3\)"):
        import_episodes(Run(tmp_path / "other"), str(source), live)
    with pytest.raises(InputError, match="has episodes already"):
        import_episodes(tmp_run, str(tmp_path / "more"), live)
    import_episodes(tmp_run, str(tmp_path / "npz"), live)  # the same command again
    assert capsys.readouterr().out.endswith("already exists\n")


def test_without_a_live_world_nothing_is_collected(tmp_run):
    with pytest.raises(InputError, match=r"run `worldmodels import SOURCE` first"):
        collect(tmp_run, RECORDED, CollectConfig(), WorkersConfig(processes=1), 0)


SIZES = {
    "vae": {"latent_size": 4, "width": 4},
    "train_vae": {"steps": 2, "batch_size": 8},
    "mdnrnn": {"hidden_size": 8},
    "train_mdnrnn": {"steps": 2, "batch_size": 4, "sequence_length": 4},
    "dream": {"horizon": 5, "warmup": 2},
    "evolve": {
        "generations": 2,
        "rollouts_per_candidate": 2,
        "validate_every": 1,
        "validation_episodes": 3,
        "final_episodes": 2,
    },
    "cma": {"population_size": 4},
    "evaluate": {"episodes": 3},
    "workers": {"processes": 1},
}


def test_everything_after_collect_works_and_says_that_nothing_real_was_measured(
    tmp_path, tmp_run, capsys
):
    sizes = tmp_path / "sizes.yaml"
    sizes.write_text(yaml.safe_dump(SIZES))
    source, run = write_npz(tmp_path / "npz"), ["--run", str(tmp_run.folder)]
    main(["import", str(source), "--config", "recorded", "--config", str(sizes), *run])
    main(["pipeline", *run])
    said = capsys.readouterr().out
    assert "3 imported episodes" in said
    assert said.count("nothing was measured in reality") == 2
    assert "real validation" not in said
    saved = load_controller(tmp_run)
    assert np.isnan(saved.validation_return)
    assert saved.real_steps == {"validate": 0, "evolve": 0}
    lines = Metrics.lines(tmp_run)
    assert any("held_out" in line for line in lines)
    assert not any("validation" in line for line in lines)
    assert not tmp_run.evaluation_file.exists()
    bundle = Bundle.load(tmp_run.bundle)
    assert "nothing was measured in reality" in bundle.about["measured"]
    page = report(tmp_run).read_text(encoding="utf-8")
    assert "Nothing was measured in reality" in page
    assert "Run <code>worldmodels evaluate" not in page
    with pytest.raises(SystemExit):
        main(["inspect-dream", str(tmp_run.folder)])
    assert "env.id is recorded: this needs a live environment" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 2}, "env.id is recorded: nothing new can be played"),
        ({"evolve": {"real_generations": 3}}, "env.id is recorded: nothing new can be played"),
        ({"env": {"reward": "count"}}, "env.reward is count, but env.id is recorded"),
        ({"env": {"count_attribute": "n"}}, "env.count_attribute is set, but env.id is recorded"),
    ],
)
def test_what_needs_a_live_world_is_refused(tmp_path, changes, message, capsys):
    file = tmp_path / "more.yaml"
    file.write_text(yaml.safe_dump(changes))
    flags = ["--config", "recorded", "--config", str(file), "--run", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main(["import", str(write_npz(tmp_path / "npz")), *flags])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
