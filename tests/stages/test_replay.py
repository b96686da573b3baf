"""Minari data sets without pictures are played again; what cannot be is refused in one line."""

import json

import gymnasium
import numpy as np
import pytest

from worldmodels.artifacts import load_world
from worldmodels.data.episode import Episode, episode_files
from worldmodels.errors import InputError
from worldmodels.stages.import_episodes import import_episodes
from worldmodels.world import EnvConfig

h5py, minari = pytest.importorskip("h5py"), pytest.importorskip("minari")
RECORDED = EnvConfig(id="recorded")
EPISODES = 2


def played(env, seed):
    """An episode of random actions."""
    from minari.data_collector import EpisodeBuffer

    rng, over = np.random.default_rng(seed), False
    rows, observations = [], [env.reset(seed=seed)[0]]
    while not over:
        action = int(rng.integers(2))
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        rows.append((action, reward, terminated, truncated))
        over = terminated or truncated
    names = "actions", "rewards", "terminations", "truncations"
    parts = {
        name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    parts["actions"] = np.array(parts["actions"])
    return EpisodeBuffer(observations=np.array(observations), seed=seed, **parts)


@pytest.fixture
def data(tmp_path):
    """The folder of a data set of CartPole's four numbers."""
    from minari.dataset.minari_storage import MinariStorage

    env, folder = gymnasium.make("CartPole-v1"), tmp_path / "data"
    folder.mkdir()
    spaces = env.observation_space, env.action_space
    storage = MinariStorage.new(folder, *spaces, data_format="hdf5")
    about = {"dataset_id": "cart/random-v0", "minari_version": minari.__version__}
    storage.update_metadata(about | {"env_spec": env.spec.to_json()})
    storage.update_episodes([played(env, seed) for seed in range(EPISODES)])
    return folder


def test_pictures_are_drawn_by_playing_again(data, tmp_run):
    import_episodes(tmp_run, str(data), RECORDED)
    world = load_world(tmp_run)
    assert (world.config.id, world.fps, world.picture.shape) == ("recorded", 50.0, (400, 600, 3))
    episodes = [Episode.load(path) for path in episode_files(tmp_run.episodes)]
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    for seed, episode in enumerate(episodes):
        assert episode.terminated[-1]
        assert len(episode.frames) == len(episode) + 1
        env.reset(seed=seed)
        dark = [(env.render() < 128).any(2).mean()]
        for action in episode.actions.argmax(1):
            env.step(int(action))
            dark.append((env.render() < 128).any(2).mean())
        seen = (episode.frames < 128).any(3).mean((1, 2))
        np.testing.assert_allclose(seen, dark, atol=0.01)  # the cart and its track
        assert (episode.frames[0] != episode.frames[-1]).any()
    env.close()


def changed_reward(episode):
    episode["rewards"][3] = 0.5


def changed_observation(episode):
    episode["observations"][4] = 0.0


def without_seed(episode):
    del episode.attrs["seed"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed_reward, r"on seed 1 its reward differs at step 4: install the version"),
        (changed_observation, r"on seed 1 its observation differs at step 4"),
        (without_seed, r"has no pictures, and no seed to play it again"),
    ],
)
def test_an_episode_that_goes_another_way_is_refused(data, tmp_run, change, says):
    with h5py.File(data / "main_data.hdf5", "r+") as file:
        change(file["episode_1"])
    with pytest.raises(InputError, match=rf"episode 1: observations .*{says}") as error:
        import_episodes(tmp_run, str(data), RECORDED)
    assert "\n" not in str(error.value)
    assert not tmp_run.episodes.exists()


def test_without_an_environment_one_must_be_named(data, tmp_run):
    about = json.loads((data / "metadata.json").read_text())
    spec = json.loads(about.pop("env_spec"))
    (data / "metadata.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"no environment is named that could draw.*env\.id"):
        import_episodes(tmp_run, str(data), RECORDED)
    about["env_spec"] = json.dumps(spec | {"id": "Nowhere-v3"})
    (data / "metadata.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"env\.id Nowhere-v3 cannot be made"):
        import_episodes(tmp_run, str(data), RECORDED)
    import_episodes(tmp_run, str(data), EnvConfig(id="CartPole-v1"))
    assert load_world(tmp_run).config.id == "CartPole-v1"
