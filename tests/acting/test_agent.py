"""An agent on raw observations: three autoreset modes, action repeat, and the lanes' own memory."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from worldmodels.acting.agent import Agent, load
from worldmodels.acting.policies import Candidates
from worldmodels.acting.rollout import rollout
from worldmodels.artifacts import Bundle
from worldmodels.envs.features import FeatureEnv
from worldmodels.envs.real import RealEnvs
from worldmodels.errors import InputError
from worldmodels.models.action import Actions
from worldmodels.world import EnvConfig, RawPicture, World

NEXT_STEP, SAME_STEP, DISABLED = (
    AutoresetMode.NEXT_STEP,
    AutoresetMode.SAME_STEP,
    AutoresetMode.DISABLED,
)


class Blobs(gymnasium.Env):
    """Three numbers shown as brightness, pushed about by the action; 4 to 7 frames an episode."""

    observation_space = gymnasium.spaces.Box(0, 255, (12, 16, 3), np.uint8)
    action_space = gymnasium.spaces.Box(np.float32([-1, 0, 0]), np.float32([1, 1, 1]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 3)
        self.left = int(self.np_random.integers(4, 8))
        return self.picture(), {}

    def step(self, action):
        self.x = 0.7 * self.x + action + 0.2 * self.np_random.normal(size=3)
        self.left -= 1
        return self.picture(), float(self.x.sum()), self.left == 0, False, {}

    def picture(self):
        ramp = np.linspace(-1, 1, 12 * 16).reshape(12, 16, 1)
        return np.uint8(127.5 + 127 * np.tanh(self.x + ramp))


gymnasium.register("tests/Blobs-v0", Blobs)


@pytest.fixture
def bundle(make_bundle):
    """Of Blobs, for every frame."""
    action = Actions.of_space(Blobs.action_space).to_dict()
    picture = RawPicture((12, 16, 3))
    world = World(EnvConfig(id="tests/Blobs-v0"), action, 30.0, {}, picture)
    return Bundle.load(make_bundle(world))


def repeating(bundle, times):
    """The same agent, looking at every n-th frame."""
    config = replace(bundle.world.config, action_repeat=times)
    return replace(bundle, world=replace(bundle.world, config=config))


def play(agent, mode, steps=20):
    """Per lane its episodes: (observations, actions) from opening to end, as the contract says."""
    make = [lambda: gymnasium.make("tests/Blobs-v0", disable_env_checker=True)] * 3
    envs = SyncVectorEnv(make, autoreset_mode=mode)
    observations, _ = envs.reset(seed=0)
    start, ended = np.ones(3, bool), np.zeros(3, bool)
    episodes = [[], [], []]
    agent.reset(num_envs=3)
    for _ in range(steps):
        actions = agent.act(observations, start)
        for lane in range(3):
            if start[lane]:
                episodes[lane].append([])
            episodes[lane][-1].append((observations[lane].copy(), actions[lane].copy()))
        before = ended
        observations, _, terminated, truncated, _ = envs.step(actions)
        ended = terminated | truncated
        start = before if mode == NEXT_STEP else ended
        if mode == DISABLED and ended.any():
            observations, _ = envs.reset(options={"reset_mask": ended})
    envs.close()
    return episodes


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP, DISABLED])
def test_later_episodes_act_like_a_fresh_agents_first(bundle, mode, times):
    agent = Agent(repeating(bundle, times))
    for episodes in play(agent, mode):
        assert len(episodes) > 2
        for episode in episodes:
            fresh = Agent(repeating(bundle, times))
            for observation, action in episode:
                np.testing.assert_allclose(fresh.act(observation), action, atol=1e-4)


def test_memory_matters(bundle):
    """Without it the test above would say nothing."""
    observations, actions = zip(*play(Agent(bundle), DISABLED)[0][0], strict=True)
    assert np.abs(Agent(bundle).act(observations[3]) - actions[3]).max() > 1e-3


def test_an_action_is_held(bundle):
    for episodes in play(Agent(repeating(bundle, 2)), DISABLED):
        for episode in episodes:
            actions = [action for _, action in episode]
            for t in range(1, len(actions)):
                assert np.array_equal(actions[t], actions[t - 1]) is (t % 2 == 1)


def test_one_observation_gives_one_action(bundle):
    picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    action = Agent(bundle).act(picture)
    assert action in Blobs.action_space
    assert np.array_equal(Agent(bundle).act(picture[None]), action[None])
    seen = replace(bundle.world, config=replace(bundle.world.config, screen="view"))
    on_screen = Agent(replace(bundle, world=seen))
    assert np.array_equal(on_screen.act({"view": picture, "health": 3}), action)
    on_screen.reset()
    assert np.array_equal(on_screen.act({"view": picture[None]}), action[None])


def test_drives_the_environment_as_the_evaluation_does(bundle):
    bundle, seeds = repeating(bundle, 2), [5, 6, 7]
    real = RealEnvs(bundle.world, 3, autoreset_mode=DISABLED)
    env = FeatureEnv(real, bundle.vae, bundle.mdnrnn, bundle.actions, "zh")
    parameters = bundle.parameters[None].double().numpy()
    policy = Candidates(bundle.controller, parameters, bundle.actions)
    expected, steps = rollout(env, policy, seeds)
    agent, single = Agent(bundle), gymnasium.make("tests/Blobs-v0", disable_env_checker=True)
    for lane, seed in enumerate(seeds):
        agent.reset(seed=seed)
        observation, _ = single.reset(seed=seed)
        episode_return, frames, ended = 0.0, 0, False
        while not ended:
            observation, reward, ended, _, _ = single.step(agent.act(observation))
            episode_return, frames = episode_return + reward, frames + 1
        # batches of another size round differently, which may flip a pixel's last grey level
        assert episode_return == pytest.approx(expected[lane], abs=5e-3)
        assert (frames + 1) // 2 == steps[lane]


def test_loads_a_bundle_or_the_run_that_has_it(bundle, tmp_path):
    bundle.save(tmp_path / "run" / "bundle")
    picture = np.zeros((12, 16, 3), np.uint8)
    expected = Agent(bundle).act(picture)
    for folder in (tmp_path / "run", str(tmp_path / "run" / "bundle")):
        np.testing.assert_array_equal(load(folder).act(picture), expected)


PICTURES = np.zeros((2, 12, 16, 3), np.uint8)


@pytest.mark.parametrize(
    "observations",
    [
        np.zeros((3, 12, 16, 3), np.uint8),
        PICTURES[0],
        PICTURES[..., 0],
        PICTURES.astype(np.float32),
        np.zeros((2, 24, 32, 3), np.uint8),
        PICTURES.tolist(),
        {"screen": PICTURES},
        None,
    ],
    ids=lambda observations: str(np.shape(observations)),
)
def test_wrong_pictures_are_refused(bundle, observations):
    agent = Agent(bundle)
    agent.reset(num_envs=2)
    with pytest.raises(InputError, match=r"has 2 of uint8 \(12, 16, 3\)") as caught:
        agent.act(observations)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "start",
    [
        np.ones(3, bool),
        np.ones((2, 1), bool),
        np.ones(2),
        [0, 1],
        [[True], [True, False]],
        True,
        "yes",
    ],
    ids=str,
)
def test_a_wrong_episode_start_is_refused(bundle, start):
    agent = Agent(bundle)
    agent.reset(num_envs=2)
    with pytest.raises(InputError, match="episode_start"):
        agent.act(PICTURES, start)


@pytest.mark.parametrize(("num_envs", "seed"), [(0, 0), (-1, 0), (2, [1]), (2, -1), (2, [0, -1])])
def test_a_wrong_number_of_environments_or_seed_is_refused(bundle, num_envs, seed):
    with pytest.raises(InputError, match=r"num_envs|seed"):
        Agent(bundle).reset(num_envs, seed)


def test_a_shipped_agent_refuses_another_resolution():
    agent = load("take_cover")
    with pytest.raises(InputError, match=r"\(480, 640, 3\), but .*Cover-v1 has 1 of uint8 \(240, "):
        agent.act({"screen": np.zeros((480, 640, 3), np.uint8)})
    with pytest.raises(InputError, match=r"env\.screen is 'screen', but the observation has depth"):
        agent.act({"depth": np.zeros((240, 320), np.uint8)})
